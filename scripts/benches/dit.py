"""`vidgen bench dit`: the denoiser alone and in sampling, as it comes and compiled."""

from __future__ import annotations

from collections.abc import Iterator

from vidgen.scripts.benches.machine import Machine
from vidgen.scripts.benches.rows import BenchSettings, Row
from vidgen.scripts.benches.sampling import measure_model

CASES = ("model", "compiled")
PEERS = ()


def measure(settings: BenchSettings, machine: Machine) -> Iterator[Row]:
    """The rows of the cases that were asked for, as they are done."""
    cases = CASES if settings.only is None else settings.only
    if forms := tuple(case == "compiled" for case in ("model", "compiled") if case in cases):
        yield from measure_model(settings, machine, forms)
