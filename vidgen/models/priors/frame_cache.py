"""A block-causal prior frame by frame: what is masked in the next frame, after the frames that are done."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.models.causal_attention import FrameLayout, KVCache, over_groups
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.models.priors.token_values import Tokens
from vidgen.models.text.encoders import TextEncoding


class CachedFrames:
    """`MaskedLogits` of the next frame of a prior of order "frames": what `TokenPrior.forward` says there.

    Args:
        prior: Of order "frames".
        size: Cells (h, w) of a frame.
        text: What is read of a text, for each clip.
        conditions: `class_id`, and `actions` of as many frames as there will be.
    """

    def __init__(
        self, prior: TokenPrior, size: tuple[int, int], text: TextEncoding | None = None, **conditions: Any
    ) -> None:
        if prior.config.order != "frames":
            raise ValueError(f"a prior of order {prior.config.order} is not made frame by frame")
        prior.check_conditions(text, conditions.get("class_id"), conditions.get("actions"))
        self.prior, self.size, self.conditions = prior, size, conditions
        self.text = prior.read_text(text)
        self.cache = KVCache(prior.config.window, prior.config.sinks)
        self.done = 0  # frames

    def __call__(self, tokens: Tokens) -> Float[Tensor, "b n v"]:
        """Return the logits of the next frame's tokens, of which those that are `MASK` are predicted."""
        x = self.run(tokens, self.cache.layout(1))
        return self.prior.predict(x, torch.arange(tokens.shape[1], device=x.device))

    def extend(self, tokens: Tokens) -> None:
        """Take a frame's tokens as done."""
        self.run(tokens, self.cache.layout(1, extend=True))
        self.done += 1

    def run(self, tokens: Tokens, layout: FrameLayout) -> Float[Tensor, "b n d"]:
        """Return the last block's output for the tokens of one frame."""
        prior = self.prior
        own = {name: value for name, value in self.conditions.items() if value is not None}
        if "actions" in own:
            own["actions"] = own["actions"][:, self.done : self.done + 1]
        x = prior.embed_masked(tokens, (1, *self.size), **own)
        rotary = prior.rotary_of((layout.span, *self.size), x)
        attend = partial(prior.attend, causal=False)
        for i, block in enumerate(prior.blocks):
            pattern = partial(over_groups, attend, layout=layout, layer=i, frames=1, rotary=rotary)
            x = block(x, pattern, self.text[i])
        return x
