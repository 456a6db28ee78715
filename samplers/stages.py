"""Stages of a call: what each hands on is finite, or the error names the one that broke."""

from __future__ import annotations

from torch import Tensor

from vidgen.checkpoints.finite import is_finite
from vidgen.errors import VidgenError


def check_stage(x: Tensor, what: str, advice: str) -> Tensor:
    """x. Raises VidgenError, `what` having given it, if there is NaN or infinity in it."""
    if not is_finite(x):
        raise VidgenError(f"{what} NaN or infinity; {advice}")
    return x
