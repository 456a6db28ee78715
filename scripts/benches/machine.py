"""What a bench ran on, and the rate of matrix products there: the roof that all other rates are held against."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidgen.roof import matmul_rate

SLICES = 8  # the roof is the best of so many short measurements: what else the machine does only ever lowers it


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A description in plain values, and GFLOP/s of a matrix product by the name of the dtype."""

    about: dict[str, Any]
    matmul_gflops: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        return {**self.about, "matmul_gflops": {name: float(f"{v:.6g}") for name, v in self.matmul_gflops.items()}}


def cpu_name() -> str:
    """The processor as the system names it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def count_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def look_at_machine(device: str, dtypes: tuple[str, ...], *, quick: bool = False) -> Machine:
    """The machine with the roof of each dtype; `quick` takes a rough one of small matrices."""
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
    side = 256 if quick else 8192 if device.startswith("cuda") else 2048
    slices, seconds = (1, 0.02) if quick else (SLICES, 0.3)
    rates = {
        name: max(matmul_rate(name, device=device, side=side, seconds=seconds) for _ in range(slices))
        for name in dict.fromkeys(dtypes)
    }
    return Machine(about=about, matmul_gflops=rates)
