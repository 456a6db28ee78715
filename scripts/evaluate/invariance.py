"""`vidgen evaluate invariance`: how features change as clips are moved, hidden, turned, zoomed or slowed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.option_sets import HardwareOptions, with_option_sets
from vidgen.scripts.cli.options import (
    BankLayersOption,
    BatchOption,
    JsonOption,
    ModelArgument,
    NoiseLevelsOption,
    SeedOption,
    parse_names,
    parse_numbers,
)
from vidgen.scripts.cli.printing import (
    describe_memory,
    format_interval,
    peak_memory_mb,
    pluralize,
    print_json,
    print_table,
    progress,
)

if TYPE_CHECKING:
    from torch import Tensor

    from vidgen.interfaces import Encoder, Pipeline


@with_option_sets
def invariance(
    model: ModelArgument,
    *,
    clips: Annotated[
        Path | None, typer.Option(help="Clips to measure on, a folder or manifest. Default: held-out synthetic ones.")
    ] = None,
    n: Annotated[int, typer.Option(min=2, max=10**5, help="How many clips to measure on, at most.")] = 64,
    layers: BankLayersOption = None,
    noise_levels: NoiseLevelsOption = "0.1",
    only: Annotated[str | None, typer.Option(help="Only these changes, as translation,zoom. Default: all.")] = None,
    seed: SeedOption = 0,
    batch_size: BatchOption = 8,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Measure how far features of clips stay the same as these are moved, hidden, turned, zoomed or slowed.

    Features are means over places and frames, compared by cosine, less the mean over clips. Example: vidgen evaluate
    invariance default --layers dit.blocks.3
    """
    from vidgen.pipelines.loading import load_feature_encoder
    from vidgen.representations.analysis.invariance import TRANSFORMATIONS, measure_invariance
    from vidgen.representations.extractor import FeatureExtractor

    names = parse_names(only or "") or list(TRANSFORMATIONS)
    levels = parse_numbers(noise_levels, "--noise-levels")
    opened = load_feature_encoder(model, **hardware.settings())
    extractor = FeatureExtractor(opened, parse_names(layers or "") or None, levels, seed=seed)
    video = read_clips(opened, clips, n, seed)
    try:
        with progress(model, None) as advance:
            points = measure_invariance(
                lambda part: extractor(part).features, video, names, batch_size=batch_size, seed=seed, progress=advance
            )
    except ValueError as error:
        raise error if isinstance(error, VidgenError) else VidgenError(str(error)) from None
    rows = [asdict(point) for point in points]
    if json:
        print_json({"model": model, "n": len(video), "seed": seed, "rows": rows, "peak_mb": peak_memory_mb()})
        return
    show_invariance(f"features of {model}, {pluralize(len(video), 'clip')}", rows)


def read_clips(model: Pipeline | Encoder, source: Path | None, n: int, seed: int) -> Tensor:
    """Return clips (b, 3, t, h, w) of the size, length and rate that a model was trained at: files, or the world's.

    Raises VidgenError where there are fewer than two.
    """
    import torch

    from vidgen.data.datasets import VideoDataset
    from vidgen.data.manifests import find_clips
    from vidgen.representations.analysis.held_out_clips import draw_clips
    from vidgen.representations.extract import default_window

    if source is None:
        return draw_clips(model, n, seed)[0]
    window = default_window(model, None, None, None)
    data = VideoDataset(find_clips(source)[:n], short="repeat", **{**window, "size": tuple(window["size"])})
    if len(data) < 2:
        raise VidgenError(f"{source}: {pluralize(len(data), 'clip')}; invariance is measured against other clips")
    return torch.stack([data[i]["video"] for i in range(len(data))])


def show_invariance(title: str, rows: list[dict[str, Any]]) -> None:
    """Print a line for each layer, change and grade."""
    cells = []
    for row in rows:
        cosine, nearest = row["cosine"], row["nearest"]
        grade = f"{row['grade']:g} {row['unit']}"
        shares = (f"{nearest['mean']:.3f}", format_interval(nearest["interval"]))
        cells.append(
            (
                row["layer"],
                row["transformation"],
                grade,
                f"{cosine['mean']:.3f}",
                format_interval(cosine["interval"]),
                *shares,
            )
        )
    columns = ("layer", "change", ">by", ">cosine", ">95% interval", ">nearest its own", ">95% interval")
    print_table(title, columns, cells)
    print(f"two clips that have nothing in common have a cosine of about 0{describe_memory()}")
