"""A bank far larger than the memory that reading it takes: written once, read from end to end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidgen.errors import VidgenError
from vidgen.profiling.peak_memory import measure_peak, print_peak
from vidgen.representations.bank import BankRow, BankWriter, FeatureBank
from vidgen.scripts.benches.bench_rows import BenchSettings, Row, make_row
from vidgen.scripts.benches.timing import alternate

GIGABYTES, QUICK_GIGABYTES = 10.0, 0.02
KEYS, WIDTH, SHARD = 8, 4096, 256  # a row is 128 KiB, a shard 32 MiB
ROUNDS = 2  # at most: a round reads it all


def write_bank(folder: Path, gigabytes: float) -> int:
    """Write a bank of so many 10^9 bytes of features, and return their exact number."""
    keys = [f"dit.blocks.{i}@t=0.10" for i in range(KEYS)]
    count = max(1, round(gigabytes * 1e9 / (KEYS * WIDTH * 4)))
    noise = torch.randn(SHARD, WIDTH, generator=torch.Generator().manual_seed(0))
    with BankWriter(folder, {"keys": keys, "pool": "mean"}, shard_rows=SHARD) as writer:
        for start in range(0, count, SHARD):
            rows = [BankRow(id=str(i)) for i in range(start, min(start + SHARD, count))]
            writer.add(rows, {key: noise[: len(rows)] + start for key in keys})
    return count * KEYS * WIDTH * 4


def read_whole(folder: Path) -> float:
    """Return the sum of all features: every one of them is read."""
    total = 0.0
    for _, features in FeatureBank.load(folder).shards():
        total += sum(float(x.sum(dtype=np.float64)) for x in features.values())
    return total


def prepare_alone(folder: str) -> Callable[[], float]:
    """Make ready the reading, in a process that measures memory."""
    return lambda: read_whole(Path(folder))


def measure_bank(settings: BenchSettings) -> Iterator[Row]:
    """Yield one row: seconds, bytes a second, and peak memory. Raises VidgenError where the disk has no room."""
    gigabytes = settings.bank_gb or (QUICK_GIGABYTES if settings.quick else GIGABYTES)
    free = shutil.disk_usage(tempfile.gettempdir()).free / 1e9
    if free < 1.1 * gigabytes:
        raise VidgenError(
            f"a bank of {gigabytes:g} GB does not fit into {tempfile.gettempdir()}, where {free:.1f} GB are free; "
            "make it smaller by --bank-gb, or set TMPDIR"
        )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bank"
        size = write_bank(folder, gigabytes)
        rounds = min(settings.rounds, ROUNDS)
        times = alternate({"ours": lambda: read_whole(folder)}, rounds=rounds, warmup=0)["ours"]
        rate = size / 1e9 / times.median
        values: dict[str, Any] = {"bank_gb": size / 1e9, "gb_per_s": rate}
        if settings.memory:
            peak = measure_peak(prepare_alone, folder=str(folder))
            values |= {"peak_mb": peak.peak_mb, "work_mb": peak.work_mb}
    name = f"a bank of {size / 1e9:.3g} GB, read whole"
    yield make_row(name, times, gflops=None, peak_gflops=None, said=f"{rate:.2f} GB/s", **values)


if __name__ == "__main__":
    print_peak(prepare_alone)
