"""The rate of matrix products on this machine: the roof that all other rates are held against."""

from __future__ import annotations

import time
from collections.abc import Callable


def synchroniser(device: str) -> Callable[[], None]:
    """A function that waits until `device` has done all that it was given."""
    import torch

    if device.startswith("cuda"):
        return lambda: torch.cuda.synchronize(device)
    return torch.mps.synchronize if device == "mps" else lambda: None


def matmul_rate(dtype_name: str, *, device: str = "cpu", side: int = 512, seconds: float = 0.15) -> float:
    """GFLOP/s of a square matrix product, measured for a moment."""
    import torch

    settle = synchroniser(device)
    x = torch.randn(side, side, device=device).to(getattr(torch, dtype_name))
    x @ x
    settle()
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        x @ x
        settle()
        count += 1
    return 2e-9 * side**3 * count / (time.perf_counter() - started)
