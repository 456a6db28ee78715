"""`vidgen evaluate horizon`: how far ahead does an encoder's predictor see?"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vidgen.scripts.cli.option_sets import HardwareOptions, with_option_sets
from vidgen.scripts.cli.options import JsonOption, SeedOption
from vidgen.scripts.cli.printing import (
    describe_memory,
    format_interval,
    peak_memory_mb,
    print_json,
    print_table,
    progress,
)


@with_option_sets
def horizon(
    *,
    model: Annotated[
        str,
        typer.Argument(metavar="ENCODER", help="An encoder with its predictor of features, as ssl/jepa trains one."),
    ],
    n: Annotated[int, typer.Option(min=2, max=10**6, help="How many held-out clips to measure on.")] = 500,
    train_clips: Annotated[
        int | None,
        typer.Option(min=2, max=10**6, help="Clips that the reading of places is fitted to. Default: as many."),
    ] = None,
    seed: SeedOption = 0,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Measure where an object is in the frames to come, as read from features that were predicted, in pixels off.

    The encoder sees the first half of a clip of the synthetic world. Beside it: the features of the very frames, to
    stay, to go on as fast as between the last two frames that were seen, and the mean place.
    Example: vidgen evaluate horizon runs/ssl_jepa/final --n 500
    """
    from vidgen.checkpoints.hub import find_model
    from vidgen.models.encoders.feature_predictor import FeaturePredictor
    from vidgen.representations.time.horizon import measure_horizon

    predictor = FeaturePredictor.from_pretrained(find_model(model), **hardware.settings())
    with progress(model, n + (train_clips or n)) as advance:
        rows = measure_horizon(predictor, n=n, train_clips=train_clips, seed=seed, progress=advance)
    if json:
        print_json({"model": model, "n": n, "seed": seed, "rows": rows, "peak_mb": peak_memory_mb()})
        return
    print_horizon(f"how far ahead {model} sees, pixels off, {n} clips", rows)


def print_horizon(title: str, rows: list[dict[str, Any]]) -> None:
    """Print a line for each way of telling, and a column for each step ahead."""
    frames = sorted({row["frames"] for row in rows})
    cells = []
    for source in dict.fromkeys(row["source"] for row in rows):
        own = {row["frames"]: row for row in rows if row["source"] == source}
        cells.append((source, *(f"{own[k]['error']:.2f} {format_interval(own[k]['ci'])}" for k in frames)))
    print_table(title, ("told from", *(f">{k} frames ahead" for k in frames)), cells)
    print(f"an object's place, mean over the frames of a token{describe_memory()}")
