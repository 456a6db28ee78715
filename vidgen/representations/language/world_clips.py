"""Held-out clips of the shape world in the space of a TextVideoEncoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vidgen.data.frames import to_tensor
from vidgen.data.shapes.labels import ClipLabels, ShapeWorldConfig
from vidgen.data.shapes.world import MIN_ORDERED_FRAMES, ShapeWorld
from vidgen.errors import VidgenError
from vidgen.interfaces import TextVideoEncoder
from vidgen.models.text_video.embedding import Embedding, join_embeddings

DEFAULT_FRAMES = 17  # of a model that takes any number, or fewer than show one event after another
DEFAULT_FPS = 8
Clip = UInt8[np.ndarray, "t h w 3"]


@dataclass(frozen=True, kw_only=True, eq=False)
class WorldClips:
    """Clips by their embedding, and a caption and the labels of each."""

    embedding: Embedding
    captions: list[str]
    labels: list[ClipLabels]


def world_config(encoder: TextVideoEncoder, *, max_objects: int = 1, seed: int = 0) -> ShapeWorldConfig:
    """Return the settings of held-out clips of a model's own size, rate and length; where it takes fewer frames than
    show one event after another, clips are longer, and `embed_clips` takes frames at even distances from them.

    Raises VidgenError for a size that the world has no clips of.
    """
    frames = encoder.num_frames or DEFAULT_FRAMES
    try:
        return ShapeWorldConfig(
            height=encoder.height,
            width=encoder.width,
            num_frames=frames if frames >= MIN_ORDERED_FRAMES else DEFAULT_FRAMES,
            fps=round(encoder.fps or DEFAULT_FPS),
            max_objects=max_objects,
            seed=seed,
            split="held_out",
        )
    except ValueError as error:
        raise VidgenError(f"the shape world has no clips of the size that this model takes: {error}") from None


def embed_clips(encoder: TextVideoEncoder, videos: Sequence[Clip]) -> Embedding:
    """Return the embedding of clips of one length, of which as many frames as the model takes are used, the first and
    the last among them; run backward, a clip gives the same frames backward."""
    length = len(videos[0])
    take = np.arange(length)
    if encoder.num_frames and encoder.num_frames != length:
        take = np.rint(np.linspace(0, length - 1, encoder.num_frames)).astype(int)
    batch = torch.stack([to_tensor(video[take]) for video in videos])
    with torch.no_grad():
        return encoder.embed_videos(batch.to(encoder.device))


def embed_texts(encoder: TextVideoEncoder, texts: Sequence[str], batch_size: int = 256) -> Embedding:
    """Return the embedding of any number of texts, `batch_size` at once."""
    with torch.no_grad():
        return join_embeddings(
            [encoder.embed_texts(texts[first : first + batch_size]) for first in range(0, len(texts), batch_size)]
        )


def score_blocks(
    encoder: TextVideoEncoder, texts: Embedding, videos: Embedding, block: int = 128
) -> Float[Tensor, "n m"]:
    """Return the scores of all texts with all clips on the CPU, `block` by `block` of them at once: a model that
    compares tokens with tokens takes memory for each pair."""
    with torch.no_grad():
        rows = []
        for first in range(0, len(texts), block):
            part = texts[first : first + block]
            columns = [encoder.score(part, videos[i : i + block]).float().cpu() for i in range(0, len(videos), block)]
            rows.append(torch.cat(columns, dim=1))
    return torch.cat(rows)


def embed_world(
    encoder: TextVideoEncoder,
    config: ShapeWorldConfig,
    n: int,
    *,
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
) -> WorldClips:
    """Render and embed the first n clips of a world."""
    world = ShapeWorld(config)
    parts, captions, labels = [], [], []
    for first in range(0, n, batch_size):
        clips = [world[index] for index in range(first, min(first + batch_size, n))]
        parts.append(embed_clips(encoder, [clip.video for clip in clips]))
        captions += [clip.caption for clip in clips]
        labels += [clip.labels for clip in clips]
        if progress:
            progress(len(labels))
    return WorldClips(embedding=join_embeddings(parts), captions=captions, labels=labels)
