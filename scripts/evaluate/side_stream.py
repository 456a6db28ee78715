"""`vidgen evaluate side-stream`: a model as policy, forward, inverse and video model, where the truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidgen.bounds import INFERENCE_STEPS
from vidgen.scripts.cli.option_sets import HardwareOptions, with_option_sets
from vidgen.scripts.cli.options import BatchOption, CountOption, JsonOption, SeedOption
from vidgen.scripts.cli.outputs import check_plot
from vidgen.scripts.cli.printing import describe_memory, peak_memory_mb, pluralize, print_json, print_table, progress
from vidgen.scripts.evaluate.conditions import describe_mean

if TYPE_CHECKING:
    import numpy as np

SHEET_CLIPS = 3
SHEET_LINES = ("truth", "forward", "video", "truth redrawn", "forward redrawn")


@with_option_sets
def side_stream(
    model: Annotated[str, typer.Argument(help="A folder that task `side_stream` has made.")],
    *,
    n: CountOption = 32,
    context: Annotated[int, typer.Option(min=1, max=10**4, help="Latent frames that the policy is shown.")] = 2,
    num_inference_steps: Annotated[
        int | None, typer.Option(**INFERENCE_STEPS.limits, help="Denoising steps. Default: the model's.")
    ] = None,
    seed: SeedOption = 0,
    batch_size: BatchOption = 8,
    sheet: Annotated[Path | None, typer.Option(help="Also draw the first clips into this .png, .svg or .pdf.")] = None,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Measure actions and positions in the four modes, on held-out walks of the synthetic world.

    Actions: mean absolute error, in standard deviations of an action, beside answers without a model (0, or that the
    last action is kept). Positions: pixels from where the object is, by its actions, by chance, or standing still.
    Example: vidgen evaluate side-stream runs/side_stream/final --n 32
    """
    from vidgen.data.shapes import WalkWorld
    from vidgen.pipelines.evaluation.adherence import held_out_world
    from vidgen.pipelines.loading import load_pipeline
    from vidgen.pipelines.side_stream.scores import score_side_stream

    if sheet is not None:
        check_plot(sheet)
    pipe = load_pipeline(model, **hardware.settings())
    world = WalkWorld(held_out_world(pipe.scheduler).config)
    clips: dict[str, list[np.ndarray]] = {}
    with progress(model, n) as advance:
        report = score_side_stream(
            pipe,
            world,
            n,
            context=context,
            seed=seed,
            batch_size=batch_size,
            advance=advance,
            look=lambda name, frames: clips.setdefault(name, []).extend(frames),
            num_inference_steps=num_inference_steps,
        )
    if sheet is not None:
        draw_clips(clips, model, sheet)
    report = {"model": model, "seed": seed, **report}
    if json:
        print_json(report | {"peak_mb": peak_memory_mb()})
        return
    for kind, unit in (("actions", "standard deviations"), ("position", "pixels")):
        rows = [(name, describe_mean(row), str(row["n"])) for name, row in report[kind].items()]
        print_table(f"{kind}, {unit} off, {pluralize(n, 'clip')}", (kind, ">off", ">clips"), rows)
    print(f"± half of the 95% interval{describe_memory()}")


def draw_clips(clips: Mapping[str, list[np.ndarray]], model: str, path: Path) -> None:
    """Write a picture of the first clips: a line for each name, every second frame."""
    from vidgen.scripts.plots.neighbor_sheet import Tile, draw_sheet

    lines = [[Tile(frames=clip[::2], text=name) for clip in clips[name][:SHEET_CLIPS]] for name in SHEET_LINES]
    draw_sheet(lines, f"{model}: by the actions, and without", path)
