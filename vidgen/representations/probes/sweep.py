"""Probe sweeps: every layer at every noise level and pool, and the best of every family beside its baselines."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from vidgen.deprecation import renamed_keywords
from vidgen.interfaces import Pipeline, Tokenizer
from vidgen.representations.bank import FeatureBank
from vidgen.representations.extract import extract_source
from vidgen.representations.extractor import default_layers, feature_key, parse_key
from vidgen.representations.probes import probe_rows
from vidgen.representations.probes.results import family, is_model, of_network

LEVELS = (0.0, 0.1, 0.3, 0.5)
FLAT = 0.02  # of accuracy, F1 or R2: a grid that differs by less is not worth the rest of it


def best_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return of every family the row that is best on validation (the first of equals), whatever its test score."""
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = family(row["layer"])
        if name not in best or row["validation"] > best[name]["validation"]:
            best[name] = row
    return list(best.values())


@renamed_keywords(taps="layers")
def sweep_source(
    model: Pipeline | Tokenizer,
    source: str | os.PathLike,
    *,
    out: str | os.PathLike | None = None,
    kind: str = "knn",
    probe: dict[str, Any] | None = None,
    layers: Sequence[str] | None = None,
    noise_levels: Sequence[float] = LEVELS,
    pools: Sequence[str] = ("mean", "temporal"),
    flat: float | None = FLAT,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Probe a labelled source of clips: the latents and every block at every noise level and pool, the same with random
    weights, with shuffled frames and of the first frame alone, and raw pixels, frame differences, a single frame and
    the majority class.

    Returns {"rows": the best of every family, "sweep": all rows, "skipped": [{"pool", "key"}], "dropped"}.

    Args:
        model: a pipeline or a tokenizer.
        source: clips with labels; see `find_clips`.
        out: keeps the banks there, one a pool, to be continued.
        kind: one of `PROBES`.
        probe: task, target_type and skip_unlabelled of `probe_rows`.
        layers: None takes the latents and every block.
        noise_levels: of the denoiser's layers.
        pools: of the features; see `FeatureExtractor`.
        flat: see `sweep_bank`.
        seed: of noise, of random weights and of probes.
        progress: called with the number of clips that are done, and of all.
        settings: num_frames, size, fps, windows, batch_size, limit and prompt of `extract_source`.
    """
    if layers is None:
        layers = default_layers(model, "all")
    sweep: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for pool in dict.fromkeys(pools):
            folder = os.path.join(scratch if out is None else out, pool)
            report = extract_source(
                model, source, folder, layers=layers, noise_levels=noise_levels, pool=pool, seed=seed, baselines=True,
                progress=progress, **settings,
            )  # fmt: skip
            rows, rest = sweep_bank(FeatureBank.load(folder), kind, flat=flat, seed=seed, **(probe or {}))
            # what does not come from a network is the same for every pool
            sweep += [row for row in rows if not sweep or of_network(row["layer"])]
            skipped += [{"pool": pool, "key": key} for key in rest]
    return {"rows": best_rows(sweep), "sweep": sweep, "skipped": skipped, "dropped": report["dropped"]}


def sweep_bank(
    bank: FeatureBank, kind: str = "knn", *, flat: float | None = FLAT, **probe: Any
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return rows of a bank (see `probe_rows`), and the keys of the model that were left out.

    First come the first, the middle and the last layer, at the lowest and the highest noise level. If their scores on
    validation differ by no more than `flat`, that is all; None goes on in any case.
    """
    keys = [key for key in bank.keys if is_model(parse_key(key)[0])]
    coarse = coarse_keys(keys)
    rest = [key for key in keys if key not in coarse]
    rows = probe_rows(bank, kind, coarse, **probe)
    scores = [row["validation"] for row in rows if not row["baseline"]]
    if not rest or (flat is not None and max(scores) - min(scores) <= flat):
        return rows, rest
    done = {key_of(row) for row in rows}
    rows += [row for row in probe_rows(bank, kind, rest, **probe) if key_of(row) not in done]
    order = {key: i for i, key in enumerate(bank.keys)}
    return sorted(rows, key=lambda row: order.get(key_of(row), len(order))), []


def coarse_keys(keys: Sequence[str]) -> list[str]:
    """Return the keys of the first, middle and last layer at the first and last noise level, and those without one."""
    levels: dict[str, list[str]] = {}
    for key in keys:
        layer, level = parse_key(key)
        if level is not None:
            levels.setdefault(layer, []).append(key)
    layers = list(levels)
    some = {layers[i] for i in (0, len(layers) // 2, -1)} if layers else set()
    ends = {end for layer in some for end in (levels[layer][0], levels[layer][-1])}
    return [key for key in keys if key in ends or parse_key(key)[1] is None]


def key_of(row: dict[str, Any]) -> str:
    """Return the key of the feature that a row is of."""
    return feature_key(row["layer"], row["noise_level"])
