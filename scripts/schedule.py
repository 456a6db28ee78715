"""`vidgen schedule`: the noise levels that a model was trained at, and those that it is sampled at."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.options import JsonOption
from vidgen.scripts.cli.outputs import check_output
from vidgen.scripts.cli.printing import print_json, print_table

if TYPE_CHECKING:
    from vidgen.diffusion.paths import ProbabilityPath as NoisePath
    from vidgen.pipelines.video import VideoPipeline

app = typer.Typer(help="Noise levels of training and sampling.", no_args_is_help=True)
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
PLOTS = (".png", ".svg", ".pdf")


@app.callback()
def schedule() -> None:
    """Noise levels of training and sampling."""


@app.command()
def show(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A shipped name, a folder or a hub id.")] = "default",
    num_inference_steps: Annotated[int | None, typer.Option(min=1, help="Steps; default: the model's.")] = None,
    num_frames: Annotated[int | None, typer.Option(min=1, help="Clips of this size, where the shift grows.")] = None,
    height: Annotated[int | None, typer.Option(min=1)] = None,
    width: Annotated[int | None, typer.Option(min=1)] = None,
    plot: Annotated[Path | None, typer.Option(metavar="F.png", help="Also draw it: .png, .svg or .pdf.")] = None,
    json: JsonOption = False,
) -> None:
    """The distribution of noise levels in training, and the sampler's steps, with alpha, sigma and log SNR at each.

    Example: vidgen schedule show default --plot schedule.png
    """
    if plot is not None:
        if plot.suffix.lower() not in PLOTS:
            raise VidgenError(f"--plot {plot}: no picture is known for {plot.suffix!r}; use {', '.join(PLOTS)}")
        check_output(plot)

    from vidgen.pipelines.loading import load_pipeline

    pipe = load_pipeline(model)
    s = pipe.scheduler
    size = (num_frames or s.num_frames, height or s.height, width or s.width)
    report = {"model": model, **describe_schedule(pipe, size, num_inference_steps or s.num_inference_steps)}
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
    """Everything that `show` prints, for clips of `size` (frames, height, width)."""
    import torch

    from vidgen.diffusion.noise import TimeDistribution

    s, shape = pipe.scheduler, pipe.latent_shape(*size)
    time = pipe.time_for(shape)
    u = torch.tensor(QUANTILES, dtype=torch.float64)
    trained = isinstance(time, TimeDistribution)  # of a published model it is not said
    levels = zip(QUANTILES, time.quantile(u), strict=True) if trained else ()
    return {
        "path": s.path,
        "prediction_type": s.prediction_type,
        "parametrisation": s.prediction_type,  # its name before, for one version
        "sampler": s.sampler,
        "num_frames": size[0],
        "height": size[1],
        "width": size[2],
        "latent_frames": shape[1],
        "tokens_per_frame": pipe.tokens_of(shape),
        "time": time.to_dict(),
        "quantiles": [{"u": q, **describe_level(t, pipe.path)} for q, t in levels],
        "steps": [{"step": i, **describe_level(t, pipe.path)} for i, t in enumerate(time.steps(steps))],
    }


def describe_level(t: Any, path: NoisePath) -> dict[str, float | None]:
    """t, alpha, sigma and ln(alpha^2 / sigma^2), which is None where it is infinite."""
    alpha, sigma = path.alpha(t).item(), path.sigma(t).item()
    log_snr = 2.0 * (math.log(alpha) - math.log(sigma)) if alpha > 0 and sigma > 0 else None
    return {"t": t.item(), "alpha": alpha, "sigma": sigma, "log_snr": log_snr}


def print_schedule(report: dict[str, Any]) -> None:
    time = report["time"]
    size = f"{report['num_frames']} frames of {report['height']}x{report['width']}"
    print(f"{report['model']}: predicts {report['prediction_type']} on the {report['path']} path")
    tokens = f"{report['latent_frames']} latent frames of {report['tokens_per_frame']} tokens"
    print(f"{describe_time(time)}; for {size}, {tokens}")
    for title, first, rows in (
        ("training: shares of draws below a level", "share", report["quantiles"]),
        (f"sampling: {len(report['steps']) - 1} steps of {report['sampler']}", "step", report["steps"]),
    ):
        if not rows:
            continue
        key = "u" if first == "share" else "step"
        print_table(title, (f">{first}", ">t", ">alpha", ">sigma", ">log SNR"), [cells(row, key) for row in rows])


def describe_time(time: dict[str, Any]) -> str:
    """A time distribution, or a published scheduler, in words."""
    if "scheduler" in time:
        return f"diffusers' {time['scheduler']}; the levels of training are not said"
    shape = {"logit_normal": ("mean", "std"), "log_normal": ("mean", "std"), "mode": ("mode_scale",), "uniform": ()}
    parts = [f"{key} {time[key]:g}" for key in (*shape[time["density"]], "shift", "highest")]
    return f"{time['density']}, {', '.join(parts)}"


def cells(row: dict[str, Any], first: str) -> tuple[str, ...]:
    end = "inf" if row["sigma"] == 0 else "-inf"
    snr = end if row["log_snr"] is None else f"{row['log_snr']:.3f}"
    return f"{row[first]:g}", f"{row['t']:.4f}", f"{row['alpha']:.4f}", f"{row['sigma']:.4f}", snr


if __name__ == "__main__":
    from vidgen.scripts.main import main_of

    main_of("schedule")
