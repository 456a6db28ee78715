"""How much memory a process takes: now, at most so far, and at most for some work in a fresh process of its own.

No torch in here: a process is charged only for what its work imports.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vidgen.errors import VidgenError

Prepare = Callable[..., Callable[[], object]]  # makes ready some work, from settings in JSON, and returns it


@dataclass(frozen=True, kw_only=True)
class Peak:
    """Memory in MiB at most and when the work began: of the process, or of tensors on the GPU."""

    peak_mb: float
    before_mb: float

    @property
    def work_mb(self) -> float:
        """What the work added to what was there: models, inputs and imported code."""
        return max(0.0, self.peak_mb - self.before_mb)


class ProcessDied(VidgenError):
    """The process that measures memory did not come to its end, as one that the system killed for its memory."""


def measure_peak(prepare: Prepare, **settings: Any) -> Peak:
    """Return the peak memory of the work that `prepare(**settings)` makes ready, run in a process of its own.

    That process runs the module of `prepare`, which calls `print_peak(prepare)` where it is the main one.
    Raises ProcessDied, with the last words of the process, if it fails.
    """
    import subprocess

    import vidgen

    module = prepare.__module__
    home = str(Path(vidgen.__file__).resolve().parents[1])
    path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", module, json.dumps(settings)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = " ".join(done.stderr[-300:].split())
        reason = f"killed by signal {-done.returncode}" if done.returncode < 0 else words
        raise ProcessDied(f"memory of {module} cannot be measured: {reason}; free some, or add --no-memory")
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def measure_peaks(prepare: Prepare, **works: Any) -> tuple[dict[str, float], str]:
    """Return the peaks in MiB by name, and a note on the processes that died.

    works: by name, a dataclass whose fields are the settings of `prepare`; None is left out.
    """
    peaks: dict[str, float] = {}
    notes: list[str] = []
    for name, work in works.items():
        if work is None:
            continue
        try:
            peaks[name] = measure_peak(prepare, **asdict(work)).peak_mb
        except ProcessDied as error:
            notes.append(str(error))
    return peaks, "; ".join(notes)


def compare_lengths(prepare: Prepare, base: Any, whole: Any) -> dict[str, Any]:
    """Return the peak of a `whole` work and that of a shorter one, `base`, as columns of a bench's row; where a process
    died a note on it.

    base, whole: dataclasses as of `measure_peaks`, which have `frames`.
    """
    peaks, reason = measure_peaks(prepare, base=base, whole=whole)
    columns: dict[str, Any] = {"note": reason} if reason else {}
    if len(peaks) == 2:
        columns |= {"peak_mb": peaks["whole"], "base_frames": base.frames, "base_peak_mb": peaks["base"]}
        columns["peak_ratio"] = peaks["whole"] / peaks["base"]
    return columns


def print_peak(prepare: Prepare) -> None:
    """Do the work in this process and print its peak for `measure_peak`; settings are the first argument, in JSON."""
    print(json.dumps(asdict(peak_of(prepare(**json.loads(sys.argv[1]))))))


def peak_of(work: Callable[[], object]) -> Peak:
    """Return the peak memory of some work in this process: of tensors on the GPU where CUDA is in use."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated()
    else:
        before = resident_bytes()
        work()
        peak = peak_bytes()
    return Peak(peak_mb=round(peak / 2**20, 1), before_mb=round(before / 2**20, 1))


def peak_bytes() -> int:
    """Return the most bytes that this process held.

    Linux keeps it with the address space (VmHWM). `getrusage`, which is asked elsewhere, would not do there: through
    fork and exec a child inherits its parent's peak.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return round((peak_memory_mb() or 0.0) * 2**20)


def peak_memory_mb() -> float | None:
    """Return the most memory that this process held so far, in MiB; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def resident_bytes() -> int:
    """Return the bytes that this process holds in memory now; where the system does not say, the most so far."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    except (ImportError, OSError, IndexError, ValueError):
        return round((peak_memory_mb() or 0) * 2**20)
