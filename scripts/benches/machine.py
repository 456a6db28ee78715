"""What a bench ran on, and the peak rates of matrix products and convolutions there."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidgen.profiling.roofline import convolution_rate, matmul_rate

SLICES = 8  # the peak rate is the best of so many short measurements: other work on the machine only lowers it


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A description in plain values, and GFLOP/s of a matrix product and of a convolution by the name of the dtype."""

    about: dict[str, Any]
    matmul_gflops: dict[str, float]
    conv_gflops: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return the description and the rates, to six digits."""
        rates = {"matmul_gflops": self.matmul_gflops, "conv_gflops": self.conv_gflops}
        return {**self.about, **{key: {n: float(f"{v:.6g}") for n, v in of.items()} for key, of in rates.items()}}


def cpu_name() -> str:
    """Return the name of the processor as the system has it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def count_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def inspect_machine(device: str, dtypes: tuple[str, ...], *, quick: bool = False) -> Machine:
    """Return the machine with its peak rates for each dtype; `quick` takes rough ones of small matrices."""
    import torch

    about = {
        "cpu": cpu_name(),
        "cores": count_cores(),
        "threads": torch.get_num_threads(),
        "device": device,
        "device_name": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        "torch": torch.__version__,
        "diffusers": importlib.metadata.version("diffusers"),
    }
    side, conv_side = (256, 16) if quick else (8192, 256) if device.startswith("cuda") else (2048, 64)
    slices, seconds = (1, 0.02) if quick else (SLICES, 0.3)
    names = tuple(dict.fromkeys(dtypes))

    def best(measure: Callable[..., float], **size: int) -> dict[str, float]:
        settings = {"device": device, "seconds": seconds, **size}
        return {name: max(measure(name, **settings) for _ in range(slices)) for name in names}

    return Machine(
        about=about, matmul_gflops=best(matmul_rate, side=side), conv_gflops=best(convolution_rate, side=conv_side)
    )
