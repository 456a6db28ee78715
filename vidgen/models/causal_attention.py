"""Causal attention over latent frames, chunk by chunk, and the keys and values that it keeps of frames that are done.

A chunk of frames sees itself and the frames before it. Which frames these are is a `FrameLayout`: the same layers then
train on whole clips, on clean frames beside noisy ones, and generate chunk after chunk from a cache, and no mask is
needed. Keys are kept before rotation and rotated by their place among the frames that are seen, so that positions stay
within those of training however long a clip gets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from vidgen.models.attention import Heads
from vidgen.models.attention_patterns import Attend, AttentionPattern, Grid
from vidgen.models.rope import Rotary, apply_rotary_emb

Chunks = tuple[int, int]  # latent frames of the first chunk, and of each after it


class FrameGroup(NamedTuple):
    """Frames `first` to `stop` of those that ask; `seen` are the frames whose keys they see, themselves last.

    Positions are counted along `seen`.
    """

    first: int
    stop: int
    seen: tuple[int, ...]

    @property
    def positions(self) -> range:
        """Those of the frames that ask."""
        return range(len(self.seen) - (self.stop - self.first), len(self.seen))


class KVCache:
    """Keys and values of frames that are done, layer by layer, (b, heads, frames, s, d), not yet rotated.

    At most `window` frames are seen at once, the new ones included (0: all). Of those that are kept `sinks` are the
    first of the clip, which never leave (Xiao et al. 2024, StreamingLLM, section 3.2); the others are the last ones.
    """

    def __init__(self, window: int = 0, sinks: int = 0) -> None:
        check_window(window, sinks)
        self.window, self.sinks = window, sinks
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def frames(self) -> int:
        """The number of frames that are kept."""
        return self.layers[0][0].shape[2] if self.layers else 0

    def layout(self, frames: int, *, extend: bool = False) -> FrameLayout:
        """Return the layout of a pass over the next chunk, which keeps the chunk's own keys where it is to `extend`."""
        seen = seen_frames(self.frames + frames, self.window, self.sinks)
        groups = (FrameGroup(0, frames, seen),)
        return FrameLayout(groups=groups, cache=self, past=dict(self.layers), extend=extend)


@dataclass(frozen=True, kw_only=True)
class FrameLayout:
    """Which frames of a pass see which, group by group. The frames of `past` are the first of those that are seen.

    `past` is what a `cache` holds when the pass begins: a pass that is run again for its gradients sees the same,
    though the cache has grown since. `extend` makes the cache keep what the one group sees.
    """

    groups: tuple[FrameGroup, ...]
    cache: KVCache | None = None
    past: Mapping[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    extend: bool = False

    @property
    def span(self) -> int:
        """The most frames that a group sees."""
        return max(len(group.seen) for group in self.groups)

    @property
    def positions(self) -> list[int]:
        """The position of each frame of the pass."""
        return [position for group in self.groups for position in group.positions]

    def pattern(self, layer: int, grid: Grid, rotary: Rotary) -> AttentionPattern:
        """Return the attention of one layer over a pass of `grid`, by the rotary table of `span` frames."""
        return partial(over_groups, layout=self, layer=layer, frames=grid[0], rotary=rotary)


def over_groups(
    attend: Attend, q: Heads, k: Heads, v: Heads, *, layout: FrameLayout, layer: int, frames: int, rotary: Rotary
) -> Heads:
    """Return attention of each group to the frames that it sees; queries and keys come unrotated.

    Args:
        attend: plain attention.
        q: queries of the pass, and so `k` and `v`.
        k: keys.
        v: values.
        layout: the groups.
        layer: which layer's cache is read.
        frames: those of the pass.
        rotary: the table of `layout.span` frames.
    """
    q, k, v = (rearrange(x, "b k (t s) d -> b k t s d", t=frames) for x in (q, k, v))
    if layer in layout.past:
        k, v = (torch.cat(pair, dim=2) for pair in zip(layout.past[layer], (k, v), strict=True))
    cells = q.shape[3]
    out = []
    for group in layout.groups:
        keys, values = take_frames(k, group.seen), take_frames(v, group.seen)
        if layout.extend:
            layout.cache.layers[layer] = keys.detach(), values.detach()
        last = slice(group.positions.start * cells, group.positions.stop * cells)
        queries = rotate(q[:, :, group.first : group.stop], rotary, last)
        rotated = rotate(keys, rotary, slice(len(group.seen) * cells))
        out.append(attend(queries, rotated, values.flatten(2, 3)))
    return torch.cat(out, dim=2)


def take_frames(x: Tensor, frames: Sequence[int]) -> Tensor:
    """Return those frames of keys or values (b, heads, t, s, d): a view where they follow each other."""
    first, last = frames[0], frames[-1]
    return x[:, :, first : last + 1] if last - first + 1 == len(frames) else x[:, :, list(frames)]


def rotate(x: Tensor, rotary: Rotary, cells: slice) -> Heads:
    """Return heads (b, heads, t, s, d) as (b, heads, (t s), d), rotated by those rows of the table."""
    return apply_rotary_emb(x.flatten(2, 3), Rotary(rotary.cos[cells], rotary.sin[cells]))


def check_window(window: int, sinks: int) -> None:
    """Raise ValueError unless a window of frames has room beside its sinks."""
    if window < 0 or sinks < 0 or (window and sinks >= window):
        raise ValueError(f"a window of {window} frames cannot keep {sinks} sinks; it needs room for more than these")


def seen_frames(count: int, window: int = 0, sinks: int = 0) -> tuple[int, ...]:
    """Return which of the first `count` frames the last ones see: all of them, or in a `window` the first `sinks` and
    as many of the last as it has room for."""
    if not window or count <= window:
        return tuple(range(count))
    return (*range(sinks), *range(count - (window - sinks), count))


def iter_chunks(chunks: Chunks, total: int | None) -> Iterator[tuple[int, int]]:
    """Yield the first frame and the end of each chunk of a clip of `total`, the last one perhaps shorter; or without
    end."""
    start = 0
    for end in count(*chunks):
        stop = end if total is None else min(end, total)
        yield start, stop
        start = stop
        if start == total:
            return


def chunk_ends(frames: int, chunks: Chunks) -> list[int]:
    """Return where the chunks of a clip end."""
    return [stop for _, stop in iter_chunks(chunks, frames)]


def causal_layout(frames: int, chunks: Chunks, window: int = 0, sinks: int = 0) -> FrameLayout:
    """Return the layout of a whole clip: each chunk sees itself and the frames before it, as a `KVCache` keeps them."""
    check_window(window, sinks)
    groups = (FrameGroup(a, b, seen_frames(b, window, sinks)) for a, b in iter_chunks(chunks, frames))
    return FrameLayout(groups=tuple(groups))


def teacher_forcing_layout(frames: int, chunks: Chunks) -> FrameLayout:
    """Return the layout of a pass over a clean clip and, after it, the same clip with noise.

    Clean chunks see each other as in `causal_layout`. A noisy chunk sees itself and the clean frames before it, which
    is what it sees in generation: one pass trains all chunks of a clip (as in CausVid and Self-Forcing's baseline).
    """
    clean = causal_layout(frames, chunks).groups
    noisy = (FrameGroup(frames + a, frames + b, (*range(a), *range(frames + a, frames + b))) for a, b, _ in clean)
    return FrameLayout(groups=(*clean, *noisy))
