"""Whether weights fit in the memory that is free, and in words what would."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from vidgen.checkpoints.free_memory import free_bytes
from vidgen.errors import VidgenError


def describe_bytes(count: int) -> str:
    """12.3MB, 4.0GB: as `--max-memory` takes it, rounded up."""
    unit, name = (10**9, "GB") if count >= 10**9 else (10**6, "MB")
    return f"{-(-count * 10 // unit) / 10:.1f}{name}"


def weight_bytes(tensors: Iterable[tuple[int, torch.dtype]], dtype: torch.dtype | None) -> int:
    """Bytes of tensors (their number of elements, and as they are stored) once those with a fraction are in `dtype`;
    None leaves them as they are."""
    return sum(
        count * (dtype if dtype is not None and stored.is_floating_point else stored).itemsize
        for count, stored in tensors
    )


def check_weights(
    where: Path, tensors: Iterable[tuple[int, torch.dtype]], dtype: torch.dtype | None, device: str
) -> None:
    """Raises VidgenError if the weights at `where` are more than what is free on `device`, and says what would fit."""
    tensors, free = list(tensors), free_bytes(device)
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
