"""Peak memory in a fresh process: of known amounts, and of none that its parent has."""

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from vidgen.profiling.peak_memory import Peak, ProcessDied, measure_peak

HOLDER = """
import os, signal, sys
from vidgen.profiling.peak_memory import print_peak

def hold(mib, ready):
    kept = b"x" * (ready * 2**20)

    def work():
        held = b"x" * (mib * 2**20)
        assert len(kept) + len(held) >= 0

    return work

def die(how):
    return lambda: os.kill(os.getpid(), signal.SIGKILL) if how == "killed" else 1 / 0

if __name__ == "__main__":
    print_peak(hold if "mib" in sys.argv[1] else die)
"""


@pytest.fixture
def holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "memory_holder.py").write_text(HOLDER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "memory_holder", raising=False)
    return importlib.import_module("memory_holder")


def test_known_amounts_are_found(holder: ModuleType) -> None:
    ballast = b"x" * (400 * 2**20)  # of the parent, which the child must not be charged with
    little, much = (measure_peak(holder.hold, mib=mib, ready=50) for mib in (20, 120))
    del ballast
    assert 110 <= much.work_mb <= 140 and 15 <= little.work_mb <= 60
    assert 85 <= much.peak_mb - little.peak_mb <= 115
    assert 50 <= little.before_mb <= little.peak_mb < 300


def test_a_process_that_dies_says_how(holder: ModuleType) -> None:
    with pytest.raises(ProcessDied, match="killed by signal 9; free some"):
        measure_peak(holder.die, how="killed")
    with pytest.raises(ProcessDied, match="ZeroDivisionError"):
        measure_peak(holder.die, how="failing")


def test_what_was_there_before_is_not_of_the_work() -> None:
    assert Peak(peak_mb=10.0, before_mb=4.0).work_mb == 6.0 and Peak(peak_mb=3.0, before_mb=4.0).work_mb == 0.0
