"""Cross-frame attention: pictures of one batch, made side by side, look at the first of them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from functools import partial

import torch
from einops import rearrange
from torch import nn

from vidgen.errors import VidgenError
from vidgen.models.attention import Heads
from vidgen.models.attention_patterns import Attend
from vidgen.models.layers import Attention, override_attention


def of_first(heads: Heads, frames: int) -> Heads:
    """Return rows of groups of `frames`, every row of a group being its first."""
    groups = rearrange(heads, "(g f) k n d -> g f k n d", f=frames)
    return rearrange(groups[:, :1].expand_as(groups), "g f k n d -> (g f) k n d")


def attend_to_first(attend: Attend, q: Heads, k: Heads, v: Heads, *, frames: int, own: bool = False) -> Heads:
    """Return attention with the keys and values of the first row of each group (Khachatryan et al. 2023,
    Text2Video-Zero: cross-frame attention), or of that row and of each one's own (Wu et al. 2023, Tune-A-Video).

    Args:
        attend: Attention of queries to keys and values.
        q: Queries, a row a picture; groups of `frames` rows follow each other, as guided passes do.
        k: Keys.
        v: Values.
        frames: Pictures of a group.
        own: Whether each picture sees itself, too.
    """
    keys, values = of_first(k, frames), of_first(v, frames)
    if own:
        keys, values = torch.cat([k, keys], dim=2), torch.cat([v, values], dim=2)
    return attend(q, keys, values)


def shared_layers(transformer: nn.Module, blocks: Iterable[int] | None = None) -> list[Attention]:
    """Return the self-attention of some blocks, None being all: what `override_attention` takes.

    Raises VidgenError for a transformer without blocks of ours, for one whose blocks attend to text in the same breath
    (joint), and for blocks that are not there.
    """
    all_blocks = getattr(transformer, "blocks", ())
    if not len(all_blocks) or not hasattr(all_blocks[0], "self_attention") or getattr(transformer, "joint", False):
        raise VidgenError(
            f"{type(transformer).__name__} has no self-attention of its own that frames could share; take a VideoDiT "
            "with text by cross-attention, or Wan"
        )
    chosen = list(range(len(all_blocks)) if blocks is None else blocks)
    if any(block not in range(len(all_blocks)) for block in chosen):
        raise VidgenError(f"cross-frame attention in blocks {chosen}: this model's are 0 to {len(all_blocks) - 1}")
    return [layer for block in chosen for layer in all_blocks[block].self_attention]


def cross_frame_attention(
    transformer: nn.Module, frames: int, *, blocks: Iterable[int] | None = None, own: bool = False
) -> AbstractContextManager[None]:
    """Make rows of batches, in groups of `frames`, attend to the first of their group within the context: in a VideoDiT
    or a WanTransformer, whoever runs it. Arguments as of `attend_to_first`; raises VidgenError as `shared_layers`."""
    return override_attention(shared_layers(transformer, blocks), partial(attend_to_first, frames=frames, own=own))
