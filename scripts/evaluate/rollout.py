"""`vidgen evaluate rollout`: long clips under prompts that change, by the checker window by window, and their drift."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vidgen.scripts.cli.conditioning import ContextNoiseOption, OverlapOption
from vidgen.scripts.cli.guidance import GuidanceScaleOption
from vidgen.scripts.cli.options import DeviceOption, Dtype, JsonOption, ModelOption, SeedOption, find_device, find_dtype
from vidgen.scripts.cli.outputs import check_plot
from vidgen.scripts.cli.printing import (
    describe_memory,
    peak_memory_mb,
    print_json,
    print_table,
    progress,
    settings_used,
)


def rollouts(
    model: ModelOption = "default",
    n: Annotated[int, typer.Option("--n", min=1, help="How many stories.")] = 8,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Of each.")] = 30.0,
    prompts: Annotated[int, typer.Option("--prompts", min=1, help="Of each, about one object.")] = 3,
    overlap: OverlapOption = None,
    context_noise: ContextNoiseOption = 0.0,
    num_inference_steps: Annotated[int | None, typer.Option(min=1, help="Default: the model's.")] = None,
    guidance_scale: GuidanceScaleOption = None,
    sampler: Annotated[str | None, typer.Option(help="Default: the model's.")] = None,
    seed: SeedOption = 0,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw it into a .png, .svg or .pdf.")] = None,
    device: DeviceOption = "auto",
    dtype: Annotated[Dtype, typer.Option("--dtype", help="Precision of the networks.")] = "float32",
    json: JsonOption = False,
) -> None:
    """Long clips whose prompt changes: what the checker sees in every window, and how the picture drifts.

    Each story is of one object of the synthetic world, which does something else from prompt to prompt.
    Example: vidgen evaluate rollout --n 8 --seconds 30 --prompts 3 --plot rollout.png
    """
    from vidgen.pipelines.evaluation.adherence import held_out_world
    from vidgen.pipelines.evaluation.rollout_scores import draw_scenes, score_rollouts, summarize_rollouts
    from vidgen.pipelines.loading import load_pipeline
    from vidgen.pipelines.rollout import WindowConfig

    if plot is not None:
        check_plot(plot)
    where = find_device(device)
    pipe = load_pipeline(model, device=where, dtype=find_dtype(dtype, where))
    world, fps = held_out_world(pipe.scheduler), pipe.scheduler.fps
    num_frames = round(seconds * fps)
    draw_scenes(world, 0, prompts, num_frames)  # before any work: its errors
    settings = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale, "sampler": sampler}
    stories: list[dict[str, Any]] = []
    with progress(model, n) as moved:
        windows = WindowConfig(overlap=overlap, context_noise=context_noise)
        for row in score_rollouts(
            pipe, world, n, scenes=prompts, num_frames=num_frames, seed=seed, windows=windows, **settings
        ):
            stories.append(row)
            moved(len(stories))
    used = settings_used(pipe.scheduler, settings)
    report = {
        "model": model, "n": n, "seed": seed, **used, "num_frames": num_frames, "fps": fps, "scenes_asked": prompts,
        "window_frames": world.config.num_frames, "overlap": overlap, "context_noise": context_noise,
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
    rows = []
    for scene in report["scenes"]:
        low, high = scene["ci"]["all"]
        shares = [f"{scene[key]:.2f}" for key in ("colour", "shape", "motion", "all")]
        start = scene["start"] / report["fps"]
        rows.append((str(scene["scene"] + 1), f"{start:.1f} s", *shares, f"{low:.2f} - {high:.2f}"))
    title = f"the last window under each prompt, {report['n']} stories of {report['model']}"
    print_table(title, ("prompt", ">window at", ">colour", ">shape", ">motion", ">all", ">95%"), rows)
    drift = report["drift"]
    parts = [f"mean colour moved by {drift['colour']:.1f} levels"]
    parts += [f"{name} times {drift[name]:.2f}" for name in ("contrast", "sharpness") if drift[name] is not None]
    print(f"from the first window to the last (medians): {', '.join(parts)}{describe_memory()}")
