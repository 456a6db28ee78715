"""Where a module's weights lie, and in which precision."""

from __future__ import annotations

import torch
from torch import nn

from vidgen.errors import VidgenError


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's first parameter. Raises StopIteration for a module without any."""
    return next(module.parameters()).device


def dtype_of(module: nn.Module) -> torch.dtype:
    """Return the dtype of a module's first parameter. Raises StopIteration for a module without any."""
    return next(module.parameters()).dtype


def has_fast_bfloat16(device: str) -> bool:
    """Return whether the device multiplies in bfloat16 rather than emulating it, which takes several times as long."""
    if device.startswith("cuda"):
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    tests = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return device == "cpu" and any(getattr(torch.cpu, test, lambda: False)() for test in tests)


def fast_precision(device: str) -> str:
    """Return "bfloat16" where the device multiplies in it, else "float32"."""
    return "bfloat16" if has_fast_bfloat16(device) else "float32"


def loading_dtype(dtype: torch.dtype | str | None, device: str) -> torch.dtype | None:
    """Return the dtype to load weights in, None being that of their file.

    "auto" is that of the file where the device computes in bfloat16, and float32 where it would emulate it. Raises
    VidgenError for another name.
    """
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    if dtype != "auto":
        raise VidgenError(f"dtype {dtype!r} is none; give one of torch's, None for that of the file, or 'auto'")
    return None if has_fast_bfloat16(device) else torch.float32


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
