"""`vidgen evaluate concepts`: groups of space-time tokens that recur over clips, by how much they matter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.option_sets import HardwareOptions, with_option_sets
from vidgen.scripts.cli.options import BankLayersOption, BatchOption, JsonOption, SeedOption, parse_names
from vidgen.scripts.cli.printing import (
    describe_memory,
    peak_memory_mb,
    pluralize,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from vidgen.interfaces import Encoder


@with_option_sets
def concepts(
    model: Annotated[
        str, typer.Argument(metavar="ENCODER", help="An encoder of clips, as `vidgen train ssl/NAME` makes one.")
    ] = "encoder",
    *,
    n: Annotated[int, typer.Option(min=1, max=10**4, help="How many held-out synthetic clips to look at.")] = 32,
    layers: BankLayersOption = None,
    tubelets: Annotated[int, typer.Option(min=1, max=1000, help="Groups of tokens within a clip.")] = 8,
    count: Annotated[int, typer.Option("--concepts", min=2, max=1000, help="Concepts of each layer.")] = 8,
    draws: Annotated[
        int, typer.Option(min=3, max=10**5, help="Times that random concepts are hidden; more than there are concepts.")
    ] = 128,
    seed: SeedOption = 0,
    batch_size: BatchOption = 16,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Group the tokens of layers into concepts without labels, and rank these by what hiding them changes.

    The result is the encoder's last layer, the mean over tokens; beside each concept stands how much of it lies on
    objects, which the synthetic world knows. Example: vidgen evaluate concepts encoder --layers blocks.2
    """
    from vidgen.pipelines.loading import load_feature_encoder

    encoder = load_feature_encoder(model, **hardware.settings())
    if not hasattr(encoder, "block_modules"):
        raise VidgenError(f"{model} has no blocks of tokens to hide; name an encoder, as `vidgen train ssl/NAME` makes")
    names = choose_blocks(model, encoder, layers)
    try:
        rows = measure_concepts(
            encoder, names, n, tubelets=tubelets, count=count, draws=draws, seed=seed, batch_size=batch_size
        )
    except ValueError as error:
        raise error if isinstance(error, VidgenError) else VidgenError(str(error)) from None
    if json:
        print_json({"model": model, "n": n, "draws": draws, "seed": seed, "rows": rows, "peak_mb": peak_memory_mb()})
        return
    cells = []
    for row in rows:
        on_objects = "-" if row["on_objects"] is None else f"{row['on_objects']:.3f}"
        cells.append((row["layer"], row["concept"], f"{row['importance']:+.4f}", f"{row['tokens']:.3f}", on_objects))
    columns = ("layer", ">concept", ">importance", ">of all tokens", ">on objects")
    print_table(f"concepts of {model}, {pluralize(n, 'clip')}", columns, cells)
    print(f"importance: what hiding it adds to 1 - cosine of the result{describe_memory()}")


def choose_blocks(model: str, encoder: Encoder, layers: str | None) -> list[str]:
    """Return names of blocks: those that are given, or the one in the middle. Raises VidgenError for unknown ones."""
    blocks = list(encoder.block_modules)
    names = [name.removeprefix("encoder.") for name in parse_names(layers or "")] or [blocks[(len(blocks) - 1) // 2]]
    if unknown := [name for name in names if name not in blocks]:
        raise VidgenError(f"layer {unknown[0]!r} is not there; {model} has {', '.join(blocks)}")
    return names


def measure_concepts(
    encoder: Encoder,
    layers: list[str],
    n: int,
    *,
    tubelets: int,
    count: int,
    draws: int,
    seed: int,
    batch_size: int,
) -> list[dict[str, Any]]:
    """Return a row for each concept, the most important first."""
    import torch

    from vidgen.representations.analysis.concept_discovery import discover_concepts, rank_concepts
    from vidgen.representations.analysis.held_out_clips import draw_clips
    from vidgen.representations.dense.grids import read_maps
    from vidgen.representations.dense.tracked_labels import masks_to_cells
    from vidgen.representations.extractor import FeatureExtractor

    video, labels = draw_clips(encoder, n, seed)
    extractor = FeatureExtractor(encoder, [f"encoder.{layer}" for layer in layers], pool="none")
    parts = [
        read_maps({"": extractor}, video[first : first + batch_size], range(first, min(first + batch_size, n)))
        for first in range(0, n, batch_size)
    ]
    found, on_objects = {}, {}
    for layer in layers:
        maps = [part[f"encoder.{layer}"] for part in parts]
        features = torch.cat([one.x.float() for one in maps]).numpy()
        found[layer] = discover_concepts(features, tubelets=tubelets, concepts=count, seed=seed)
        shares = masks_to_cells(labels, maps[0].grid)[..., 1:].sum(-1).numpy()
        on_objects[layer] = found[layer].share_of(shares)
    device = next(encoder.parameters()).device

    def encode(part: torch.Tensor) -> torch.Tensor:
        *_, (_, last) = encoder.iter_features(part.to(device))
        return last.flatten(2).mean(-1)

    ranked = rank_concepts(encode, encoder.block_modules, video, found, draws=draws, batch_size=batch_size, seed=seed)
    rows = []
    for one in ranked:
        share = float(on_objects[one.layer][one.concept])
        rows.append(
            {
                "layer": one.layer,
                "concept": one.concept,
                "importance": one.importance,
                "tokens": float(found[one.layer].shares()[one.concept]),
                "on_objects": None if share != share else share,
            }
        )
    return rows
