"""One table: the best of every family of features, chosen on validation, beside what it has to beat."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from vidgen.representations.bank import FeatureBank
from vidgen.representations.extract import RANDOM, extract_source
from vidgen.representations.extractor import list_taps
from vidgen.representations.knn import knn_rows

LEVELS = (0.0, 0.1, 0.3, 0.5)


def family(tap: str) -> str:
    """Taps of the blocks of one network are a family ("dit", "random.dit"); others are their own."""
    head, middle, _ = tap.partition(".blocks.")
    return head if middle else tap


def best_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of every family the row that is best on validation (the first of equals); test scores play no part."""
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = family(row["tap"])
        if name not in best or row["validation"] > best[name]["validation"]:
            best[name] = row
    return list(best.values())


def knn_table(
    model: Any,
    source: str | os.PathLike,
    *,
    out: str | os.PathLike | None = None,
    taps: Sequence[str] | None = None,
    noise_levels: Sequence[float] = LEVELS,
    pools: Sequence[str] = ("mean", "temporal"),
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """kNN on a labelled source: the latents and every block at every noise level and pool, the same with random
    weights, and raw pixels, frame differences, a single frame and the majority class.

    taps: None takes the latents and every block. out: keeps the banks there, one a pool, to be continued. `settings`
    (num_frames, size, fps, windows, batch_size, limit, prompt): see `extract_source`. Returns {"rows": the best of
    every family, "sweep": all rows, "dropped"}.
    """
    if taps is None:
        taps = [info.name for info in list_taps(model) if info.space in ("latent", "denoiser")]
    sweep: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for pool in pools:
            folder = os.path.join(scratch if out is None else out, pool)
            report = extract_source(
                model, source, folder, taps=taps, noise_levels=noise_levels, pool=pool, seed=seed, baselines=True,
                progress=progress, **settings,
            )  # fmt: skip
            rows = knn_rows(FeatureBank.load(folder), seed=seed)
            # what does not come from a network is the same for every pool
            sweep += [row for row in rows if not sweep or row["tap"].startswith(("tokenizer.", "dit.", RANDOM))]
    return {"rows": best_rows(sweep), "sweep": sweep, "dropped": report["dropped"]}
