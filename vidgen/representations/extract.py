"""From a source of clips to a bank of features: what `vidgen extract` does."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from vidgen.checkpoints.hashing import json_hash, model_hash
from vidgen.data.manifests import ClipRecord, find_clips
from vidgen.errors import VidgenError
from vidgen.representations.bank import BankWriter
from vidgen.representations.clip_windows import batches, single_windows, sliding_windows
from vidgen.representations.feature_sets import FeatureSets
from vidgen.representations.noising import Noising

Windows = Literal["head", "centre", "random", "sliding"]


def extract_source(
    model: Any,
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    layers: Sequence[str] = ("tokenizer.latents",),
    noise_levels: Sequence[float] = (0.1,),
    pool: str = "mean",
    seed: int = 0,
    prompt: str = "",
    noise: str | Noising = "random",
    ensemble: int = 1,
    num_frames: int | None = None,
    size: int | tuple[int, int] | None = None,
    fps: float | None = None,
    windows: Windows = "head",
    stride: int | None = None,
    batch_size: int = 8,
    shard_rows: int = 256,
    baselines: bool = False,
    views: bool = False,
    limit: int | None = None,
    part: tuple[int, int] = (1, 1),
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Writes the features of every clip of `source` (see `find_clips`) to the bank `out`, or continues that bank.

    layers, noise_levels, pool, seed, prompt, noise, ensemble: see `FeatureExtractor`.
    num_frames, size, fps: the window of each clip; None takes what the model was trained at, where it says so, or else
        17 frames, 64x64, and the file's own rate. windows: "head" or "centre" of the clip ("random": by `seed`), or
        "sliding": all of it, a row a window, one every `stride` frames (None: as long as a window); see `sliding_windows`.
    shard_rows: rows of a shard; a run that is killed loses fewer. Batches begin where shards do as long as it is a
        multiple of `batch_size`, so that a run continued is to the bit the run that was not stopped.
    baselines, views: add what probes print beside, and what semi-supervised ones learn from: see `FeatureSets`.
    limit: the first so many clips. part: (i, n) takes every n-th clip from the i-th on, for n runs side by side into
        banks that `join_rows` makes one of. progress(done, total) counts clips, and is called after every batch.

    Labels are the source's; a manifest's columns `split`, and `subject` or `group`, are kept, and its other columns are
    labels by their names. Returns {"bank", "rows",
    "added", "dropped": [{"path", "reason"}], "keys"}; clips that cannot be read are dropped, named and counted.
    Raises VidgenError for settings that the model cannot take, features that are not finite, a bank of other features.
    """
    setting = {"layers": list(layers), "noise_levels": list(noise_levels), "pool": pool, "seed": seed, "prompt": prompt}
    features = {"noise": noise, "ensemble": ensemble, "baselines": baselines, "views": views}
    variants = FeatureSets(model, **features, **setting)
    keys = variants.keys
    window = default_window(model, num_frames, size, fps) | {"windows": windows}
    records = take_part(find_clips(source)[:limit], part)
    about = {"source": str(Path(source).resolve()), "keys": keys, **setting, **describe_noise(noise, ensemble)}
    dropped: list[dict[str, str]] = []
    if windows == "sliding":
        window["stride"] = stride or window["num_frames"]
    elif stride is not None:
        raise VidgenError(f"a stride of {stride} is for sliding windows, not {windows!r}; leave one of the two out")
    with BankWriter(out, about | describe_model(model) | describe_window(window), shard_rows=shard_rows) as writer:
        there = len(writer.done)
        if windows == "sliding":
            total, shown = sliding_windows(records, window, window["stride"], writer.done, dropped)
        else:
            total, shown = single_windows(records, window, seed, writer.done, dropped)
        for batch in batches(shown, batch_size):
            video, times = torch.stack([one.video for one in batch]), torch.stack([one.times for one in batch])
            rows = [one.row for one in batch]
            writer.add(rows, variants(video, [row.id for row in rows], times))
            if progress is not None:
                progress(batch[-1].position + 1, total)
    rows = len(writer.done)
    if not rows:
        reasons = "; ".join(f"{drop['path']}: {drop['reason']}" for drop in dropped[:3])
        raise VidgenError(f"none of {len(records)} clips can be used ({reasons}); see `vidgen data inspect`")
    return {"bank": str(out), "rows": rows, "added": rows - there, "dropped": dropped, "keys": keys}


def take_part(records: list[ClipRecord], part: tuple[int, int]) -> list[ClipRecord]:
    """Every n-th record from the i-th on. Raises VidgenError unless 1 <= i <= n, and for a part that has none."""
    number, count = part
    if not 1 <= number <= count:
        raise VidgenError(f"part {number} of {count} is not there; parts are numbered from 1")
    found = records[number - 1 :: count]
    if not found:
        raise VidgenError(f"part {number} of {count} has no clip: there are {len(records)}")
    return found


def describe_noise(noise: str | Noising, ensemble: int) -> dict[str, Any]:
    """What a bank says of its noise where it is not one random draw, which older banks do not mention."""
    name = noise if isinstance(noise, str) else noise.name
    return ({} if name == "random" else {"noise": name}) | ({} if ensemble == 1 else {"ensemble": ensemble})


def describe_model(model: Any) -> dict[str, str]:
    return {"model": type(model).__name__, "model_hash": model_hash(model)}


def describe_window(window: dict[str, Any]) -> dict[str, Any]:
    preprocessing = window | {"fit": "crop", "range": [-1, 1]}
    return {"preprocessing": preprocessing, "preprocessing_hash": json_hash(preprocessing)}


def default_window(
    model: Any, num_frames: int | None, size: int | tuple[int, int] | None, fps: float | None
) -> dict[str, Any]:
    """num_frames, size (height, width) and fps, from the arguments or else from the model's schedule."""
    trained = getattr(model, "scheduler", None)
    if size is None:
        size = (getattr(trained, "height", 64), getattr(trained, "width", 64))
    return {
        "num_frames": getattr(trained, "num_frames", 17) if num_frames is None else num_frames,
        "size": [size, size] if isinstance(size, int) else list(size),
        "fps": getattr(trained, "fps", None) if fps is None else fps,
    }
