"""From a source of clips to a bank of features: what `vidgen extract` does."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.data.datasets import VideoDataset, Windows
from vidgen.data.inspecting import reason_of
from vidgen.data.manifests import ClipRecord, find_clips
from vidgen.errors import VideoError
from vidgen.hashing import json_hash, model_hash
from vidgen.representations.bank import BankRow, BankWriter
from vidgen.representations.variants import FeatureVariants

NO_LABELS = ("split", "subject", "group")  # columns of a manifest that say something else


def extract_source(
    model: Any,
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    taps: Sequence[str] = ("tokenizer.latents",),
    noise_levels: Sequence[float] = (0.1,),
    pool: str = "mean",
    seed: int = 0,
    prompt: str = "",
    num_frames: int | None = None,
    size: int | tuple[int, int] | None = None,
    fps: float | None = None,
    windows: Windows = "head",
    batch_size: int = 8,
    baselines: bool = False,
    views: bool = False,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Writes the features of every clip of `source` (see `find_clips`) to the bank `out`, or continues that bank.

    taps, noise_levels, pool, seed, prompt: see `FeatureExtractor`.
    num_frames, size, fps: the window of each clip; None takes what the model was trained at, where it says so, or else
        17 frames, 64x64, and the file's own rate. windows: "head" or "centre" of the clip ("random": by `seed`).
    baselines, views: add what probes print beside, and what semi-supervised ones learn from: see `FeatureVariants`.
    limit: the first so many clips. progress(done, total) is called after every batch.

    Labels are the source's; a manifest's columns `split`, and `subject` or `group`, are kept, and its other columns are
    labels by their names. Returns {"bank", "rows",
    "added", "dropped": [{"path", "reason"}], "keys"}; clips that cannot be read are dropped, named and counted.
    Raises VidgenError for settings that the model cannot take, features that are not finite, a bank of other features.
    """
    setting = {"taps": list(taps), "noise_levels": list(noise_levels), "pool": pool, "seed": seed, "prompt": prompt}
    variants = FeatureVariants(model, baselines=baselines, views=views, **setting)
    keys = variants.keys
    window = default_window(model, num_frames, size, fps) | {"windows": windows}
    dataset = open_clips(find_clips(source)[:limit], **window, seed=seed)
    dropped = [{"path": str(drop.path), "reason": drop.reason} for drop in dataset.dropped]
    about = {"source": str(Path(source).resolve()), "keys": keys, **setting}
    with BankWriter(out, about | describe_model(model) | describe_window(window)) as writer:
        there = len(writer.done)
        todo = [i for i, record in enumerate(dataset.records) if record.id not in writer.done]
        for count, (rows, video, times) in enumerate(clip_batches(dataset, todo, batch_size, dropped), 1):
            if rows:
                writer.add(rows, variants(video, [row.id for row in rows], times))
            if progress is not None:
                progress(min(count * batch_size, len(todo)), len(todo))
    total = len(writer.done)
    return {"bank": str(out), "rows": total, "added": total - there, "dropped": dropped, "keys": keys}


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


def open_clips(records: list[ClipRecord], **window: Any) -> VideoDataset:
    """The clips as a data set. What it drops is in the report, so its warning is not needed too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return VideoDataset(records, **window)


def clip_batches(
    dataset: VideoDataset, todo: Sequence[int], batch_size: int, dropped: list[dict[str, str]]
) -> Iterator[tuple[list[BankRow], Float[Tensor, "b 3 T H W"] | None, Float[Tensor, "b T"] | None]]:
    """Rows, clips and frame times of the items `todo`; an item that turns out damaged goes to `dropped`."""
    for start in range(0, len(todo), batch_size):
        rows, clips, times = [], [], []
        for index in todo[start : start + batch_size]:
            record = dataset.records[index]
            try:
                item = dataset[index]
            except VideoError as error:
                dropped.append({"path": str(record.path), "reason": reason_of(error, record)})
                continue
            clips.append(item["video"])
            times.append(item["times"])
            rows.append(describe_row(record, item["times"]))
        yield (rows, torch.stack(clips), torch.stack(times)) if rows else (rows, None, None)


def describe_row(record: ClipRecord, times: Float[Tensor, " T"]) -> BankRow:
    return BankRow(
        id=record.id,
        label=record.label,
        split=record.extra.get("split"),
        group=record.extra.get("subject", record.extra.get("group")),
        times=tuple(round(t, 6) for t in times.tolist()),
        # an object, such as all that is known of a synthetic clip, is no label
        labels={k: v for k, v in record.extra.items() if k not in NO_LABELS and not v.startswith("{")},
    )
