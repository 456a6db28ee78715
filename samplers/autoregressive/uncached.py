"""A causal model without a cache: the plain form that those with one are held against."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.errors import VidgenError


class UncachedModel:
    """A SequenceModel over a function of all tokens so far, which is asked for everything anew at each call.

    `logits(tokens (b, n))` gives (b, n + 1, v): those of the first token, and of the one after each. `calls` counts
    how often it was asked. Continuous tokens have `channels`.
    """

    def __init__(
        self,
        logits: Callable[[Int[Tensor, "b n"]], Float[Tensor, "b n_plus_1 v"]],
        batch: int,
        device: torch.device | str = "cpu",
        channels: int = 0,
    ) -> None:
        self.logits = logits
        self.tokens = torch.zeros(batch, 0, dtype=torch.int64, device=device)
        if channels:
            self.tokens = torch.zeros(batch, 0, channels, device=device)
        self.calls = 0

    @property
    def length(self) -> int:
        """How many tokens are read."""
        return self.tokens.shape[1]

    def start(self) -> Float[Tensor, "b v"]:
        """Return the logits of the first token."""
        self.calls += 1
        return self.logits(self.tokens[:, :0])[:, 0]

    def extend(self, tokens: Int[Tensor, "b k"]) -> Float[Tensor, "b k v"]:
        """Read k tokens more, and return the logits of the token after each of them."""
        self.calls += 1
        self.tokens = torch.cat([self.tokens, tokens], dim=1)
        return self.logits(self.tokens)[:, self.length - tokens.shape[1] + 1 :]

    def rewind(self, length: int) -> None:
        """Forget the tokens from `length` on. Raises VidgenError for more tokens than were read."""
        check_rewind(length, self.length)
        self.tokens = self.tokens[:, :length]


def check_rewind(length: int, held: int) -> None:
    """Raise VidgenError unless a model of `held` tokens can go back to `length`."""
    if not 0 <= length <= held:
        raise VidgenError(f"cannot rewind to {length} tokens: the model has read {held}")
