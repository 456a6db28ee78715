"""Text as a transformer's blocks read it: tokens, or keys and values that are made once and serve every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.models.attention import Heads, Mask
from vidgen.models.text.encoders import TextEncoding


class TextTokens(NamedTuple):
    """Tokens in the width that attention reads, and which of them are visible (None: all)."""

    tokens: Float[Tensor, "b l d"]
    mask: Mask | None


class TextHeads(NamedTuple):
    """Keys and values of one block's cross-attention, and which of them are visible (None: all)."""

    k: Heads
    v: Heads
    mask: Mask | None


@dataclass(frozen=True, kw_only=True)
class PreparedText:
    """What `prepare_text` of a network makes of a TextEncoding, for that network alone.

    `blocks`: what each block reads. `pooled`: the text as one vector, where the network takes it.
    """

    blocks: tuple[TextHeads | TextTokens, ...]
    pooled: Float[Tensor, "b d"] | None


def silent_padding(text: TextEncoding, length: int) -> TextEncoding:
    """Return the text with zeros for its padding. Raises VidgenError if it has more than `length` tokens."""
    if text.tokens.shape[1] > length and (longest := int(text.mask.sum(1).max())) > length:
        raise VidgenError(f"prompt of {longest} tokens is too long, {length} at most")
    mask = text.mask[:, :length]
    return TextEncoding(tokens=text.tokens[:, :length] * mask[..., None], mask=mask)


def fill(text: TextEncoding, length: int) -> TextTokens:
    """Return the text filled up to `length` tokens with zeros, all of which are visible."""
    tokens = silent_padding(text, length).tokens
    return TextTokens(F.pad(tokens, (0, 0, 0, length - tokens.shape[1])), None)


def fill_once(text: TextEncoding, length: int) -> TextTokens:
    """Return as many tokens as the longest text has, with one zero for all that `fill` adds, and a bias of the scores
    that makes attention to them the same.

    Equal keys with equal values weigh as one of them whose score is raised by the logarithm of their number.
    """
    text = silent_padding(text, length)
    used = text.mask.any(0).nonzero()
    longest = int(used[-1]) + 1 if len(used) else 0
    mask = text.mask[:, :longest].to(torch.promote_types(text.tokens.dtype, torch.float32))
    bias = torch.cat([mask, length - mask.sum(1, keepdim=True)], dim=1).log()
    return TextTokens(F.pad(text.tokens[:, :longest], (0, 0, 0, 1)), bias)
