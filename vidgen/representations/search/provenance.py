"""Provenance: the original of an edited clip retrieved among others by its features (Black et al. 2023, VPN)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vidgen.data.frames import fit_frame, to_tensor
from vidgen.data.manifests import ClipRecord, find_clips
from vidgen.data.reading import VideoClip, read_video
from vidgen.data.transforms import SPEED, TRANSFORMS
from vidgen.data.validation import reason_of
from vidgen.deprecation import renamed_attributes, renamed_keywords
from vidgen.errors import VideoError, VidgenError
from vidgen.interfaces import Pipeline, Tokenizer
from vidgen.metrics.intervals import wilson_interval
from vidgen.representations.baselines import RANDOM, random_like, raw_pixels
from vidgen.representations.extract import default_window
from vidgen.representations.extractor import FeatureExtractor, parse_key
from vidgen.representations.probes.results import is_model, result_row
from vidgen.representations.search.ranking import rank_query
from vidgen.representations.search.retrieval import similarities, summarize_rankings

ORIGINAL, KS = "original", (1, 5)


@dataclass(frozen=True, kw_only=True)
class EditedClip:
    """Windows of one clip, by edit, before they are resized; "original" is the clip itself.

    repeated: how many frames at the end of the sped-up window are the last one again, as the clip is too short.
    """

    id: str
    fps: float
    windows: Mapping[str, UInt8[np.ndarray, "t h w 3"]]
    repeated: int


def edit_clips(
    records: Sequence[ClipRecord], edits: Sequence[str], num_frames: int, fps: float | None, dropped: list[dict]
) -> Iterator[EditedClip]:
    """Yield the first frames of every clip, and of each edit of it. What cannot be read, or is shorter, goes to
    `dropped`."""
    for record in records:
        try:
            clip = read_video(
                record.path, start=record.start, duration=record.duration, num_frames=SPEED * (num_frames - 1) + 1,
                fps=fps, native_fps=record.fps, short="keep",
            )  # fmt: skip
            if len(clip.frames) < num_frames:
                raise VideoError(f"{record.path}: {len(clip.frames)} frames, {num_frames} needed")
        except VideoError as error:
            dropped.append({"path": str(record.path), "reason": reason_of(error, record)})
            continue
        yield edit_clip(record.id, clip, edits, num_frames)


def edit_clip(name: str, clip: VideoClip, edits: Sequence[str], num_frames: int) -> EditedClip:
    """Return the windows of one clip."""
    windows = {ORIGINAL: clip.frames[:num_frames]}
    for edit in edits:
        # only what is sped up needs frames beyond the window
        frames = TRANSFORMS[edit](clip.frames if edit == "speed" else windows[ORIGINAL], clip.fps)
        windows[edit] = np.concatenate([frames, np.repeat(frames[-1:], max(0, num_frames - len(frames)), axis=0)])
    repeated = max(0, num_frames - -(-len(clip.frames) // SPEED)) if "speed" in edits else 0
    return EditedClip(id=name, fps=clip.fps, windows=windows, repeated=repeated)


@renamed_keywords(made="on_clip", taps="layers")
def retrieve_originals(
    model: Pipeline | Tokenizer,
    source: str | os.PathLike,
    *,
    edits: Sequence[str] = tuple(TRANSFORMS),
    layers: Sequence[str] = ("tokenizer.latents",),
    noise_levels: Sequence[float] = (0.1,),
    pool: str = "mean",
    num_frames: int | None = None,
    size: int | tuple[int, int] | None = None,
    fps: float | None = None,
    limit: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    on_clip: Callable[[EditedClip], None] | None = None,
) -> dict[str, Any]:
    """Edit every clip of `source`, and search its original among all originals, by cosine of features.

    Noise is drawn anew for an edited clip, as for one of unknown origin. Returns {"rows", "clips", "held", "dropped"},
    "held" being the number of clips that are too short to be sped up. A row has layer, noise_level, pool, edit, metric
    ("recall@1"), test, ci (Wilson's, over clips), recall by k, median_rank and baseline; baselines are random weights,
    raw pixels and chance. Raises VidgenError for edits, layers or a source that are not to be had, and where fewer than
    two clips can be used.

    Args:
        model: a pipeline or a tokenizer.
        source: clips; windows are their first frames.
        edits: names of `TRANSFORMS`.
        layers, noise_levels, pool, num_frames, size, fps, limit: as in `extract_source`.
        seed: of noise and of random weights.
        progress: called with the number of clips that are done, and of all.
        on_clip: called with every clip and its edits.
    """
    if unknown := [name for name in edits if name not in TRANSFORMS]:
        raise VidgenError(f"edit {unknown[0]!r} is unknown; choose some of {', '.join(TRANSFORMS)}")
    options = {"layers": list(layers), "noise_levels": list(noise_levels), "pool": pool, "seed": seed}
    extractors = {"": FeatureExtractor(model, **options), RANDOM: FeatureExtractor(random_like(model, seed), **options)}
    window = default_window(model, num_frames, size, fps)
    records = find_clips(Path(source))[:limit]
    dropped: list[dict[str, str]] = []
    collected: dict[str, dict[str, list[Tensor]]] = {}  # by key and edit
    too_short = count = 0
    for count, clip in enumerate(edit_clips(records, edits, window["num_frames"], window["fps"], dropped), 1):
        if on_clip is not None:
            on_clip(clip)
        names = list(clip.windows)
        video = torch.stack([prepare(clip.windows[name], tuple(window["size"])) for name in names])
        ids = [clip.id if name == ORIGINAL else f"{clip.id} {name}" for name in names]
        features: dict[str, Tensor] = {}
        for prefix, fx in extractors.items():
            features |= {prefix + key: x for key, x in fx(video, ids).features.items()}
        for key, x in (features | {"raw_pixels": raw_pixels(video)}).items():
            for name, one in zip(names, x, strict=True):
                collected.setdefault(key, {}).setdefault(name, []).append(one.float().cpu().flatten())
        too_short += clip.repeated > 0
        if progress is not None:
            progress(count, len(records))
    if count < 2:
        reasons = "; ".join(f"{Path(drop['path']).name}: {drop['reason']}" for drop in dropped[:3])
        raise VidgenError(f"{source}: {count} clips can be used, and looking for one needs two or more ({reasons})")
    rows = [
        row_of(key, edit, pool, *(torch.stack(parts[name]).numpy() for name in (ORIGINAL, edit)))
        for key, parts in collected.items()
        for edit in edits
    ]
    alike = np.ones((count, 1), np.float32)  # all are ties: what is expected of a random order
    rows += [row_of("chance", edit, pool, alike, alike) for edit in edits]
    return {"rows": rows, "clips": count, "held": too_short, "dropped": dropped}


def prepare(frames: UInt8[np.ndarray, "t h w 3"], size: tuple[int, int]) -> Float[Tensor, "3 t h w"]:
    """Return frames at the model's size, in [-1, 1]."""
    return to_tensor(np.stack([fit_frame(frame, size) for frame in frames]))


def row_of(
    key: str, edit: str, pool: str, originals: Float[np.ndarray, "n c"], edited: Float[np.ndarray, "n c"]
) -> dict[str, Any]:
    """Return the row of the originals' ranks, each clip's own being the only one that is right."""
    n = len(originals)
    scores = similarities(np.concatenate([originals, edited]), np.arange(n, 2 * n), np.arange(n))
    summary = summarize_rankings([rank_query(one, np.arange(n) == i, KS) for i, one in enumerate(scores)], KS)
    recall = summary["recall"]["1"]
    layer, level = parse_key(key)
    return result_row(
        layer, level, pool=pool if layer.removeprefix(RANDOM) != "raw_pixels" else "none", kind="retrieval",
        task="original", metric="recall@1", test=recall, ci=wilson_interval(recall, n), baseline=not is_model(layer),
        edit=edit, **summary,
    )  # fmt: skip


__getattr__ = renamed_attributes(__name__, {"find_originals": "retrieve_originals"})
