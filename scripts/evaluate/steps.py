"""`vidgen evaluate steps`: adherence against the number of function evaluations, for every solver."""

from __future__ import annotations

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
    parse_numbers,
)
from vidgen.scripts.cli.outputs import check_output, check_plot
from vidgen.scripts.cli.printing import describe_memory, peak_memory_mb, print_json, print_table, progress, write_report


def steps(
    model: ModelOption = "default",
    n: Annotated[int, typer.Option("--n", min=1, help="Clips of each row.")] = 16,
    only: Annotated[str | None, typer.Option("--only", help="Only these solvers, as euler,unipc.")] = None,
    evaluations: Annotated[
        str, typer.Option("--evaluations", help="Evaluations of the denoiser that a clip may take.")
    ] = "4,8,16",
    tolerances: Annotated[str, typer.Option("--tolerances", help="Those of rk45, in place of steps.")] = "0.1,0.03",
    guidance_scale: GuidanceScaleOption = None,
    seed: SeedOption = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Clips made at once.")] = 8,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw it into a .png, .svg or .pdf.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the JSON to this file; so does --json FILE.json.")
    ] = None,
    device: DeviceOption = "auto",
    dtype: Annotated[Dtype, typer.Option("--dtype", help="Precision of the networks.")] = "float32",
    json: JsonOption = False,
) -> None:
    """Adherence of every solver by what it may cost, on the same held-out prompts and the same noise.

    With guidance an evaluation is two passes of the network. --json FILE and --plot are written anew after each row.
    Example: vidgen evaluate steps --n 96 --evaluations 4,8,16,32,64 --plot steps.png --json steps.json
    """
    from vidgen.pipelines.evaluation.adherence import held_out_prompts, held_out_world
    from vidgen.pipelines.evaluation.step_scores import cheapest, plan_efforts, score_efforts
    from vidgen.pipelines.loading import load_pipeline
    from vidgen.samplers.solvers import SAMPLERS

    if output is not None:
        check_output(output)
    if plot is not None:
        check_plot(plot)
    budgets = [int(number) for number in parse_numbers(evaluations, "--evaluations")]
    efforts = plan_efforts(
        parse_names(only or "") or list(SAMPLERS), budgets, parse_numbers(tolerances, "--tolerances")
    )
    where = find_device(device)
    pipe = load_pipeline(model, device=where, dtype=find_dtype(dtype, where))
    asked = held_out_prompts(held_out_world(pipe.scheduler), n)
    scale = pipe.scheduler.guidance_scale if guidance_scale is None else guidance_scale
    report = {"model": model, "n": n, "seed": seed, "guidance_scale": scale, "rows": []}
    settings = {"seed": seed, "batch_size": batch_size, "guidance_scale": scale}
    with progress("solvers", len(efforts)) as moved:
        for row in score_efforts(pipe, asked, efforts, **settings):
            report["rows"].append(row)
            report["cheapest"] = {key: cheapest(report["rows"])[key] for key in ("sampler", "steps", "tolerance")}
            if output is not None:
                write_report(report, output)
            if plot is not None:
                from vidgen.scripts.plots.steps import draw_steps

                draw_steps(report, plot)
            moved(len(report["rows"]))
    if json and output is None:
        print_json(report | {"peak_mb": peak_memory_mb()})
    elif not json:
        show(report)


def show(report: dict[str, Any]) -> None:
    columns = ("solver", ">steps", ">evaluations", ">colour", ">shape", ">motion", ">all", ">95%", ">s a clip")
    lines = []
    for row in report["rows"]:
        shares = [f"{row[key]:.3f}" for key in ("colour", "shape", "motion", "all")]
        low, high = row["ci"]["all"]
        asked = row["steps"] if row["tolerance"] is None else f"to {row['tolerance']:g}"
        found = (*shares, f"{low:.2f} - {high:.2f}", f"{row['seconds_per_clip']:.2f}")
        lines.append((row["sampler"], asked, f"{row['evaluations']:.0f}", *found))
    print_table(f"solvers on {report['model']}, {report['n']} clips each", columns, lines)
    found = report["cheapest"]
    asked = f"{found['steps']} steps" if found["tolerance"] is None else f"a tolerance of {found['tolerance']:g}"
    print(
        f"the fewest evaluations whose interval reaches the best share: {found['sampler']}, {asked}{describe_memory()}"
    )
