"""What the parts of a call hand on to each other is finite, or an error names the part that broke."""

from __future__ import annotations

from torch import Tensor

from vidgen.checkpoints.finite import is_finite
from vidgen.errors import VidgenError


def require_finite(x: Tensor, source: str, advice: str) -> Tensor:
    """Return x. Raises VidgenError, which says that `source` NaN or infinity, if there is any in it."""
    if not is_finite(x):
        raise VidgenError(f"{source} NaN or infinity; {advice}")
    return x
