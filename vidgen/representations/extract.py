"""From a source of clips to a bank of features: what `vidgen extract` does."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch

from vidgen.checkpoints.hashing import json_hash, model_hash
from vidgen.data.manifests import ClipRecord, find_clips
from vidgen.errors import VidgenError
from vidgen.interfaces import ClipFormat, Encoder, Pipeline
from vidgen.representations.bank import BankWriter
from vidgen.representations.bank_sources import SourceLog, drop_stale_rows, sort_rows
from vidgen.representations.clip_windows import batches, single_windows, sliding_windows
from vidgen.representations.extraction_memory import check_extraction
from vidgen.representations.feature_sets import FeatureSets
from vidgen.representations.model_layers import default_layers, renamed_layers
from vidgen.representations.noising import Noising

Windows = Literal["head", "centre", "random", "sliding"]


def extract_source(
    model: Pipeline | Encoder,
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    layers: Sequence[str] | None = None,
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
    allow_damaged: bool = False,
    progress: Callable[[int, int], None] | None = None,
    taps: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Write the features of every clip of `source` (see `find_clips`) to the bank `out`, or continue that bank.

    Rows of clips whose file, part or labels have changed since are made anew.

    Labels are the source's; a manifest's columns `split`, and `subject` or `group`, are kept, and its other columns are
    labels by their names.

    Args:
        model, layers, noise_levels, pool, seed, prompt, noise, ensemble: see `FeatureExtractor`.
        num_frames, size, fps: the window of each clip; None takes what the model was trained at, where it says so, or
            else 17 frames, 64x64, and the file's own rate.
        windows: "head" or "centre" of the clip ("random": by `seed`), or "sliding": all of it, a row a window.
        stride: frames from one sliding window to the next; None is as many as a window has; see `slide_over`.
        shard_rows: rows of a shard; a run that is killed loses fewer. Batches begin where shards do as long as it is a
            multiple of `batch_size`, so that a run continued is to the bit the run that was not stopped.
        baselines, views: add what probes print beside, and what semi-supervised ones learn from: see `FeatureSets`.
        limit: the first so many clips.
        part: (i, n) takes every n-th clip from the i-th on, for n runs side by side into banks that `join_rows` makes
            one of.
        allow_damaged: take what there is of damaged clips, and warn, rather than drop them.
        progress: progress(done, total) counts clips, and is called after every batch.
        taps: the former name of `layers`.

    Returns:
        {"bank", "rows", "added", "dropped": [{"path", "reason"}], "keys"}; clips that cannot be read are dropped, named
        and counted.

    Raises VidgenError for settings that the model cannot take, features that are not finite, a bank of other features.
    """
    layers = default_layers(model, renamed_layers(layers, taps))
    settings = {"layers": layers, "noise_levels": list(noise_levels), "pool": pool, "seed": seed, "prompt": prompt}
    features = FeatureSets(model, noise=noise, ensemble=ensemble, baselines=baselines, views=views, **settings)
    keys = features.keys
    window = default_window(model, num_frames, size, fps) | {"windows": windows}
    if windows == "sliding":
        window["stride"] = stride or window["num_frames"]
    elif stride is not None:
        raise VidgenError(f"a stride of {stride} is for sliding windows, not {windows!r}; leave one of the two out")
    records = take_part(find_clips(source)[:limit], part)
    meta = {"source": str(Path(source).resolve()), "keys": keys, **settings, **describe_noise(noise, ensemble)}
    dropped: list[dict[str, str]] = []
    meta |= describe_model(model) | describe_window(window)
    sliding = windows == "sliding"
    most = batch_size if sliding else min(batch_size, len(records))  # clips have any number of windows
    check_extraction(features, window, most, min(shard_rows, len(records)))
    has_stale_rows = drop_stale_rows(out, meta, records, sliding=sliding)
    with SourceLog(out) as log, BankWriter(out, meta, shard_rows=shard_rows) as writer:
        rows_before = len(writer.done)
        if limit is None and part == (1, 1):
            warn_of_gone(Path(out), writer.done, records, sliding=sliding)
        if sliding:
            total, clips = sliding_windows(records, window, window["stride"], writer.done, dropped, log, allow_damaged)
        else:
            total, clips = single_windows(records, window, seed, writer.done, dropped, log, allow_damaged)
        for batch in batches(clips, batch_size):
            video = torch.stack([clip.video for clip in batch])
            times = torch.stack([clip.times for clip in batch])
            rows = [clip.row for clip in batch]
            writer.add(rows, features(video, [row.id for row in rows], times))
            log.save()
            if progress is not None:
                progress(batch[-1].position + 1, total)
    count = len(writer.done)
    if has_stale_rows and count:
        sort_rows(out, records, sliding=sliding)
    if not count:
        reasons = "; ".join(f"{drop['path']}: {drop['reason']}" for drop in dropped[:3])
        raise VidgenError(f"none of {len(records)} clips can be used ({reasons}); see `vidgen data inspect`")
    return {"bank": str(out), "rows": count, "added": count - rows_before, "dropped": dropped, "keys": keys}


