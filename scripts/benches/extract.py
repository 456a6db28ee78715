"""`vidgen bench extract`: features against the bare pass and against keeping all, search, and a bank beyond memory."""

from __future__ import annotations

from collections.abc import Iterator

from vidgen.scripts.benches.bank import measure_bank
from vidgen.scripts.benches.bench_rows import BenchSettings, Row
from vidgen.scripts.benches.features import measure_layers
from vidgen.scripts.benches.machine import Machine
from vidgen.scripts.benches.search import measure_search

CASES = ("layers", "search", "bank")
PEERS = ("hooks", "sklearn", "faiss")


def measure(settings: BenchSettings, machine: Machine) -> Iterator[Row]:
    """Yield the rows of the chosen cases and peers, as they are done. A bare pass is always beside a layer."""
    cases = CASES if settings.only is None else settings.only
    peers = PEERS if settings.peers is None else settings.peers
    if "layers" in cases:
        yield from measure_layers(settings, machine)
    if "search" in cases:
        yield from measure_search(settings, machine, tuple(name for name in peers if name != "hooks"))
    if "bank" in cases:
        yield from measure_bank(settings)
