"""What an objective returns."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

# The loss, a scalar with its gradient, and named scalars without one, for the log.
LossAndParts = tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]
