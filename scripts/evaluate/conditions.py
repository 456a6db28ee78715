"""`vidgen evaluate conditions`: every condition that one model serves, with a score each."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from vidgen.scripts.cli.guidance import GuidanceScaleOption
from vidgen.scripts.cli.options import (
    DeviceOption,
    Dtype,
    JsonOption,
    ModelOption,
    SeedOption,
    find_device,
    find_dtype,
    parse_names,
)
from vidgen.scripts.cli.outputs import check_plot
from vidgen.scripts.cli.printing import (
    describe_memory,
    note,
    peak_memory_mb,
    print_json,
    print_table,
    progress,
    settings_used,
)


def conditions(
    model: ModelOption = "default",
    n: Annotated[int, typer.Option("--n", min=1, help="Clips of each condition.")] = 24,
    only: Annotated[str | None, typer.Option("--only", help="Only these, as image,inpainting.")] = None,
    strength: Annotated[float, typer.Option("--strength", help="Of video to video, in (0, 1].")] = 0.7,
    num_inference_steps: Annotated[int | None, typer.Option(min=1, help="Default: the model's.")] = None,
    guidance_scale: GuidanceScaleOption = None,
    sampler: Annotated[str | None, typer.Option(help="Default: the model's.")] = None,
    seed: SeedOption = 0,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="Draw the first clip of each into a .png, .svg or .pdf.")
    ] = None,
    device: DeviceOption = "auto",
    dtype: Annotated[Dtype, typer.Option("--dtype", help="Precision of the networks.")] = "float32",
    json: JsonOption = False,
) -> None:
    """Score a model under each condition on held-out clips: PSNR of what is given, and the checker.

    text: the prompt alone. image: with the first frame; first_last: and the last, as a still; continuation: with the
    first half; inpainting: with all but the boxes that objects move in; video_to_video: from the clip in another
    colour; reference: with a picture of its object elsewhere, the prompt saying its motion alone; no_reference: that
    prompt alone; filling, super_resolution, deblurring, colorization: restored from what is left of it.
    Example: vidgen evaluate conditions --model default --n 24
    """
    from vidgen.pipelines.evaluation.adherence import held_out_world
    from vidgen.pipelines.evaluation.condition_scores import score_condition
    from vidgen.pipelines.evaluation.conditions import choose_conditions, served_conditions
    from vidgen.pipelines.loading import load_pipeline
    from vidgen.samplers.conditioning.inpainting import check_strength

    if sheet is not None:
        check_plot(sheet)
    check_strength(strength)
    chosen = parse_names(only or "")
    names = choose_conditions(chosen)
    where = find_device(device)
    pipe = load_pipeline(model, device=where, dtype=find_dtype(dtype, where))
    if not chosen:
        served = served_conditions(pipe)
        if left_out := [name for name in names if name not in served]:
            note(f"{model} has no image_prompt to read reference images with; left out: {', '.join(left_out)}")
        names = served
    world, rows = held_out_world(pipe.scheduler), []
    if sheet is not None:
        from vidgen.scripts.plots.condition_sheet import ConditionSheet

        drawn = ConditionSheet()
    settings = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale, "sampler": sampler}
    for name in names:
        with progress(name, n) as moved:
            told = {"seed": seed, "strength": strength, "progress": moved}
            looked = {} if sheet is None else {"look": partial(drawn.add, name)}
            rows.append(score_condition(pipe, world, name, n, **told, **looked, **settings))
    if sheet is not None:
        drawn.draw(sheet, model)
    used = settings_used(pipe.scheduler, settings)
    show({"model": model, "n": n, "seed": seed, "strength": strength, **used, "rows": rows}, json)


def show(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(report | {"peak_mb": peak_memory_mb()})
        return
    columns = (
        "condition",
        ">kept dB",
        ">as coded dB",
        ">degraded dB",
        ">rest dB",
        ">colour",
        ">shape",
        ">motion",
        ">all",
        ">95%",
    )
    lines = []
    for row in report["rows"]:
        found = [describe_mean(row[key]) for key in ("kept_psnr", "ceiling_psnr", "degraded_psnr", "rest_psnr")]
        shares = [f"{row[key]:.3f}" for key in ("colour", "shape", "motion", "all")]
        low, high = row["ci"]["all"]
        lines.append((row["condition"], *found, *shares, f"{low:.2f} - {high:.2f}"))
    print_table(f"conditions of {report['model']}, {report['n']} clips each", columns, lines)
    print(
        "kept: what was given; as coded: that by the tokenizer alone; degraded: what was to be restored; rest: all else"
    )
    print(f"PSNR ± half of its 95% interval{describe_memory()}")


def describe_mean(found: dict[str, Any] | None) -> str:
    """A mean with half of its interval."""
    if found is None:
        return "-"
    if found["interval"] is None:
        return f"{found['mean']:.2f}"
    return f"{found['mean']:.2f} ± {(found['interval'][1] - found['interval'][0]) / 2:.2f}"
