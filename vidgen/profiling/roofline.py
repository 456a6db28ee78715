"""The roofline of this machine: its peak rates of matrix products and convolutions, to compare other rates with."""

from __future__ import annotations

import time
from collections.abc import Callable


def synchronizer(device: str) -> Callable[[], None]:
    """Return a function that waits until `device` has done all that it was given."""
    import torch

    if device.startswith("cuda"):
        return lambda: torch.cuda.synchronize(device)
    return torch.mps.synchronize if device == "mps" else lambda: None


def rate_of(run: Callable[[], object], gflop: float, *, device: str, seconds: float) -> float:
    """Return the GFLOP/s of `run`, which does `gflop`, over and over for some seconds."""
    settle = synchronizer(device)
    run()
    settle()
    count = 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        run()
        settle()
        count += 1
    return gflop * count / (time.perf_counter() - started)


def matmul_rate(dtype_name: str, *, device: str = "cpu", side: int = 512, seconds: float = 0.15) -> float:
    """Return the GFLOP/s of a square matrix product, measured for a moment."""
    import torch

    x = torch.randn(side, side, device=device).to(getattr(torch, dtype_name))
    return rate_of(lambda: x @ x, 2e-9 * side**3, device=device, seconds=seconds)


def convolution_rate(
    dtype_name: str, *, device: str = "cpu", width: int = 128, side: int = 64, seconds: float = 0.15
) -> float:
    """Return the GFLOP/s of a 3x3x3 convolution of 9 frames, `width` channels in and out that lie last, measured for a
    moment."""
    import torch

    placement = {"device": device, "dtype": getattr(torch, dtype_name)}
    layout = torch.channels_last_3d
    x = torch.randn(1, width, 9, side, side).to(**placement).contiguous(memory_format=layout)
    weight = torch.randn(width, width, 3, 3, 3).to(**placement).contiguous(memory_format=layout)
    gflop = 2e-9 * 7 * (side - 2) ** 2 * 27 * width**2
    with torch.inference_mode():
        return rate_of(lambda: torch.conv3d(x, weight), gflop, device=device, seconds=seconds)
