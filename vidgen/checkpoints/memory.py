"""Memory that is free, whether weights fit in it, and in words what would."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from vidgen.errors import VidgenError

if TYPE_CHECKING:
    import torch


def free_bytes(device: str) -> int | None:
    """Return the bytes of memory that are free on `device`, None where the system does not say."""
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


def describe_bytes(count: int) -> str:
    """Return a number of bytes as `--max-memory` takes it, rounded up: 12.3MB, 4.0GB."""
    unit, name = (10**9, "GB") if count >= 10**9 else (10**6, "MB")
    return f"{-(-count * 10 // unit) / 10:.1f}{name}"


def check_bytes(needed: int, what: str, advice: str, device: str = "cpu") -> None:
    """Raise VidgenError where work takes more bytes than are free on `device`, before any of it is done.

    Args:
        needed: what it takes at least.
        what: what takes it, as the line begins: "a batch of 8 clips".
        advice: what to change.
        device: where it is taken.
    """
    free = free_bytes(device)
    if free is not None and needed > free:
        raise VidgenError(
            f"{what} takes {describe_bytes(needed)} at least, and {describe_bytes(free)} are free on {device}; {advice}"
        )


def weight_bytes(tensors: Iterable[tuple[int, torch.dtype]], dtype: torch.dtype | None) -> int:
    """Return the bytes of tensors (their number of elements, and as they are stored) once those with a fraction are in
    `dtype`; None leaves them as they are."""
    return sum(
        count * (dtype if dtype is not None and stored.is_floating_point else stored).itemsize
        for count, stored in tensors
    )


def check_weights(
    where: Path, tensors: Iterable[tuple[int, torch.dtype]], dtype: torch.dtype | None, device: str
) -> None:
    """Raise VidgenError if the weights at `where` are more than what is free on `device`, and say what would fit."""
    import torch

    tensors = list(tensors)
    free = free_bytes(device)
    needed = weight_bytes(tensors, dtype)
    if free is None or needed <= free:
        return
    half = weight_bytes(tensors, torch.bfloat16)
    precision = "as stored" if dtype is None else f"in {str(dtype).removeprefix('torch.')}"
    if half > free:
        advice = f"{describe_bytes(min(half, needed))} at least are wanted: free some, or take a smaller model"
    else:
        advice = f"in bfloat16 they would fit, with {describe_bytes(half)}"
    raise VidgenError(
        f"{where}: its weights take {describe_bytes(needed)} {precision}, and {describe_bytes(free)} are free on "
        f"{device}; {advice}"
    )
