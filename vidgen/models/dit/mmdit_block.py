"""MM-DiT's block: text and patches in one attention, each with weights of its own."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.models.attention import Heads, Mask, find_attention
from vidgen.models.dit.blocks import make_attention
from vidgen.models.dit.config import BlockConfig
from vidgen.models.layers import Attention, FeedForward, gated_sum, modulate
from vidgen.models.rope import Rotary
from vidgen.models.text.prepared import TextTokens


class MMDiTStream(nn.Module):
    """The text or the patches: norms, attention and feed-forward with their six modulations (adaLN-single, as `Block`).

    A stream that `ends` in this block gives keys and values alone: it has these and the first two modulations.
    """

    def __init__(self, config: BlockConfig, ends: bool = False) -> None:
        super().__init__()
        width = config.width
        self.ends = ends
        self.norm1 = nn.LayerNorm(width, eps=config.norm_eps, elementwise_affine=False)
        self.attention = make_attention(config, width if ends else None)
        self.table = nn.Parameter(torch.zeros(2 if ends else 6, width))
        if ends:
            del self.attention.to_q, self.attention.norm_q, self.attention.out
            return
        self.norm2 = nn.LayerNorm(width, eps=config.norm_eps, elementwise_affine=False)
        self.mlp = FeedForward(width, config.mlp_ratio)

    def modulations(self, cond: Float[Tensor, "b f six d"]) -> tuple[Float[Tensor, "b f one d"], ...]:
        """Return shift and scale of the first norm, and where the stream goes on, the other four."""
        return (cond[:, :, : len(self.table)] + self.table)[:, :, :, None].unbind(2)

    def finish(self, x: Float[Tensor, "b t s d"], attended: Heads, rest: list[Tensor]) -> Float[Tensor, "b t s d"]:
        """Return the stream after the block, from what attention gave it; `rest` are its last four modulations."""
        gate1, shift2, scale2, gate2 = rest
        y = rearrange(self.attention.join(attended), "b (t s) d -> b t s d", t=x.shape[1])
        x = gated_sum(x, y, gate1)
        return gated_sum(x, self.mlp(modulate(self.norm2, x, shift2, scale2)), gate2)


class MMDiTBlock(nn.Module):
    """A block of MM-DiT (Esser et al. 2024, section 4): text tokens and patches attend to all of both.

    Texts have no frames, so where levels are per frame theirs is the mean. `last` is of the last block, after which
    nothing reads the text.
    """

    def __init__(self, config: BlockConfig, last: bool) -> None:
        super().__init__()
        self.patches = MMDiTStream(config)
        self.text = MMDiTStream(config, ends=last)

    def forward(
        self,
        x: Float[Tensor, "b t s d"],
        cond: Float[Tensor, "b f six d"],
        text: TextTokens,
        rotary: Rotary,
    ) -> tuple[Float[Tensor, "b t s d"], TextTokens]:
        """Return the patches, and the text as the next block reads it."""
        words = text.tokens[:, None]  # b 1 l d
        shift, scale, *patches_rest = self.patches.modulations(cond)
        y = rearrange(modulate(self.patches.norm1, x, shift, scale), "b t s d -> b (t s) d")
        q, k, v = self.patches.attention.project(y, rotary=rotary)
        shift, scale, *text_rest = self.text.modulations(cond.mean(dim=1, keepdim=True))
        z = modulate(self.text.norm1, words, shift, scale)[:, 0]
        queries = [q]
        if self.text.ends:
            text_k, text_v = self.text.attention.keys_values(z)
        else:
            text_q, text_k, text_v = self.text.attention.project(z)
            queries.append(text_q)
        attend = find_attention(self.patches.attention.backend)
        mask = mask_for(text.mask, q.shape[2])
        keys, values = torch.cat([k, text_k], dim=2), torch.cat([v, text_v], dim=2)
        attended = attend(torch.cat(queries, dim=2), keys, values, mask)
        of_patches, *of_text = attended.split([part.shape[2] for part in queries], dim=2)
        override = self.patches.attention.override
        x = self.patches.finish(x, of_patches if override is None else override(attend, q, k, v), patches_rest)
        if self.text.ends:
            return x, text
        return x, TextTokens(self.text.finish(words, of_text[0], text_rest)[:, 0], text.mask)

    @property
    def self_attention(self) -> list[Attention]:
        """The layer in which positions see each other."""
        return [self.patches.attention]

    @property
    def ungated(self) -> list[nn.Linear]:
        """No branch of this block is without a gate; see `Block.ungated`."""
        return []


def mask_for(mask: Mask | None, patches: int) -> Mask | None:
    """Return the text's mask, or bias, with all patches visible as well."""
    if mask is None:
        return None
    visible = mask.new_ones if mask.dtype == torch.bool else mask.new_zeros
    return torch.cat([visible(len(mask), patches), mask], dim=1)
