"""Perturbed attention: denoisers made weaker on purpose, for guidance to lead away from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vidgen.models.attention import Heads
from vidgen.models.attention_patterns import Attend
from vidgen.models.layers import override_attention

if TYPE_CHECKING:
    from vidgen.models.dit.video_dit import VideoDiT


def own_values(attend: Attend, q: Heads, k: Heads, v: Heads) -> Heads:
    """Return what each position has to say itself: an attention pattern by which none sees another."""
    return v


def identity_attention(transformer: VideoDiT, blocks: Iterable[int]) -> AbstractContextManager[None]:
    """Make self-attention of these blocks give each position its own value alone, within the context."""
    return override_attention([layer for i in blocks for layer in transformer.blocks[i].self_attention], own_values)


def perturbed_attention(
    run: Callable[..., Tensor], transformer: VideoDiT, blocks: Iterable[int]
) -> Callable[..., Tensor]:
    """Return a denoiser or network made weak by `identity_attention` in these blocks (Ahn et al. 2024).

    `run` runs `transformer`. One pass at a time: the blocks are switched for all that run meanwhile.
    """
    blocks = list(blocks)

    def weak(*inputs: Any, **conditions: Any) -> Tensor:
        with identity_attention(transformer, blocks):
            return run(*inputs, **conditions)

    return weak
