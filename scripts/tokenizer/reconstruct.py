"""One clip through a tokenizer and back: to a file if wanted, with its PSNR, piece by piece."""

from __future__ import annotations

import time
from collections.abc import Iterator
from math import log10
from typing import TYPE_CHECKING, Any

from vidgen.scripts.cli.clips import ClipJob, Cut, open_frames
from vidgen.scripts.cli.printing import progress

if TYPE_CHECKING:
    from torch import Tensor

    from vidgen.scripts.tokenizer.clip_codecs import Codec


class ErrorSum:
    """Mean squared error of a clip whose frames come in pieces."""

    def __init__(self) -> None:
        self.total = 0.0
        self.count = 0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add a piece of the original, (3, t, h, w), and of its reconstruction."""
        for original, result in zip(x.unbind(1), y.unbind(1), strict=True):  # in float64, a frame at a time
            self.total += (original.double() - result.double()).square().sum().item()
        self.count += x.numel()

    def psnr(self) -> float:
        """Return the peak signal-to-noise ratio (dB) of pixels in [-1, 1], as `vidgen.metrics.psnr` of a whole clip."""
        from vidgen.metrics import PSNR_CEILING

        mse = self.total / self.count
        return min(PSNR_CEILING, 10.0 * log10(4.0 / mse)) if mse > 0 else PSNR_CEILING


def reconstruct_clip(codec: Codec, job: ClipJob, cut: Cut, side_by_side: bool) -> dict[str, Any]:
    """Encode and decode one clip, write it if the job names a file, and return its row of the report.

    Raises VidgenError, with nothing written, if the clip cannot be read or the file not be written.
    """
    import torch

    from vidgen.data.writing import write_video

    started = time.perf_counter()
    error = ErrorSum()
    opened = open_frames(job.record.path, cut, job.record)
    codec.check_size(*opened.first_size)  # before a frame of that size is made

    def pieces() -> Iterator[Tensor]:
        with progress(job.record.path.name, opened.expected) as advance:
            for original, result in codec.reconstruct(opened.counted(advance)):
                error.add(original, result)
                for x, y in zip(original.split(1, dim=1), result.split(1, dim=1), strict=True):
                    yield torch.cat([x, y], dim=3) if side_by_side else y

    if job.output is not None:
        job.output.parent.mkdir(parents=True, exist_ok=True)
        write_video(pieces(), job.output, fps=opened.fps)
    else:
        for _ in pieces():
            pass
    height, width = opened.size
    row = {"path": str(job.record.path), "frames": opened.count, "height": height, "width": width}
    row |= {"psnr": round(error.psnr(), 3), "seconds": round(time.perf_counter() - started, 2)}
    return row | {"output": str(job.output) if job.output else None, "note": "; ".join(opened.problems)}
