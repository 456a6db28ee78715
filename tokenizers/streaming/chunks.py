"""Clips of any length through a tokenizer, chunk by chunk from an iterator, in memory that does not grow with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vidgen.data.frames import to_tensor
from vidgen.interfaces import Tokenizer
from vidgen.tokenizers.encoded import check_video
from vidgen.tokenizers.streaming.halos import decoder_context
from vidgen.tokenizers.streaming.tiles import Tiles
from vidgen.tokenizers.streaming.tiling import TiledState, decode_tiled, encode_tiled

CHUNK_PIXELS = 2**20  # of all frames of a chunk together: some hundred MB of activations
WHOLE = 2**31  # latent frames: more than a clip has
Frames = Iterable[UInt8[np.ndarray, "h w 3"]]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a clip goes through: `latents` latent frames a chunk, each frame in `tiles`, or whole. `peak_bytes` is what
    that takes at most, where it was worked out."""

    latents: int
    tiles: Tiles | None = None
    peak_bytes: int | None = None


Planner = Callable[[Tokenizer, int, int], Plan]  # the plan for clips of a height and width


def plan_by_pixels(tokenizer: Tokenizer, height: int, width: int) -> Plan:
    """Return a plan of whole frames, as many as hold `CHUNK_PIXELS` pixels; those of one latent frame at least.

    All of a clip for a tokenizer that does not stream.
    """
    if not tokenizer.streams:
        return Plan(latents=WHOLE)
    return Plan(latents=max(1, CHUNK_PIXELS // (height * width) // tokenizer.config.temporal_compression_ratio))


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Some latent frames of a clip: normalized latents, and of a discrete tokenizer the indices that they stand for."""

    latents: Float[Tensor, "1 c t h w"]
    indices: Int[Tensor, "1 t h w"] | Int[Tensor, "1 t h w q"] | None = None


def stack_chunks(
    frames: Frames, tokenizer: Tokenizer, plan: Planner = plan_by_pixels
) -> Iterator[tuple[Float[Tensor, "1 3 k h w"], bool, Plan]]:
    """Yield chunks of whole latent frames, whether each is the last, and the clip's plan.

    With f_t frames a latent frame and n latent frames a chunk, the first chunk has 1 + (n - 1) f_t frames and each
    later one n f_t. One frame is read ahead, to know which is the last.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        return
    planned = plan(tokenizer, *first.shape[:2])
    rate = tokenizer.config.temporal_compression_ratio
    count = 1 + (planned.latents - 1) * rate
    ahead = [first]
    while ahead:
        waiting = [*ahead, *islice(frames, count - 1)]
        ahead = list(islice(frames, 1))
        count = planned.latents * rate
        stacked = np.stack(waiting)
        del waiting
        # Nameless, and so no longer held here when the next chunk is made.
        yield to_tensor(stacked)[None].to(tokenizer.device), not ahead, planned
        del stacked


def encode_step(
    tokenizer: Tokenizer, video: Float[Tensor, "1 3 k H W"], state: TiledState | None, last: bool, plan: Plan
) -> tuple[Tokens, TiledState]:
    """Return what `VideoTokenizer.encode_chunk` returns, with the plan's tiles and with indices."""
    check_video(video)
    if not tokenizer.streams:
        latents, state = tokenizer.encode_chunk(video, state, last)
        return Tokens(latents=latents), state
    if plan.tiles is None:
        hidden, state = tokenizer.encode_hidden(video, state, last)
        rows = hidden.shape[3]
    else:
        hidden, state = encode_tiled(tokenizer, video, state, last, plan.tiles)
        rows = max(1, plan.tiles.rows * plan.tiles.cols // hidden.shape[4])
    # Bottlenecks work position by position; in strips, the distances to a codebook stay small.
    outs = [tokenizer.bottleneck(strip) for strip in hidden.split(rows, dim=3)]
    latents = tokenizer.normalize(torch.cat([out.latents for out in outs], dim=3))
    indices = None if outs[0].indices is None else torch.cat([out.indices for out in outs], dim=2)
    return Tokens(latents=latents, indices=indices), state


def decode_step(
    tokenizer: Tokenizer, latents: Float[Tensor, "1 c k h w"], state: TiledState | None, plan: Plan
) -> tuple[Float[Tensor, "1 3 F H W"], TiledState]:
    """Return what `VideoTokenizer.decode_chunk` returns, with the plan's tiles."""
    if plan.tiles is None:
        return tokenizer.decode_chunk(latents, state)
    return decode_tiled(tokenizer, latents, state, plan.tiles)


def to_pixels(x: Float[Tensor, "3 k H W"]) -> Float[Tensor, "3 k H W"]:
    """Return decoded frames in float32, in [-1, 1]; `x` itself is clamped."""
    return x.clamp_(-1.0, 1.0).float()


@torch.inference_mode()
def encode_tokens(tokenizer: Tokenizer, frames: Frames, plan: Planner = plan_by_pixels) -> Iterator[Tokens]:
    """Yield the clip's latents and indices, in pieces as they become complete; together they are those of `encode`."""
    state = None
    for chunk, last, planned in stack_chunks(frames, tokenizer, plan):
        tokens, state = encode_step(tokenizer, chunk, state, last, planned)
        del chunk
        yield tokens


def encode_stream(
    tokenizer: Tokenizer, frames: Frames, plan: Planner = plan_by_pixels
) -> Iterator[Float[Tensor, "1 c t h w"]]:
    """Yield the latents of `encode_tokens`."""
    return (tokens.latents for tokens in encode_tokens(tokenizer, frames, plan))


def first_latent_for(tokenizer: Tokenizer, frame: int) -> int:
    """Return the latent frame from which decoding must start for `frame` to come out exactly."""
    if not tokenizer.streams:
        return 0
    holder = tokenizer.latent_frames(frame + 1) - 1
    context = decoder_context(tokenizer)
    # One at least: the first latent that a decoder sees gives one frame only.
    return 0 if context is None else max(0, holder - max(1, context))


Latents = Float[Tensor, "1 c t h w"] | Callable[[int, int], Float[Tensor, "1 c k h w"]]


@torch.inference_mode()
def decode_stream(
    tokenizer: Tokenizer,
    latents: Latents,
    *,
    num_frames: int,
    height: int,
    width: int,
    start: int = 0,
    stop: int | None = None,
    plan: Planner = plan_by_pixels,
) -> Iterator[Float[Tensor, "3 k H W"]]:
    """Yield frames `start` to `stop` (None: `num_frames`) of the clip of `latents`, in [-1, 1], some at a time.

    latents: those of the whole clip, or a function (first, stop) that reads some of its latent frames. Of a part, no
    more are read and decoded than it and the decoder's memory of the past need; its frames are those that decoding
    the whole gives. Raises ValueError for a part that is empty or reaches out of the clip.
    """
    stop = num_frames if stop is None else stop
    if not 0 <= start < stop <= num_frames:
        raise ValueError(f"frames {start} to {stop} are no part of a clip of {num_frames}")
    read = latents if callable(latents) else lambda a, b: latents[:, :, a:b]
    planned = plan(tokenizer, height, width)
    first, end = first_latent_for(tokenizer, start), tokenizer.latent_frames(stop)
    state = None
    at = (
        first * tokenizer.config.temporal_compression_ratio
    )  # the frame that comes next: a latent's last frame, for the first one decoded
    for low in range(first, end, planned.latents):
        z = read(low, min(low + planned.latents, end)).to(tokenizer.device)
        x, state = decode_step(tokenizer, z, state, planned)
        frames = to_pixels(x[0, :, max(0, start - at) : max(0, stop - at), :height, :width])
        at += x.shape[2]
        del x
        if frames.shape[1]:
            yield frames
        del frames


@torch.inference_mode()
def reconstruct_tokens(
    tokenizer: Tokenizer, frames: Frames, plan: Planner = plan_by_pixels
) -> Iterator[tuple[Float[Tensor, "3 k h w"], Float[Tensor, "3 k h w"], Tokens]]:
    """Yield (original, reconstruction, the tokens in between), pixels in [-1, 1], some frames at a time, in order."""
    state = decoding = None
    for chunk, last, planned in stack_chunks(frames, tokenizer, plan):
        tokens, state = encode_step(tokenizer, chunk, state, last, planned)
        x, decoding = decode_step(tokenizer, tokens.latents, decoding, planned)
        _, _, k, height, width = chunk.shape
        x = to_pixels(x[0, :, :k, :height, :width])
        yield chunk[0], x, tokens
        del chunk, x, tokens


def reconstruct_stream(
    tokenizer: Tokenizer, frames: Frames, plan: Planner = plan_by_pixels
) -> Iterator[tuple[Float[Tensor, "3 k h w"], Float[Tensor, "3 k h w"]]]:
    """Yield the pairs (original, reconstruction) of `reconstruct_tokens`; together they are the clip."""
    for original, x, tokens in reconstruct_tokens(tokenizer, frames, plan):
        yield original, x
        del original, x, tokens  # not held while the next chunk is made
