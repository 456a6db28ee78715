"""Text and patches in one attention, each with weights of its own."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.models.attention import Mask, find_attention
from vidgen.models.dit.blocks import make_attention
from vidgen.models.dit.config import VideoDiTConfig
from vidgen.models.layers import Attention, FeedForward, gated_sum, modulate
from vidgen.models.rope import Rotary
from vidgen.models.text.prepared import TextTokens


class MMDiTStream(nn.Module):
    """One of the two: norms, attention and feed-forward with their six modulations (adaLN-single, as in `Block`).

    One that `ends` in this block only tells: keys and values, with the first two modulations, are all that it has.
    """

    def __init__(self, config: VideoDiTConfig, ends: bool = False) -> None:
        super().__init__()
        width, self.ends = config.width, ends
        self.norm1 = nn.LayerNorm(width, eps=config.norm_eps, elementwise_affine=False)
        self.attention = make_attention(config, width if ends else None)
        self.table = nn.Parameter(torch.zeros(2 if ends else 6, width))
        if ends:
            del self.attention.to_q, self.attention.norm_q, self.attention.out
            return
        self.norm2 = nn.LayerNorm(width, eps=config.norm_eps, elementwise_affine=False)
        self.mlp = FeedForward(width, config.mlp_ratio)

    def modulations(self, cond: Float[Tensor, "b f six d"]) -> tuple[Float[Tensor, "b f one d"], ...]:
        return (cond[:, :, : len(self.table)] + self.table)[:, :, :, None].unbind(2)

    def finish(self, x: Float[Tensor, "b t s d"], seen: Tensor, rest: list[Tensor]) -> Float[Tensor, "b t s d"]:
        """The block's second part, with what attention saw (b, heads, t*s, e)."""
        gate1, shift2, scale2, gate2 = rest
        y = rearrange(self.attention.join(seen), "b (t s) d -> b t s d", t=x.shape[1])
        x = gated_sum(x, y, gate1)
        return gated_sum(x, self.mlp(modulate(self.norm2, x, shift2, scale2)), gate2)


class MMDiTBlock(nn.Module):
    """A block of MM-DiT (Esser et al. 2024, section 4): text tokens and patches attend to all of both.

    Texts have no frames, so where levels are per frame theirs is the mean. `last` is of the last block, after which
    nothing reads the text.
    """

    def __init__(self, config: VideoDiTConfig, last: bool) -> None:
        super().__init__()
        self.patches, self.text = MMDiTStream(config), MMDiTStream(config, ends=last)

    def forward(
        self,
        x: Float[Tensor, "b t s d"],
        cond: Float[Tensor, "b f six d"],
        text: TextTokens,
        rotary: Rotary,
    ) -> tuple[Float[Tensor, "b t s d"], TextTokens]:
        """The patches, and the text as the next block reads it."""
        words = text.tokens[:, None]  # b 1 l d
        shift, scale, *rest = self.patches.modulations(cond)
        y = rearrange(modulate(self.patches.norm1, x, shift, scale), "b t s d -> b (t s) d")
        q, k, v = self.patches.attention.project(y, rotary=rotary)
        shift, scale, *rest_of_text = self.text.modulations(cond.mean(dim=1, keepdim=True))
        z = modulate(self.text.norm1, words, shift, scale)[:, 0]
        asked = [q]
        if self.text.ends:
            told = self.text.attention.keys_values(z)
        else:
            first, *told = self.text.attention.project(z)
            asked = [q, first]
        attend, mask = find_attention(self.patches.attention.backend), mask_for(text.mask, q.shape[2])
        keys_values = (torch.cat(pair, dim=2) for pair in zip((k, v), told, strict=True))
        seen = attend(torch.cat(asked, dim=2), *keys_values, mask).split([part.shape[2] for part in asked], dim=2)
        x = self.patches.finish(x, v if self.patches.attention.identity else seen[0], rest)
        if self.text.ends:
            return x, text
        return x, TextTokens(self.text.finish(words, seen[1], rest_of_text)[:, 0], text.mask)

    @property
    def self_attention(self) -> list[Attention]:
        """The layer in which positions see each other."""
        return [self.patches.attention]

    @property
    def ungated(self) -> list[nn.Linear]:
        return []


def mask_for(mask: Mask | None, patches: int) -> Mask | None:
    """The text's mask, or bias, with all patches seen as well."""
    if mask is None:
        return None
    seen = mask.new_ones if mask.dtype == torch.bool else mask.new_zeros
    return torch.cat([seen(len(mask), patches), mask], dim=1)
