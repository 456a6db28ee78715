"""`vidgen evaluate conditions`: every condition that one model serves, with a score each."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.scripts.cli.option_sets import HardwareOptions, SamplerOptions, with_option_sets
from vidgen.scripts.cli.options import JsonOption, ModelOption, SeedOption, parse_names
from vidgen.scripts.cli.outputs import check_plot
from vidgen.scripts.cli.printing import (
    describe_memory,
    format_interval,
    note,
    peak_memory_mb,
    pluralize,
    print_json,
    print_table,
    progress,
)

if TYPE_CHECKING:
    from vidgen.pipelines.video import VideoPipeline


@with_option_sets
def conditions(
    *,
    model: ModelOption = "default",
    n: Annotated[int, typer.Option(min=1, max=10**6, help="How many clips to measure on, of each condition.")] = 24,
    only: Annotated[
        str | None, typer.Option(help="Only these conditions, as image,inpainting. Default: all that the model serves.")
    ] = None,
    strength: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="video_to_video: noise level to start the video from, in (0, 1].")
    ] = 0.7,
    sampling: SamplerOptions,
    seed: SeedOption = 0,
    sheet: Annotated[
        Path | None, typer.Option(help="Also draw the first clip of each into this .png, .svg or .pdf.")
    ] = None,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Score a model under each condition on held-out clips: PSNR of the conditioned part, and the checker.

    text: the prompt alone. image: with the first frame; first_last: and the last, as a still; continuation: with the
    first half; inpainting: with all but the boxes that objects move in; video_to_video: from the clip in another
    colour; reference: with a picture of its object elsewhere, the prompt saying its motion alone; no_reference: that
    prompt alone; filling, super_resolution, deblurring, colorization: restored from what is left of it, with a row for
    each way where the model was trained for that: by projection, by the trained task, by both.
    Example: vidgen evaluate conditions --model default --n 24
    """
    from vidgen.pipelines.evaluation.adherence import held_out_world
    from vidgen.pipelines.evaluation.condition_scores import score_condition
    from vidgen.pipelines.evaluation.conditions import choose_conditions, list_methods, served_conditions
    from vidgen.pipelines.loading import load_pipeline
    from vidgen.samplers.conditioning.frame_conditioning import check_strength

    if sheet is not None:
        check_plot(sheet)
    check_strength(strength)
    names = choose_conditions(parse_names(only or ""))
    pipe = load_pipeline(model, **hardware.settings())
    if not only:
        names = served_conditions(pipe)
        note_left_out(model, pipe)
    world = held_out_world(pipe.scheduler)
    rows: list[dict[str, Any]] = []
    if sheet is not None:
        from vidgen.scripts.plots.condition_sheet import ConditionSheet

        drawing = ConditionSheet()
    jobs = [(each, by) for each in names for by in list_methods(pipe, each) or (None,)]
    for name, by in jobs:
        label = describe_row(name, by)
        with progress(label, n) as advance:
            settings = {"by": by, "seed": seed, "strength": strength, "progress": advance, **sampling.settings()}
            if sheet is not None:
                settings["look"] = partial(drawing.add, label)
            rows.append(score_condition(pipe, world, name, n, **settings))
    if sheet is not None:
        drawing.draw(sheet, model)
    used = sampling.used(pipe.scheduler)
    show({"model": model, "n": n, "seed": seed, "strength": strength, **used, "rows": rows}, json)


def note_left_out(model: str, pipe: VideoPipeline) -> None:
    """Say which conditions a model does not serve, and why."""
    from vidgen.pipelines.evaluation.conditions import CONDITIONS, UNNAMED, list_methods

    blind = [name for name in CONDITIONS if pipe.image_prompt is None and name in UNNAMED]
    untrained = [name for name in CONDITIONS if name not in blind and not list_methods(pipe, name)]
    if blind:
        note(f"{model} has no image_prompt to read reference images with; left out: {', '.join(blind)}")
    if untrained:
        note(f"{model} was not trained for the tasks of some conditions; left out: {', '.join(untrained)}")


def describe_row(condition: str, by: str | None) -> str:
    """Return a condition in words, with the way of a restoration."""
    return condition if by is None else f"{condition} by {by}"


def show(report: dict[str, Any], as_json: bool) -> None:
    """Print the report as JSON, or as a table with a line for each condition."""
    if as_json:
        print_json(report | {"peak_mb": peak_memory_mb()})
        return
    from vidgen.pipelines.evaluation.condition_scores import PSNRS

    errors = (">kept dB", ">as coded dB", ">degraded dB", ">rest dB", ">gain dB")
    columns = ("condition", *errors, ">colour", ">shape", ">motion", ">all", ">95%")
    lines = []
    for row in report["rows"]:
        means = [describe_mean(row[key]) for key in PSNRS]
        shares = [f"{row[key]:.3f}" for key in ("colour", "shape", "motion", "all")]
        label = describe_row(row["condition"], row["by"])
        lines.append((label, *means, *shares, format_interval(row["ci"]["all"], digits=2)))
    print_table(f"conditions of {report['model']}, {pluralize(report['n'], 'clip')} each", columns, lines)
    print("kept: the conditioned part; as coded: that by the tokenizer alone; degraded: what was restored;")
    print("rest: all else; gain: rest above degraded, clip by clip")
    print(f"PSNR ± half of its 95% interval{describe_memory()}")


def describe_mean(score: dict[str, Any] | None) -> str:
    """Return a mean with half of its interval as a cell of a table."""
    if score is None:
        return "-"
    if score["interval"] is None:
        return f"{score['mean']:.2f}"
    low, high = score["interval"]
    return f"{score['mean']:.2f} ± {(high - low) / 2:.2f}"
