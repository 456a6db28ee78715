"""Where a module's weights lie, and in which precision."""

from __future__ import annotations

import torch
from torch import nn


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's first parameter. Raises StopIteration for a module without any."""
    return next(module.parameters()).device


def dtype_of(module: nn.Module) -> torch.dtype:
    """Return the dtype of a module's first parameter. Raises StopIteration for a module without any."""
    return next(module.parameters()).dtype


class PlacedModule(nn.Module):
    """A module that says where its weights lie, in which precision, and how many they are."""

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return device_of(self)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return dtype_of(self)

    def num_parameters(self, only_trainable: bool = False) -> int:
        """Return how many parameters there are; those that are trained, if `only_trainable`."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad or not only_trainable)
