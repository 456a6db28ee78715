"""`vidgen evaluate steps`: adherence against the number of function evaluations, for every solver."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vidgen.bounds import GUIDANCE_SCALE
from vidgen.scripts.cli.option_sets import HardwareOptions, with_option_sets
from vidgen.scripts.cli.options import (
    BatchOption,
    JsonOption,
    ModelOption,
    PlotOption,
    ReportOption,
    SeedOption,
    parse_names,
    parse_numbers,
)
from vidgen.scripts.cli.outputs import check_output, check_plot
from vidgen.scripts.cli.printing import (
    describe_memory,
    format_interval,
    peak_memory_mb,
    pluralize,
    print_json,
    print_table,
    progress,
    write_report,
)


@with_option_sets
def steps(
    *,
    model: ModelOption = "default",
    n: Annotated[int, typer.Option(min=1, max=10**6, help="How many clips to measure on, of each row.")] = 16,
    only: Annotated[str | None, typer.Option(help="Only these solvers, as euler,unipc. Default: all.")] = None,
    evaluations: Annotated[
        str, typer.Option(help="How many evaluations of the denoiser a clip may take; several make a row each.")
    ] = "4,8,16",
    tolerances: Annotated[
        str, typer.Option(help="Tolerances of rk45, which chooses its steps by itself.")
    ] = "0.1,0.03",
    guidance_scale: Annotated[
        float | None,
        typer.Option(
            **GUIDANCE_SCALE.limits,
            help="How strictly to follow the prompt; 1 is without guidance. Default: the model's.",
        ),
    ] = None,
    seed: SeedOption = 0,
    batch_size: BatchOption = 8,
    plot: PlotOption = None,
    output: ReportOption = None,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Measure adherence by solver and number of function evaluations, on the same held-out prompts and noise.

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
    pipe = load_pipeline(model, **hardware.settings())
    scenes = held_out_prompts(held_out_world(pipe.scheduler), n)
    scale = pipe.scheduler.guidance_scale if guidance_scale is None else guidance_scale
    report = {"model": model, "n": n, "seed": seed, "guidance_scale": scale, "rows": []}
    settings = {"seed": seed, "batch_size": batch_size, "guidance_scale": scale}
    with progress("solvers", len(efforts)) as advance:
        for row in score_efforts(pipe, scenes, efforts, **settings):
            report["rows"].append(row)
            report["cheapest"] = {key: cheapest(report["rows"])[key] for key in ("sampler", "steps", "tolerance")}
            if output is not None:
                write_report(report, output)
            if plot is not None:
                from vidgen.scripts.plots.steps import draw_steps

                draw_steps(report, plot)
            advance(len(report["rows"]))
    if json and output is None:
        print_json(report | {"peak_mb": peak_memory_mb()})
    elif not json:
        show(report)


def show(report: dict[str, Any]) -> None:
    """Print a line for each solver and number of steps, and the cheapest that reaches the best share."""
    columns = ("solver", ">steps", ">evaluations", ">colour", ">shape", ">motion", ">all", ">95%", ">s a clip")
    lines = []
    for row in report["rows"]:
        shares = [f"{row[key]:.3f}" for key in ("colour", "shape", "motion", "all")]
        effort = row["steps"] if row["tolerance"] is None else f"to {row['tolerance']:g}"
        scores = (*shares, format_interval(row["ci"]["all"], digits=2), f"{row['seconds_per_clip']:.2f}")
        lines.append((row["sampler"], effort, f"{row['evaluations']:.0f}", *scores))
    print_table(f"solvers on {report['model']}, {pluralize(report['n'], 'clip')} each", columns, lines)
    best = report["cheapest"]
    effort = f"{best['steps']} steps" if best["tolerance"] is None else f"a tolerance of {best['tolerance']:g}"
    title = "the fewest evaluations whose interval reaches the best share"
    print(f"{title}: {best['sampler']}, {effort}{describe_memory()}")
