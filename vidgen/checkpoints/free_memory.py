"""How much memory can still be had."""

from __future__ import annotations

from pathlib import Path


def free_bytes(device: str) -> int | None:
    """Memory that can still be had on `device`; None where the system does not say."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None