def warn_of_gone(bank: Path, ids: Iterable[str], records: Sequence[ClipRecord], *, sliding: bool) -> None:
    """Warn of a bank's clips that its source does not have any more: their rows stay."""
    gone = {name.rpartition("@")[0] if sliding else name for name in ids} - {record.id for record in records}
    if gone:
        names = f"{min(gone)}{', ...' * (len(gone) > 1)}"
        advice = "their rows stay: extract into a new bank to be without them"
        warnings.warn(
            f"{bank}: {len(gone)} of its clips are not in the source any more ({names}); {advice}", stacklevel=3
        )


def take_part(records: list[ClipRecord], part: tuple[int, int]) -> list[ClipRecord]:
    """Return every n-th record from the i-th on. Raises VidgenError unless 1 <= i <= n, and for a part without any."""
    number, count = part
    if not 1 <= number <= count:
        raise VidgenError(f"part {number} of {count} is not there; parts are numbered from 1")
    chosen = records[number - 1 :: count]
    if not chosen:
        raise VidgenError(f"part {number} of {count} has no clip: there are {len(records)}")
    return chosen


def describe_noise(noise: str | Noising, ensemble: int) -> dict[str, Any]:
    """Return what a bank says of its noise where it is not one random draw, which older banks do not mention."""
    name = noise if isinstance(noise, str) else noise.name
    return ({} if name == "random" else {"noise": name}) | ({} if ensemble == 1 else {"ensemble": ensemble})


def describe_model(model: Pipeline | Encoder) -> dict[str, str]:
    """Return what a bank says of the model: its class and its hash."""
    return {"model": type(model).__name__, "model_hash": model_hash(model)}


def describe_window(window: dict[str, Any]) -> dict[str, Any]:
    """Return what a bank says of how clips are cut, sized and timed."""
    preprocessing = window | {"fit": "crop", "range": [-1, 1]}
    return {"preprocessing": preprocessing, "preprocessing_hash": json_hash(preprocessing)}


def default_window(
    model: Pipeline | Encoder, num_frames: int | None, size: int | tuple[int, int] | None, fps: float | None
) -> dict[str, Any]:
    """Return num_frames, size (height, width) and fps: the arguments, or else what the model was trained at.

    17 frames, 64x64 and the file's own rate where neither says anything.
    """
    trained = model.scheduler if isinstance(model, Pipeline) else model
    plain = SimpleNamespace(num_frames=17, height=64, width=64, fps=None)
    clip = trained if isinstance(trained, ClipFormat) else plain
    size = (clip.height, clip.width) if size is None else size
    return {
        "num_frames": num_frames or clip.num_frames or plain.num_frames,
        "size": [size, size] if isinstance(size, int) else list(size),
        "fps": clip.fps if fps is None else fps,
    }
