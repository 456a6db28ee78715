"""`vidgen schedule`: the noise levels that a model was trained at, and those that it is sampled at."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.bounds import FRAMES, INFERENCE_STEPS, SIDE
from vidgen.errors import VidgenError
from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.options import JsonOption, PlotOption
from vidgen.scripts.cli.outputs import check_plot
from vidgen.scripts.cli.printing import print_json, print_table

if TYPE_CHECKING:
    from torch import Tensor

    from vidgen.diffusion.paths import ProbabilityPath
    from vidgen.pipelines.video import VideoPipeline

app = typer.Typer(help="Noise levels that a model is trained and sampled at.", no_args_is_help=True)
# Of JSON in 0.1, beside today's.
FORMER_WORDS = {"sample": "x0", "epsilon": "eps", "v_prediction": "v", "flow_prediction": "flow"}
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@app.callback()
def schedule() -> None:
    """Keep `show` a verb of its own: a group with a single verb would otherwise be that verb."""


@app.command()
def show(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A shipped name, a folder or a hub id.")] = "default",
    num_inference_steps: Annotated[
        int | None, typer.Option(**INFERENCE_STEPS.limits, help="Denoising steps. Default: the model's.")
    ] = None,
    num_frames: Annotated[
        int | None,
        typer.Option(**FRAMES.limits, help="Frames of a clip; levels may depend on the size. Default: the model's."),
    ] = None,
    height: Annotated[int | None, typer.Option(**SIDE.limits, help="Height in pixels. Default: the model's.")] = None,
    width: Annotated[int | None, typer.Option(**SIDE.limits, help="Width in pixels. Default: the model's.")] = None,
    plot: PlotOption = None,
    json: JsonOption = False,
) -> None:
    """Show the noise levels of training and the steps of sampling, with alpha, sigma and log SNR at each.

    Example: vidgen schedule show default --plot schedule.png
    """
    if plot is not None:
        check_plot(plot)

    from vidgen.pipelines.loading import load_pipeline

    pipe = load_pipeline(model)
    scheduler = pipe.scheduler
    size = (num_frames or scheduler.num_frames, height or scheduler.height, width or scheduler.width)
    report = {"model": model, **describe_schedule(pipe, size, num_inference_steps or scheduler.num_inference_steps)}
    if plot is not None:
        if not report["quantiles"]:
            raise VidgenError(f"--plot draws the levels of training, and {model} says nothing of them; leave it out")
        from vidgen.scripts.plots.schedule import draw_schedule

        draw_schedule(report, plot)
    if json:
        print_json(report)
        return
    print_schedule(report)


def describe_schedule(pipe: VideoPipeline, size: tuple[int, int, int], steps: int) -> dict[str, Any]:
    """Return everything that `show` prints, for clips of `size` (frames, height, width)."""
    import torch

    from vidgen.diffusion.noise import TimeDistribution

    scheduler = pipe.scheduler
    shape = pipe.latent_shape(*size)
    time = pipe.time_for(shape)
    u = torch.tensor(QUANTILES, dtype=torch.float64)
    levels = ()
    if isinstance(time, TimeDistribution):  # published models do not say how they were trained
        levels = zip(QUANTILES, time.quantile(u), strict=True)
    return {
        "path": scheduler.path,
        "prediction_type": scheduler.prediction_type,
        "parametrisation": FORMER_WORDS[scheduler.prediction_type],  # the key and its values before
        "sampler": str(scheduler.sampler),
        "num_frames": size[0],
        "height": size[1],
        "width": size[2],
        "latent_frames": shape[1],
        "tokens_per_frame": pipe.tokens_of(shape),
        "time": time.to_dict(),
        "quantiles": [{"u": q, **describe_level(t, pipe.path)} for q, t in levels],
        "steps": [{"step": i, **describe_level(t, pipe.path)} for i, t in enumerate(time.steps(steps))],
    }


def describe_level(t: Tensor, path: ProbabilityPath) -> dict[str, float | None]:
    """Return t, alpha, sigma and ln(alpha^2 / sigma^2), which is None where it is infinite."""
    alpha = path.alpha(t).item()
    sigma = path.sigma(t).item()
    log_snr = 2.0 * (math.log(alpha) - math.log(sigma)) if alpha > 0 and sigma > 0 else None
    return {"t": t.item(), "alpha": alpha, "sigma": sigma, "log_snr": log_snr}


def print_schedule(report: dict[str, Any]) -> None:
    """Print what the schedule is, and tables of the levels of training and sampling."""
    time = report["time"]
    size = f"{report['num_frames']} frames of {report['height']}x{report['width']}"
    print(f"{report['model']}: predicts {report['prediction_type']} on the {report['path']} path")
    tokens = f"{report['latent_frames']} latent frames of {report['tokens_per_frame']} tokens"
    print(f"{describe_time(time)}; for {size}, {tokens}")
    columns = (">t", ">alpha", ">sigma", ">log SNR")
    if quantiles := report["quantiles"]:
        print_table("training: shares of draws below a level", (">share", *columns), [cells(q, "u") for q in quantiles])
    steps = report["steps"]
    title = f"sampling: {len(steps) - 1} steps of {report['sampler']}"
    print_table(title, (">step", *columns), [cells(step, "step") for step in steps])


def describe_time(time: dict[str, Any]) -> str:
    """Return a time distribution, or a published scheduler, in words."""
    if "scheduler" in time:
        return f"diffusers' {time['scheduler']}; the levels of training are not said"
    from vidgen.diffusion.noise import DENSITIES

    parts = [f"{key} {time[key]:g}" for key in (*DENSITIES[time["density"]], "shift", "highest")]
    return f"{time['density']}, {', '.join(parts)}"


def cells(row: dict[str, Any], first: str) -> tuple[str, ...]:
    """Return a level as cells of a table, after the column `first`."""
    end = "inf" if row["sigma"] == 0 else "-inf"
    snr = end if row["log_snr"] is None else f"{row['log_snr']:.3f}"
    return f"{row[first]:g}", f"{row['t']:.4f}", f"{row['alpha']:.4f}", f"{row['sigma']:.4f}", snr


if __name__ == "__main__":
    run_verb("schedule", app)
