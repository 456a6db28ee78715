"""Entries of key maps: a tensor's name and shape in a published checkpoint, and where it lies in our model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from einops import rearrange
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Order:
    """An axis whose parts lie in another order in ours than in theirs: both as einops has them, such as "c q r"."""

    ours: str
    theirs: str
    sizes: Mapping[str, int]
    axis: int = 0

    def to_ours(self, tensor: Tensor) -> Tensor:
        """Return their tensor in our order."""
        return self._move(tensor, self.theirs, self.ours)

    def to_theirs(self, tensor: Tensor) -> Tensor:
        """Return our tensor in their order."""
        return self._move(tensor, self.ours, self.theirs)

    def _move(self, tensor: Tensor, before: str, after: str) -> Tensor:
        moved = rearrange(tensor.movedim(self.axis, 0), f"({before}) ... -> ({after}) ...", **self.sizes)
        return moved.movedim(0, self.axis)


@dataclass(frozen=True, kw_only=True)
class Key:
    """One tensor of theirs, `name` of `shape`, which is our tensor `ours`, or these `rows` of it.

    `order` is another order of our entries, if they have one. `wide` ones stay in float32 where a model is read in half
    precision, as the published class keeps them.
    """

    ours: str
    name: str
    shape: tuple[int, ...]
    rows: slice | None = None
    order: Order | None = None
    wide: bool = False

    def to_ours(self, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return their tensor as ours, in its `shape`."""
        tensor = tensor.reshape(shape)
        return tensor if self.order is None else self.order.to_ours(tensor)

    def to_theirs(self, tensor: Tensor) -> Tensor:
        """Return our whole tensor as theirs."""
        tensor = tensor if self.rows is None else tensor[self.rows]
        return (tensor if self.order is None else self.order.to_theirs(tensor)).reshape(self.shape)
