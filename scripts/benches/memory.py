"""The most memory that some work takes, measured in a fresh process that does nothing else.

Run as a module, this is that process: `python -m vidgen.scripts.benches.memory TARGET SETTINGS`, where TARGET is
"package.module:function" and SETTINGS its keyword arguments in JSON. The function makes ready and returns the work, a
callable without arguments. No torch in here: a process is charged only for what its work imports.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidgen.errors import VidgenError
from vidgen.scripts.cli.errors import one_line
from vidgen.scripts.cli.memory import resident_bytes
from vidgen.scripts.cli.printing import peak_memory_mb

MODULE = "vidgen.scripts.benches.memory"


@dataclass(frozen=True, kw_only=True)
class Peak:
    """MiB: the most that was held, and what was held when the work began. Of the process, or of tensors on the GPU."""

    peak_mb: float
    before_mb: float

    @property
    def work_mb(self) -> float:
        """What the work added to what was there: models, inputs and imported code."""
        return max(0.0, self.peak_mb - self.before_mb)


class ProcessDied(VidgenError):
    """The process that measures memory did not come to its end, as one that the system killed for its memory."""


def measure_peak(target: str, **settings: Any) -> Peak:
    """Runs the work of `target` in a process of its own. Raises ProcessDied, with its last words, if it fails."""
    import vidgen

    home = str(Path(vidgen.__file__).resolve().parents[1])
    path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", MODULE, target, json.dumps(settings)]
    env = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = f"killed by signal {-done.returncode}" if done.returncode < 0 else one_line(done.stderr[-300:])
        raise ProcessDied(f"memory of {target} cannot be measured: {reason}; free some, or add --no-memory")
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def measure_peaks(target: str, settings: dict[str, dict[str, Any]]) -> tuple[dict[str, float], str]:
    """By the names of `settings` the peaks of their work, MiB, and what is to be said of those that died."""
    peaks, notes = {}, []
    for name, values in settings.items():
        try:
            peaks[name] = measure_peak(target, **values).peak_mb
        except ProcessDied as error:
            notes.append(str(error))
    return peaks, "; ".join(notes)


def peak_bytes() -> int:
    """The most that this process held.

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


def run(target: str, settings: dict[str, Any]) -> Peak:
    """Does the work of `target` here, and says what it took."""
    module, _, name = target.partition(":")
    work = getattr(importlib.import_module(module), name)(**settings)
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


if __name__ == "__main__":
    found = run(sys.argv[1], json.loads(sys.argv[2]))
    print(json.dumps({"peak_mb": found.peak_mb, "before_mb": found.before_mb}))
