"""Our tokenizer against autoencoders of diffusers, at equal compression and work: times in turns, memory alone."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn

from vidgen.checkpoints.memory import free_bytes
from vidgen.profiling.roofline import synchroniser
from vidgen.scripts.benches.machine import Machine
from vidgen.scripts.benches.memory import ProcessDied, measure_peak
from vidgen.scripts.benches.peers import (
    ClipSize,
    Way,
    bytes_of_peer,
    check_compression,
    fit_peer,
    gflops_of_peer,
    work_of_ours,
)
from vidgen.scripts.benches.rows import BenchSettings, Row, make_row
from vidgen.scripts.benches.timing import Timing, alternate
from vidgen.scripts.benches.workloads import LAYOUTS, Workload, build_network, prepare
from vidgen.scripts.cli.errors import one_line

PREPARE = "vidgen.scripts.benches.workloads:prepare_alone"
LONG_ROUNDS = 3  # of the long clip, at most: each takes as long as many rounds of the short one
MEMORY_SHARE = 0.8  # of the free memory, that a peer may take


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """A short clip; a long one, which ours streams; and the one between, whose memory the long one's is held against,
    and which stands in for it where it is too much for a peer."""

    short: ClipSize
    base: ClipSize
    long: ClipSize


class Race:
    """The models, built once and matched, and the rows that they give."""

    def __init__(self, settings: BenchSettings, machine: Machine, sizes: Sizes, peers: tuple[str, ...]) -> None:
        self.settings, self.machine, self.sizes = settings, machine, sizes
        self.networks: dict[tuple, nn.Module] = {}
        self.settle = synchroniser(settings.device)
        self.start = Workload(
            way="encode", clip=sizes.short, device=settings.device, dtype=settings.dtype, model=settings.model
        )
        self.ours = self.network(self.start)
        if peers:
            check_compression(self.ours)
        self.shapes, self.long_shapes = (
            {name: fit_peer(name, self.ours, clip) for name in peers} for clip in (sizes.short, sizes.long)
        )

    def network(self, work: Workload) -> nn.Module:
        """The model of `work`, built when it is first asked for."""
        key = () if work.peer is None else (work.peer, work.layout, work.precision)
        if key not in self.networks:
            self.networks[key] = build_network(work)
        return self.networks[key]

    def rows(self, way: Way) -> Iterator[Row]:
        """The short clip, then the long one, through one half of the models; a row a peer, or one without any."""
        sizes, ours = self.sizes, replace(self.start, way=way)
        tried = {name: self.in_best_form(replace(ours, peer=shape)) for name, shape in self.shapes.items()}
        peers = [found for found in tried.values() if isinstance(found, Workload)]
        absent = {name: found for name, found in tried.items() if isinstance(found, str)}
        times = yield from self.race(ours, peers, absent, self.settings.rounds)
        ours = replace(ours, clip=sizes.long, streamed=True)
        peers = [
            self.bounded(replace(work, peer=self.long_shapes[work.peer.name]), times[work.peer.name].median)
            for work in peers
        ]
        yield from self.race(ours, peers, absent, min(self.settings.rounds, LONG_ROUNDS), warm_clip=sizes.base)

    def in_best_form(self, work: Workload) -> Workload | str:
        """The peer in whichever memory layout it is quicker in on the clip of `work`, or why it does not run.

        Under autocast only where it does not run without: as Cosmos' average pooling, which has no bfloat16 on a CPU.
        """
        reason = ""
        for autocast in (False,) if work.dtype == "float32" else (False, True):
            forms = {layout: replace(work, layout=layout, autocast=autocast) for layout in LAYOUTS}
            runs: dict[str, Callable[[], int]] = {}
            for layout, form in forms.items():
                try:
                    run = prepare(form, self.network(form))
                    run()
                    runs[layout] = run
                except RuntimeError as error:  # a layout or a dtype that one of its layers does not take
                    reason = reason or one_line(error)[:160]
            if runs:
                times = alternate(runs, rounds=2, warmup=0, settle=self.settle)
                return forms[min(times, key=lambda layout: times[layout].median)]
        return reason

    def bounded(self, work: Workload, seconds: float) -> Workload:
        """The peer's work on the long clip, or on the base clip where the long one takes too much time or memory.

        seconds: of the short clip.
        """
        sizes, least = self.sizes, replace(work, clip=self.sizes.base)
        if seconds * sizes.long.frames / sizes.short.frames > self.settings.peer_seconds:
            return least
        needed = bytes_of_peer(work.peer, work.way, sizes.long, work.precision)
        free = free_bytes(work.device)
        return least if free is not None and needed > MEMORY_SHARE * free else replace(work, clip=sizes.long)

    def race(
        self,
        ours: Workload,
        peers: list[Workload],
        absent: dict[str, str],
        rounds: int,
        *,
        warm_clip: ClipSize | None = None,
    ) -> Generator[Row, None, dict[str, Timing]]:
        """Times all of them in turns and yields the rows; returns the times by name.

        absent: by name, why a peer is not among them; its row says so.
        warm_clip: what the untimed round is made of, where the clips themselves are long.
        """
        works = {"ours": ours, **{work.peer.name: work for work in peers}}
        if warm_clip is not None:
            for work in works.values():
                prepare(replace(work, clip=warm_clip), self.network(work))()
        runs = {name: prepare(work, self.network(work)) for name, work in works.items()}
        came: dict[str, int] = {}

        def run(name: str) -> None:
            came[name] = runs[name]()

        warmup = 1 if warm_clip is None else 0
        times = alternate(
            {name: partial(run, name) for name in works}, rounds=rounds, warmup=warmup, settle=self.settle
        )
        runs.clear()  # their clips would be in the way of those that measure memory
        mine = {
            "ours": times["ours"],
            "gflops": work_of_ours(self.ours, ours.way, ours.clip),
            "roof": self.machine.matmul_gflops[ours.dtype],
            "fps": ours.clip.frames / times["ours"].median,
            "frames": ours.clip.frames,
            **self.own_memory(ours),
        }
        for work in peers:
            name = work.peer.name
            its = self.describe_peer(ours, work, times[name], came[name])
            yield make_row(f"{ours.way} {ours.clip}, {name}", **mine, **its)
        for name, reason in absent.items():
            yield make_row(f"{ours.way} {ours.clip}, {name}", **mine, note=f"{name} does not run: {reason}")
        if not self.shapes:
            yield make_row(f"{ours.way} {ours.clip}", **mine)
        return times

    def describe_peer(self, ours: Workload, work: Workload, times: Timing, came: int) -> dict[str, Any]:
        """What a row says of the peer, and every way in which its part of the race was not ours."""
        name, given, notes = work.peer.name, work.clip.frames, []
        if given != ours.clip.frames:
            notes.append(f"{name} ran {given} frames only: more take over its time or memory; ratio by frame")
        if work.autocast:
            notes.append(f"{name} has no {work.dtype} here: float32 under autocast")
        if came < given:
            notes.append(f"{name} gives back {came} of {given} frames")
        peak = None
        if self.settings.memory:
            try:
                peak = measure_peak(PREPARE, **work.to_json()).peak_mb
            except ProcessDied as error:
                notes.append(str(error))
        return {
            "peer": times,
            "peer_share": given / ours.clip.frames,
            "against": str(work.peer),
            "peer_frames": given,
            "peer_fps": given / times.median,
            "peer_gflops": gflops_of_peer(work.peer, work.way, replace(work.clip, frames=came)),
            "peer_layout": work.layout,
            "peer_autocast": work.autocast,
            "peer_peak_mb": peak,
            "note": "; ".join(notes),
        }

    def own_memory(self, ours: Workload) -> dict[str, Any]:
        """Peaks of processes of their own; of a streamed clip also over the peak of the base clip.

        `peak_ratio` is of the whole processes, `work_ratio` without the model and the code that were there before.
        """
        if not self.settings.memory:
            return {}
        peak = measure_peak(PREPARE, **ours.to_json())
        found: dict[str, Any] = {"peak_mb": peak.peak_mb, "work_mb": peak.work_mb}
        if ours.streamed:
            base = measure_peak(PREPARE, **replace(ours, clip=self.sizes.base).to_json())
            found |= {"base_frames": self.sizes.base.frames, "base_peak_mb": base.peak_mb}
            found["peak_ratio"] = peak.peak_mb / base.peak_mb
            found["work_ratio"] = peak.work_mb / base.work_mb if base.work_mb > 0 else None
        return found
