"""`vidgen evaluate rollout`: long clips under prompts that change, by the checker window by window, and their drift."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vidgen.scripts.cli.conditioning import WindowOptions
from vidgen.scripts.cli.option_sets import HardwareOptions, SamplerOptions, with_option_sets
from vidgen.scripts.cli.options import JsonOption, ModelOption, PlotOption, SeedOption
from vidgen.scripts.cli.outputs import check_plot
from vidgen.scripts.cli.printing import (
    describe_memory,
    format_interval,
    peak_memory_mb,
    print_json,
    print_table,
    progress,
)


@with_option_sets
def rollouts(
    *,
    model: ModelOption = "default",
    n: Annotated[int, typer.Option(min=1, max=10**6, help="How many long clips to measure on.")] = 8,
    seconds: Annotated[float, typer.Option(min=0.1, max=86400.0, help="Seconds of each clip.")] = 30.0,
    prompts: Annotated[
        int | None,
        typer.Option(
            min=1, max=10**6, help="Prompts of each clip, one after the other. By default as many as actions fit."
        ),
    ] = None,
    windows: WindowOptions,
    sampling: SamplerOptions,
    seed: SeedOption = 0,
    plot: PlotOption = None,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Measure long clips whose prompt changes: adherence in every window, and the drift of the picture.

    Each clip is of one object of the synthetic world, which does something else from prompt to prompt: the next is
    drawn when the clip has got there, of what the object then has room for.
    Example: vidgen evaluate rollout --n 8 --seconds 30 --plot rollout.png
    """
    from vidgen.checkpoints.memory import check_bytes
    from vidgen.pipelines.evaluation.adherence import held_out_world
    from vidgen.pipelines.evaluation.rollout_scores import Director, score_rollouts, summarize_rollouts
    from vidgen.pipelines.loading import load_pipeline
    from vidgen.pipelines.rollout import WindowConfig, long_clip_maker

    if plot is not None:
        check_plot(plot)
    config = WindowConfig(**vars(windows))
    pipe = long_clip_maker(load_pipeline(model, **hardware.settings()), config, **sampling.settings())
    world = held_out_world(pipe.scheduler)
    num_frames = round(seconds * pipe.scheduler.fps)
    height, width = pipe.scheduler.height, pipe.scheduler.width
    needed = 2 * 3 * num_frames * height * width  # pieces of a clip, and the whole of it
    check_bytes(needed, f"measuring clips of {num_frames}x{height}x{width}", "lower --seconds")
    Director(world, 0, num_frames, prompts)  # before any work: its errors
    settings = {"windows": config, **sampling.settings()}
    stories: list[dict[str, Any]] = []
    with progress(model, n) as advance:
        for row in score_rollouts(pipe, world, n, scenes=prompts, num_frames=num_frames, seed=seed, **settings):
            stories.append(row)
            advance(len(stories))
    report = {
        "model": model, "n": n, "seed": seed, **sampling.used(pipe.scheduler),
        "num_frames": num_frames, "fps": pipe.scheduler.fps, "scenes_asked": len(stories[0]["prompts"]),
        "window_frames": world.config.num_frames, **vars(windows),
        **summarize_rollouts(stories), "stories": stories,
    }  # fmt: skip
    if plot is not None:
        from vidgen.scripts.plots.rollout import draw_rollout

        draw_rollout(report, plot)
    if json:
        print_json(report | {"peak_mb": peak_memory_mb()})
    else:
        show(report)


def show(report: dict[str, Any]) -> None:
    """Print the adherence under each prompt, and the drift from the first window to the last."""
    rows = []
    for scene in report["scenes"]:
        shares = [f"{scene[key]:.2f}" for key in ("colour", "shape", "motion", "all")]
        start = scene["start"] / report["fps"]
        rows.append((str(scene["scene"] + 1), f"{start:.1f} s", *shares, format_interval(scene["ci"]["all"], digits=2)))
    title = f"the last window under each prompt, {report['n']} long clips of {report['model']}"
    print_table(title, ("prompt", ">window at", ">colour", ">shape", ">motion", ">all", ">95%"), rows)
    drift = report["drift"]
    parts = [f"mean colour moved by {drift['colour']:.1f} levels, that of the ground by {drift['ground']:.1f}"]
    parts += [f"{name} times {drift[name]:.2f}" for name in ("contrast", "sharpness") if drift[name] is not None]
    print(f"from the first window to the last (medians): {', '.join(parts)}{describe_memory()}")
