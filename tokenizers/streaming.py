"""Clips of any length through a tokenizer, frame by frame from an iterator, in memory that does not grow with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vidgen.data.frames import to_tensor
from vidgen.tokenizers.model import VideoTokenizer

CHUNK_PIXELS = 2**20  # of all frames of a chunk together: some hundred MB of activations
Frames = Iterable[UInt8[np.ndarray, "h w 3"]]


def stack_chunks(frames: Frames, tokenizer: VideoTokenizer) -> Iterator[tuple[Float[Tensor, "1 3 k h w"], bool]]:
    """Chunks of frames, whole latent frames where the picture is small enough, each with whether it is the last."""
    waiting: list[np.ndarray] = []
    rate = tokenizer.config.ratio_t
    for frame in frames:
        limit = max(rate, CHUNK_PIXELS // (frame.shape[0] * frame.shape[1]) // rate * rate)
        if len(waiting) >= limit:
            yield _stack(waiting, tokenizer), False
            waiting = []
        waiting.append(frame)
    if waiting:
        yield _stack(waiting, tokenizer), True


def _stack(frames: list[np.ndarray], tokenizer: VideoTokenizer) -> Tensor:
    return to_tensor(np.stack(frames))[None].to(tokenizer.latents_mean.device)


@torch.inference_mode()
def encode_stream(tokenizer: VideoTokenizer, frames: Frames) -> Iterator[Float[Tensor, "1 c t h w"]]:
    """The clip's latents, in pieces as they become complete; together they equal those of `encode`."""
    state = None
    for chunk, last in stack_chunks(frames, tokenizer):
        z, state = tokenizer.encode_chunk(chunk, state, last=last)
        if z.shape[2]:
            yield z


@torch.inference_mode()
def decode_stream(
    tokenizer: VideoTokenizer, latents: Float[Tensor, "1 c t h w"], *, num_frames: int, height: int, width: int
) -> Iterator[Float[Tensor, "3 k H W"]]:
    """The clip of `latents`, in [-1, 1], some frames at a time: `num_frames` of height x width in all."""
    pixels = tokenizer.config.ratio_t * height * width
    step, done, state = max(1, CHUNK_PIXELS // pixels), 0, None
    for z in latents.to(tokenizer.latents_mean.device).split(step, dim=2):
        x, state = tokenizer.decode_chunk(z, state)
        x = x[0, :, : num_frames - done, :height, :width].float().clamp(-1.0, 1.0)
        done += x.shape[1]
        yield x


@torch.inference_mode()
def reconstruct_stream(
    tokenizer: VideoTokenizer, frames: Frames
) -> Iterator[tuple[Float[Tensor, "3 k h w"], Float[Tensor, "3 k h w"]]]:
    """Pairs of (original, reconstruction) in [-1, 1], some frames at a time, in order; together they are the clip."""
    state = decoding = None
    waiting: Tensor | None = None  # originals whose reconstruction has not come yet
    for chunk, last in stack_chunks(frames, tokenizer):
        waiting = chunk[0] if waiting is None else torch.cat([waiting, chunk[0]], dim=1)
        z, state = tokenizer.encode_chunk(chunk, state, last=last)
        if not z.shape[2]:
            continue
        x, decoding = tokenizer.decode_chunk(z, decoding)
        x = x[0, :, : waiting.shape[1], : waiting.shape[2], : waiting.shape[3]].float().clamp(-1.0, 1.0)
        yield waiting[:, : x.shape[1]], x
        waiting = waiting[:, x.shape[1] :]
