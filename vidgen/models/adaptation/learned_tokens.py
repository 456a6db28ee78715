"""Tokens that are learned beside those of a clip: prompts, which are tokens like others, and memory, which is read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.models.adaptation.config import MemoryConfig, PromptConfig
from vidgen.models.adaptation.token_adaptation import TokenAdaptation, attention_blocks
from vidgen.models.attention import Heads
from vidgen.models.encoders.video_vit import VideoViT, attend_beside, attend_rotated
from vidgen.models.rope import Rotary, apply_rotary_emb
from vidgen.models.transformer_block import TransformerBlock

STD = 0.02


def unrotated_first(rotary: Rotary, count: int) -> Rotary:
    """Return the rotary table of tokens that have `count` without a place before them."""
    before = (0, 0, count, 0)
    return Rotary(F.pad(rotary.cos, before, value=1.0), F.pad(rotary.sin, before))


class Prompts(TokenAdaptation):
    """Learned tokens before those of the clip (Jia et al. 2022, VPT, eqs. 4 and 5 shallow, 6 deep), without a place of
    their own. Drawn as there, uniform by the fan of a patch. Raises VidgenError for another mixer than joint."""

    def __init__(self, encoder: VideoViT, config: PromptConfig) -> None:
        super().__init__(encoder, config)
        depth, width = len(attention_blocks(encoder, "prompt", ("joint",))), encoder.config.width
        bound = math.sqrt(6.0 / (encoder.patch_in.in_features + width))
        shape = (depth if config.deep else 1, config.tokens, width)
        self.prompts = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))

    def iter_tokens(
        self, encoder: VideoViT, video: Tensor, keep: Int[Tensor, "b k"] | None
    ) -> Iterator[Float[Tensor, "b k d"]]:
        """Yield the stream before the first block and after each, without prompts."""
        x, _, rotary = encoder.begin(video, keep)
        yield x
        count = self.config.tokens
        attend = partial(attend_rotated, rotary=unrotated_first(rotary, count))
        prompts = self.prompts.to(x.dtype)
        joined = x
        for i, block in enumerate(encoder.blocks):
            if i < len(prompts):
                rest = joined[:, count:] if i else joined
                joined = torch.cat([prompts[i].expand(len(x), -1, -1), rest], dim=1)
            joined = block(joined, attend, None)
            yield joined[:, count:]


class Memory(TokenAdaptation):
    """Learned keys and values at every block, from tokens that are no queries (Sandler et al. 2022, Learnable Memory,
    eq. 2). Raises VidgenError for another mixer than joint.

    Where `masked` (section 3.2) the clip's tokens attend to each other alone, so that the frozen encoder's output is
    unchanged, and a class token that is learned attends to them, to the memory and to itself.
    """

    def __init__(self, encoder: VideoViT, config: MemoryConfig) -> None:
        super().__init__(encoder, config)
        depth, width = len(attention_blocks(encoder, "memory", ("joint",))), encoder.config.width
        self.memory = nn.Parameter(torch.randn(depth, config.tokens, width) * STD)
        self.class_tokens = 1 if config.masked else 0
        self.class_token = nn.Parameter(torch.randn(1, width) * STD) if config.masked else None

    def iter_tokens(
        self, encoder: VideoViT, video: Tensor, keep: Int[Tensor, "b k"] | None
    ) -> Iterator[Float[Tensor, "b k+c d"]]:
        """Yield the stream before the first block and after each; the class token comes last."""
        x, _, rotary = encoder.begin(video, keep)
        own = None if self.class_token is None else self.class_token.to(x.dtype).expand(len(x), -1, -1)
        yield x if own is None else torch.cat([x, own], dim=1)
        for block, memory in zip(encoder.blocks, self.memory.to(x.dtype), strict=True):
            beside = block.attention.keys_values(block.norm1(memory.expand(len(x), -1, -1)))
            if own is None:
                x = block(x, partial(attend_beside, rotary=rotary, keys=beside[:1], values=beside[1:]), None)
                yield x
            else:
                x, own = self.step(block, (x, own), beside, rotary)
                yield torch.cat([x, own], dim=1)

    def step(
        self, block: TransformerBlock, stream: tuple[Tensor, Tensor], memory: tuple[Heads, Heads], rotary: Rotary
    ) -> tuple[Tensor, Tensor]:
        """Return the clip's tokens and the class token after a block."""
        x, own = stream
        keys, values = block.attention.keys_values(block.norm1(x))
        keys, values = (memory[0], apply_rotary_emb(keys, rotary)), (memory[1], values)
        own = block(own, partial(attend_beside, rotary=None, keys=keys, values=values), None)
        return block(x, partial(attend_rotated, rotary=rotary), None), own
