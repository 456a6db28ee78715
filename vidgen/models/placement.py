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
