"""`vidgen evaluate control`: how well clips follow a path under each training-free control, by the world's tracker."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.option_sets import HardwareOptions, SamplerOptions, with_option_sets
from vidgen.scripts.cli.options import JsonOption, ModelOption, SeedOption, parse_names
from vidgen.scripts.cli.outputs import check_plot
from vidgen.scripts.cli.printing import (
    describe_memory,
    format_interval,
    peak_memory_mb,
    pluralize,
    print_json,
    print_table,
    progress,
)
from vidgen.scripts.evaluate.conditions import describe_mean


@with_option_sets
def control(
    *,
    model: ModelOption = "default",
    n: Annotated[int, typer.Option(min=1, max=10**6, help="How many clips to measure on, of each control.")] = 32,
    only: Annotated[str | None, typer.Option(help="Only these controls, as none,path. Default: all.")] = None,
    sampling: SamplerOptions,
    seed: SeedOption = 0,
    sheet: Annotated[
        Path | None, typer.Option(help="Also draw the first clips of each into this .png, .svg or .pdf.")
    ] = None,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Measure how far objects are from a path that was drawn at random, of one leg or two, and that no prompt says.

    none: the prompt alone; path, animate: `vidgen sample --path`, without and with --animate; warp_noise: noise half
    of which follows a clip of the world on that path; warp_noise_whole: all of it. Edits change the colour of a
    held-out clip, whose object's path they are to keep: flow_edit, inversion: from prompt to prompt; sdedit: by
    --strength alone.
    Example: vidgen evaluate control --n 32 --only none,path
    """
    from vidgen.pipelines.evaluation.control_scores import CONTROLS, score_control
    from vidgen.pipelines.loading import load_pipeline

    if sheet is not None:
        check_plot(sheet)
    names = parse_names(only or "") or list(CONTROLS)
    if unknown := [name for name in names if name not in CONTROLS]:
        raise VidgenError(f"control {unknown[0]!r} is unknown; choose of {', '.join(CONTROLS)}")
    pipe = load_pipeline(model, **hardware.settings())
    settings = {name: value for name, value in sampling.settings().items() if value is not None}
    rows: list[dict[str, Any]] = []
    if sheet is not None:
        from vidgen.scripts.plots.condition_sheet import ControlSheet

        drawing = ControlSheet()
    for name in names:
        with progress(name, n) as advance:
            look = None if sheet is None else partial(drawing.add, name)
            rows.append(score_control(pipe, name, n, seed=seed, progress=advance, look=look, **settings))
    if sheet is not None:
        drawing.draw(sheet, model)
    report = {"model": model, "n": n, "seed": seed, **sampling.used(pipe.scheduler), "rows": rows}
    if json:
        print_json(report | {"peak_mb": peak_memory_mb()})
        return
    lines = []
    for row in rows:
        shares = [f"{row[key]:.3f}" for key in ("seen", "colour", "shape")]
        means = [describe_mean(row[key]) for key in ("distance", "motion")]
        lines.append((row["control"], *means, *shares, format_interval(row["ci"]["shape"], 2)))
    columns = ("control", ">pixels off", ">motion off", ">seen", ">colour", ">shape", ">95%")
    print_table(f"paths of {model}, {pluralize(n, 'clip')} each", columns, lines)
    print("pixels off: from the middle of the object to the path; motion off: the same from where both start")
    print(f"± half of the 95% interval{describe_memory()}")
