"""`vidgen bench dit`: the denoiser alone and in sampling, as it comes and compiled; our sizes; Wan beside diffusers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vidgen.models.dit.presets import PRESETS
from vidgen.scripts.benches.bench_rows import BenchSettings, Row
from vidgen.scripts.benches.machine import Machine
from vidgen.scripts.benches.sampling import PRESET, measure_model
from vidgen.scripts.benches.wan_denoiser import measure_denoiser

CASES = ("model", "compiled", "presets", "wan")
PEERS = ("diffusers",)


def measure(settings: BenchSettings, machine: Machine) -> Iterator[Row]:
    """Yield the rows of the chosen cases, as they are done."""
    cases = CASES if settings.only is None else settings.only
    if forms := tuple(case == "compiled" for case in ("model", "compiled") if case in cases):
        yield from measure_model(settings, machine, forms)
    compiled = "compiled" in cases
    if "presets" in cases:
        for name in ("S",) if settings.quick else PRESETS:
            yield from measure_model(replace(settings, model=f"{PRESET}{name}"), machine, (False, True)[: 1 + compiled])
    if "wan" in cases:
        peer = settings.peers is None or "diffusers" in settings.peers
        yield from measure_denoiser(settings, machine, with_peer=peer, compiled=compiled)
