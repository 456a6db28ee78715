"""`vidgen evaluate surprise`: does a model lose more on motion that cannot be?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.option_sets import HardwareOptions, with_option_sets
from vidgen.scripts.cli.options import (
    JsonOption,
    ModelLengthOption,
    ModelOption,
    SeedOption,
    parse_names,
    parse_numbers,
)
from vidgen.scripts.cli.printing import (
    describe_memory,
    format_interval,
    format_level,
    peak_memory_mb,
    print_json,
    print_table,
    progress,
)

if TYPE_CHECKING:
    from vidgen.models.encoders.feature_predictor import FeaturePredictor
    from vidgen.models.encoders.video_vit import VideoViT
    from vidgen.pipelines.scheduler_config import SchedulerConfig
    from vidgen.pipelines.video import VideoPipeline


@with_option_sets
def surprise(
    *,
    model: ModelOption = "default",
    n: Annotated[
        int, typer.Option(min=1, max=10**6, help="How many quartets of clips to measure on, of each violation.")
    ] = 50,
    violations: Annotated[
        str, typer.Option(help="Violations to test, as vanishes,teleports; all: every one, and a control without any.")
    ] = "all",
    noise_levels: Annotated[
        str | None,
        typer.Option("--noise-levels", help="Noise levels of a denoiser's loss, in [0, 1]. Default: 0.1,0.3,0.5,0.7."),
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(min=1, max=10**6, help="Draws of noise that a denoiser's loss is the mean of. Default: 4."),
    ] = None,
    in_view: Annotated[
        bool, typer.Option("--in-view", help="Let it happen in the open, rather than behind a screen that hides it.")
    ] = False,
    num_frames: ModelLengthOption = None,
    baselines: Annotated[bool, typer.Option(help="Also measure random weights and frame differences.")] = True,
    seed: SeedOption = 0,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Measure how often a model's loss is higher on impossible motion than on possible, 0.5 being chance.

    Things vanish, teleport, change colour or shape, or pass through a block; the possible clips beside them show the
    same in every frame, and get the same noise. The loss is the denoiser's, or of an encoder without labels that of
    its predictor of features (as ssl/jepa trains one). Example: vidgen evaluate surprise --model default --n 50
    """
    from vidgen.data.shapes import ShapeWorldConfig
    from vidgen.data.shapes.scenes import VIOLATIONS
    from vidgen.models.encoders.feature_predictor import FeaturePredictor
    from vidgen.representations.time.surprise import Noise, measure_surprise

    names = list(VIOLATIONS) if violations.strip() == "all" else parse_names(violations)
    settings: dict[str, Any] = {"draws": draws}
    if noise_levels is not None:
        settings["levels"] = tuple(parse_numbers(noise_levels, "--noise-levels"))
    noise = Noise(seed=seed, **{name: value for name, value in settings.items() if value is not None})
    scored, clips = open_scored(model, hardware.settings())
    if isinstance(scored, FeaturePredictor) and (draws, noise_levels) != (None, None):
        raise VidgenError(f"{model} predicts features, and its loss has no noise; leave --noise-levels and --draws out")
    size = {"height": clips.height, "width": clips.width, "fps": round(clips.fps)}
    size["num_frames"] = num_frames or clips.num_frames
    try:
        config = ShapeWorldConfig(**size, seed=seed, split="held_out")
        with progress(model, n * len(names)) as advance:
            rows = measure_surprise(
                scored, names, n, config=config, noise=noise, in_view=in_view, baselines=baselines, progress=advance
            )
    except ValueError as error:
        if isinstance(error, VidgenError):
            raise
        raise VidgenError(f"no such clips can be made for {model}: {error}") from None
    if json:
        report = {"model": model, "n": n, "draws": noise.draws, "in_view": in_view, "seed": seed}
        print_json({**report, "rows": rows, "peak_mb": peak_memory_mb()})
        return
    print_surprise(f"surprise of {model}, {n} quartets a violation", rows)


def open_scored(
    model: str, settings: dict[str, Any]
) -> tuple[FeaturePredictor | VideoPipeline, VideoViT | SchedulerConfig]:
    """Return a model with a loss to measure, and what says at which size and length it takes clips."""
    from vidgen.checkpoints.hub import find_model
    from vidgen.models.encoders.feature_predictor import FeaturePredictor, predicts_features
    from vidgen.pipelines.loading import load_pipeline

    if predicts_features(folder := find_model(model)):
        predictor = FeaturePredictor.from_pretrained(folder, **settings)
        return predictor, predictor.encoder
    pipe = load_pipeline(model, **settings)
    return pipe, pipe.scheduler


def print_surprise(title: str, rows: list[dict[str, Any]]) -> None:
    """Print a line for each scorer and violation."""
    cells = []
    for row in rows:
        scores = (
            f"{row['accuracy']:.3f}",
            format_interval(row["ci"]),
            f"{row['auc']:.3f}",
            f"{100 * row['excess']:+.2f}%",
            row["ties"],
        )
        cells.append(
            (
                row["scorer"],
                format_level(row["noise_level"]),
                row["violation"],
                *scores,
                "baseline" if row["baseline"] else "",
            )
        )
    columns = ("scorer", ">noise", "violation", ">accuracy", ">95% interval", ">AUC", ">more loss", ">ties", "")
    print_table(title, columns, cells)
    print(f"0.5 is chance{describe_memory()}")
