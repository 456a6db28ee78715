"""Classifier-free guidance of token priors, on log-probabilities: two models in, a model out.

log p = log u + scale (log c - log u), normalized, c being the law under the condition and u that without (Ho & Salimans
2022, eq. 6, of categorical laws, as in Muse, Chang et al. 2023). It acts where the share of tokens that are done
lies in an interval, both ends included; elsewhere the conditional law alone counts.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.bounds import GuidanceScale, check_value
from vidgen.errors import VidgenError
from vidgen.interfaces import MASK, MaskedLogits, SequenceModel
from vidgen.samplers.autoregressive.categorical import log_probabilities
from vidgen.samplers.autoregressive.uncached import check_rewind

Interval = tuple[float, float]  # of the share of tokens that are done
ALWAYS: Interval = (0.0, 1.0)
Combine = Callable[[Tensor, Tensor, float], Tensor]


def guided_logits(cond: Float[Tensor, "... v"], uncond: Float[Tensor, "... v"], scale: float) -> Float[Tensor, "... v"]:
    """Return the guided law's logits in float64; scale 1 is `cond`, 0 is `uncond` where `cond` leaves a token at all.

    A token that `cond` rules out stays out. One that `uncond` alone rules out has the conditional law's logit, where
    the formula would make it certain.
    """
    cond, uncond = log_probabilities(cond), log_probabilities(uncond)
    uncond = torch.where(torch.isfinite(uncond), uncond, cond)
    return torch.where(torch.isfinite(cond), uncond + scale * (cond - uncond), -torch.inf)


def check_guidance(scale: float, interval: Interval) -> None:
    """Raise VidgenError for a scale or an interval that is none."""
    check_value(scale, GuidanceScale, "guidance_scale")
    if len(interval) != 2 or not 0.0 <= interval[0] <= interval[1] <= 1.0:
        raise VidgenError(
            f"guidance_interval is {interval}; two shares of tokens done are wanted, 0 <= low <= high <= 1"
        )


class GuidedSequenceModel:
    """A SequenceModel that is guided: `cond` under the condition, `uncond` without it, or a weaker model.

    Token i of `num_tokens` is guided where i / num_tokens lies in the interval. `uncond` reads tokens only once its
    logits are wanted: all at once at the interval's start, and none after its end. `combine(cond, uncond, scale)` makes
    one output of both; one of another shape than theirs, as continuous tokens have it, has no interval. Raises
    VidgenError for models that have read tokens before, and for a scale or interval that is none.
    """

    def __init__(
        self,
        cond: SequenceModel,
        uncond: SequenceModel,
        scale: float,
        num_tokens: int,
        interval: Interval = ALWAYS,
        combine: Combine = guided_logits,
    ) -> None:
        check_guidance(scale, interval)
        if cond.length or uncond.length:
            raise VidgenError("guidance begins with models that have read nothing; rewind both to 0")
        self.cond, self.uncond, self.scale, self.interval = cond, uncond, scale, interval
        self.num_tokens, self.combine = num_tokens, combine
        self._tokens: Tensor | None = None  # those that `cond` has read, for `uncond` to catch up

    @property
    def length(self) -> int:
        """How many tokens are read."""
        return self.cond.length

    def start(self) -> Float[Tensor, "b v"]:
        """Return the logits of the first token."""
        logits = self.cond.start()
        return self.combine(logits, self.uncond.start(), self.scale) if self._acts(0) else logits

    def extend(self, tokens: Int[Tensor, "b k"]) -> Float[Tensor, "b k v"]:
        """Read k tokens more, and return the guided logits of the token after each of them."""
        logits = self.cond.extend(tokens)
        self._tokens = tokens if self._tokens is None else torch.cat([self._tokens, tokens], dim=1)
        k = tokens.shape[1]
        acts = torch.tensor([self._acts(i) for i in range(self.length - k + 1, self.length + 1)], device=logits.device)
        if not bool(acts.any()):
            return logits
        uncond = self.uncond.extend(self._tokens[:, self.uncond.length :])[:, -k:]
        guided = self.combine(logits, uncond, self.scale)
        if bool(acts.all()):
            return guided
        return torch.where(acts[None, :, None], guided, logits.to(guided))

    def rewind(self, length: int) -> None:
        """Forget the tokens from `length` on. Raises VidgenError for more tokens than were read."""
        check_rewind(length, self.length)
        self.cond.rewind(length)
        self._tokens = None if self._tokens is None else self._tokens[:, :length]
        if self.uncond.length > length:
            self.uncond.rewind(length)

    def _acts(self, i: int) -> bool:
        """Whether token i is guided."""
        low, high = self.interval
        i = min(i, self.num_tokens - 1)  # what would come after the last token is as that one
        return self.scale != 1.0 and low <= i / self.num_tokens <= high


def guide_masked(cond: MaskedLogits, uncond: MaskedLogits, scale: float, interval: Interval = ALWAYS) -> MaskedLogits:
    """Return masked logits that are guided in the sequences whose share of known tokens lies in the interval.

    Raises VidgenError for a scale or interval that is none.
    """
    check_guidance(scale, interval)
    if scale == 1.0:
        return cond
    low, high = interval

    def logits(tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b n v"]:
        share = (tokens != MASK).double().mean(1)
        acts = (share >= low) & (share <= high)
        conditional = cond(tokens)
        if not bool(acts.any()):
            return conditional
        # logits at known tokens are nobody's business, and may be anything: they pass as they are
        guided = conditional.double()
        wanted = (tokens == MASK) & acts[:, None]
        guided[wanted] = guided_logits(conditional[wanted], uncond(tokens)[wanted], scale)
        return guided

    return logits
