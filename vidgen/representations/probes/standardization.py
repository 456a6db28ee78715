"""Standardization of features: channels less their mean and over their standard deviation, for numpy and torch alike.

scikit-learn's estimators have its own `StandardScaler` in front of them (see `estimators.standardized`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float

Array = TypeVar("Array", np.ndarray, torch.Tensor)
Blocks = Callable[[], Iterable[Float[np.ndarray, "m c"]]]  # all rows in their order, in pieces, as often as called


@dataclass(frozen=True, kw_only=True, eq=False)
class Standardizer(Generic[Array]):
    """Mean and standard deviation of channels, fitted on some features and applied to these or others."""

    mean: Array
    std: Array

    @classmethod
    def fit(
        cls,
        x: Array,
        axes: int | tuple[int, ...] = 0,
        *,
        correction: int = 0,
        least: float = 1e-6,
        constant: float = 1.0,
        keepdims: bool = False,
    ) -> Standardizer[Array]:
        """Return the standardizer of `x`.

        Args:
            x: features, a numpy array or a tensor.
            axes: the axes that the mean and the standard deviation are taken over.
            correction: what the number of values is lessened by in the standard deviation.
            least: the standard deviation up to which a channel counts as constant.
            constant: the standard deviation that constant channels get: 1 leaves their unit, infinity drops them.
            keepdims: keeps the axes that were reduced, with length 1.
        """
        if isinstance(x, torch.Tensor):
            std = x.std(axes, correction=correction, keepdim=keepdims)
            return cls(mean=x.mean(axes, keepdim=keepdims), std=torch.where(std > least, std, constant))
        std = x.std(axes, ddof=correction, keepdims=keepdims)
        return cls(mean=x.mean(axes, keepdims=keepdims), std=np.where(std > least, std, constant))

    @classmethod
    def fit_blocks(cls, blocks: Blocks) -> Standardizer[np.ndarray]:
        """Return the float32 standardizer of rows that come in blocks, in the memory of one.

        It takes two sums around the first block's mean, so that nothing cancels. Raises ValueError for no rows.
        """
        shift, first, second, count = None, 0.0, 0.0, 0
        for block in blocks():
            x = block.astype(np.float64)
            shift = x.mean(0) if shift is None else shift
            first, second, count = first + (x - shift).sum(0), second + ((x - shift) ** 2).sum(0), count + len(x)
        if shift is None:
            raise ValueError("a standardizer needs at least one row, got none")
        std = np.sqrt(np.maximum(second / count - (first / count) ** 2, 0))
        mean = shift + first / count
        return cls(mean=mean.astype(np.float32), std=np.where(std > 1e-12, std, 1.0).astype(np.float32))

    def transform(self, x: Array) -> Array:
        """Return features less the mean and over the standard deviation."""
        return (x - self.mean) / self.std

    def inverse_transform(self, x: Array) -> Array:
        """Return features of which `transform` made `x`."""
        return x * self.std + self.mean
