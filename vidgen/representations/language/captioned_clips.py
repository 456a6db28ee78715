"""Clips of a folder or manifest with their captions, in the space of a TextVideoEncoder."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool

from vidgen.data.datasets import DroppedClip, VideoDataset
from vidgen.data.manifests import find_clips
from vidgen.errors import VidgenError
from vidgen.interfaces import TextVideoEncoder
from vidgen.models.text_video.embedding import Embedding, join_embeddings
from vidgen.representations.language.world_clips import DEFAULT_FRAMES


@dataclass(frozen=True, kw_only=True, eq=False)
class CaptionedClips:
    """Clips by their embedding, a caption of each, which captions are right for which clips (the same words, or the
    same part of the same file), and the clips that were left out."""

    embedding: Embedding
    captions: list[str]
    truth: Bool[np.ndarray, "n n"]
    dropped: list[DroppedClip]


def embed_captioned(
    encoder: TextVideoEncoder, source: Path, *, batch_size: int = 16, progress: Callable[[int], None] | None = None
) -> CaptionedClips:
    """Read and embed the clips of a source that have captions, as many frames of each as the model takes.

    Raises VidgenError where fewer than two are left.
    """
    records = [record for record in find_clips(source) if record.caption and record.caption.strip()]
    if len(records) < 2:
        raise VidgenError(f"{source}: {len(records)} clips with captions; retrieval needs two, with a `caption` each")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `dropped` says it
        clips = VideoDataset(
            records,
            num_frames=encoder.num_frames or DEFAULT_FRAMES,
            size=(encoder.height, encoder.width),
            fps=encoder.fps,
            short="repeat",
        )
    if len(clips) < 2:
        raise VidgenError(f"{source}: of {len(records)} clips with captions {len(clips)} can be read; two are needed")
    parts = []
    for first in range(0, len(clips), batch_size):
        batch = [clips[index]["video"] for index in range(first, min(first + batch_size, len(clips)))]
        with torch.no_grad():
            parts.append(encoder.embed_videos(torch.stack(batch).to(encoder.device)))
        if progress:
            progress(first + len(batch))
    captions = [record.caption.strip() for record in clips.records]
    words = np.array(captions, dtype=object)
    places = np.array([f"{record.path}\0{record.start}" for record in clips.records], dtype=object)
    same = (words[:, None] == words[None]) | (places[:, None] == places[None])
    return CaptionedClips(
        embedding=join_embeddings(parts), captions=captions, truth=same.astype(bool), dropped=clips.dropped
    )
