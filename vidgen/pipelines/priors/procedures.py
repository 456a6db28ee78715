"""Procedures: sequences of step labels of which some are known, filled in by a prior of order "masked" or "random".

The steps between a start and a goal (planning), or those after the ones so far (anticipation), are what a masked
diffusion over labels gives. Where the task of a procedure is known, its class conditions the prior, and labels of other
tasks are left out (Fang et al. 2023, Masked-PDPP, section 3.2: diffusion restricted by a mask of the task's actions).
"""

from __future__ import annotations

from functools import cache, partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vidgen.diffusion.noise import Generators
from vidgen.errors import VidgenError
from vidgen.interfaces import MaskedLogits
from vidgen.models.priors.any_order import AnyOrderLogits
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.samplers.autoregressive.categorical import PLAIN, TokenSampling
from vidgen.samplers.masked.any_order import sample_any_order


def procedure_logits(
    prior: TokenPrior, class_id: Int[Tensor, " b"] | None = None, allowed: Bool[Tensor, "b v"] | None = None
) -> MaskedLogits:
    """Return a prior's logits of the steps of procedures, those of labels that are not `allowed` being -inf.

    One function serves one decoding: of order "random" it remembers in which order steps became known. Raises
    VidgenError for a prior of another order, and for tasks that allow nothing.
    """
    if prior.config.order not in ("masked", "random") or prior.config.codes != 1 or prior.config.words:
        raise VidgenError(
            f"procedures are filled in by a prior of order masked or random with one codebook and no words, not of "
            f"order {prior.config.order} with {len(prior.config.books.sizes)}"
        )
    if allowed is not None and not bool(allowed.any(1).all()):
        raise VidgenError(f"task {int((~allowed.any(1)).nonzero()[0])} allows no label; allow one or more")

    @cache
    def model(length: int) -> MaskedLogits:
        grid = (1, 1, length)
        if prior.config.order == "random":
            return AnyOrderLogits(prior, grid, class_id=class_id)
        return partial(prior, grid=grid, class_id=class_id)

    def logits(steps: Int[Tensor, "b n"]) -> Float[Tensor, "b n v"]:
        scores = model(steps.shape[1])(steps)
        return scores if allowed is None else scores.masked_fill(~allowed[:, None], float("-inf"))

    return logits


@torch.inference_mode()
def complete_procedure(
    prior: TokenPrior,
    steps: Int[Tensor, "b n"],
    generators: Generators,
    *,
    class_id: Int[Tensor, " b"] | None = None,
    allowed: Bool[Tensor, "b v"] | None = None,
    sampling: TokenSampling = PLAIN,
) -> Int[Tensor, "b n"]:
    """Draw the unknown steps of procedures, one a pass, each given all that are known; the known ones stay.

    Raises VidgenError as `procedure_logits` and `sample_any_order`.

    Args:
        prior: Over labels, of order "masked" or "random".
        steps: Labels, `MASK` where they are unknown: all but the first and the last for a plan, those after some moment
            for anticipation.
        generators: One a procedure, or one for all.
        class_id: The task of each procedure, of a prior with classes; `classes` stands for none.
        allowed: The labels that the task of each procedure has.
        sampling: How labels are drawn; temperature 0 takes the most probable.
    """
    return sample_any_order(procedure_logits(prior, class_id, allowed), steps, sampling, generators)
