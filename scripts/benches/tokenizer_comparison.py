"""Our tokenizer against autoencoders of diffusers, at equal compression and work: times in turns, memory alone."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn

from vidgen.checkpoints.memory import free_bytes
from vidgen.profiling.peak_memory import ProcessDied, measure_peak
from vidgen.profiling.roofline import synchronizer
from vidgen.scripts.benches.bench_rows import BenchSettings, Row, make_row
from vidgen.scripts.benches.diffusers_autoencoders import (
    ClipSize,
    Way,
    check_compression,
    fit_peer,
    peer_bytes,
    peer_gflops,
    tokenizer_gflops,
)
from vidgen.scripts.benches.machine import Machine
from vidgen.scripts.benches.timing import Timing, alternate
from vidgen.scripts.benches.tokenizer_workload import LAYOUTS, Workload, build_network, prepare, prepare_alone
from vidgen.scripts.cli.errors import one_line

LONG_ROUNDS = 3  # of the long clip, at most: each takes as long as many rounds of the short one
MEMORY_SHARE = 0.8  # of the free memory, that a peer may take


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """A short clip; a long one, which ours streams; and `base`, between them: the long one's memory is compared with
    its own, and it replaces the long one where that is too much for a peer."""

    short: ClipSize
    base: ClipSize
    long: ClipSize


class TokenizerComparison:
    """Our tokenizer and its peers, built once and matched in FLOPs, timed in turns."""

    def __init__(self, settings: BenchSettings, machine: Machine, sizes: Sizes, peers: tuple[str, ...]) -> None:
        self.settings = settings
        self.machine = machine
        self.sizes = sizes
        self.networks: dict[tuple, nn.Module] = {}
        self.settle = synchronizer(settings.device)
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
        """Return the model of `work`, built at the first call."""
        key = () if work.peer is None else (work.peer, work.layout, work.precision)
        if key not in self.networks:
            self.networks[key] = build_network(work)
        return self.networks[key]

    def rows(self, way: Way) -> Iterator[Row]:
        """Yield the rows of the short clip, then of the long one, through one half of the models."""
        sizes = self.sizes
        ours = replace(self.start, way=way)
        forms = {name: self.in_best_form(replace(ours, peer=shape)) for name, shape in self.shapes.items()}
        peers = [form for form in forms.values() if isinstance(form, Workload)]
        absent = {name: reason for name, reason in forms.items() if isinstance(reason, str)}
        times = yield from self.measure(ours, peers, absent, self.settings.rounds)
        ours = replace(ours, clip=sizes.long, streamed=True)
        peers = [
            self.bounded(replace(work, peer=self.long_shapes[work.peer.name]), times[work.peer.name].median)
            for work in peers
        ]
        yield from self.measure(ours, peers, absent, min(self.settings.rounds, LONG_ROUNDS), warm_clip=sizes.base)

    def in_best_form(self, work: Workload) -> Workload | str:
        """Return the peer in the memory layout in which it is quicker on the clip of `work`, or why it does not run.

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
        """Return the peer's work on the long clip, or on the base clip where that takes too much time or memory.

        seconds: of the short clip.
        """
        sizes = self.sizes
        shorter = replace(work, clip=sizes.base)
        if seconds * sizes.long.frames / sizes.short.frames > self.settings.peer_seconds:
            return shorter
        needed = peer_bytes(work.peer, work.way, sizes.long, work.precision)
        free = free_bytes(work.device)
        return shorter if free is not None and needed > MEMORY_SHARE * free else replace(work, clip=sizes.long)

    def measure(
        self,
        ours: Workload,
        peers: list[Workload],
        absent: dict[str, str],
        rounds: int,
        *,
        warm_clip: ClipSize | None = None,
    ) -> Generator[Row, None, dict[str, Timing]]:
        """Time ours and the peers in turns and yield the rows; return the times by name.

        Args:
            ours: our work.
            peers: the work of the peers.
            absent: by name, why a peer does not run; its row says so.
            rounds: how often each is timed.
            warm_clip: the clip of the untimed round, where the clips themselves are long.
        """
        works = {"ours": ours, **{work.peer.name: work for work in peers}}
        if warm_clip is not None:
            for work in works.values():
                prepare(replace(work, clip=warm_clip), self.network(work))()
        runs = {name: prepare(work, self.network(work)) for name, work in works.items()}
        output_frames: dict[str, int] = {}

        def run(name: str) -> None:
            output_frames[name] = runs[name]()

        warmup = 1 if warm_clip is None else 0
        times = alternate(
            {name: partial(run, name) for name in works}, rounds=rounds, warmup=warmup, settle=self.settle
        )
        runs.clear()  # their clips would be in the way of those that measure memory
        columns = {
            "ours": times["ours"],
            "gflops": tokenizer_gflops(self.ours, ours.way, ours.clip),
            "peak_gflops": self.machine.matmul_gflops[ours.dtype],
            "fps": ours.clip.frames / times["ours"].median,
            "frames": ours.clip.frames,
            **self.own_memory(ours),
        }
        for work in peers:
            name = work.peer.name
            peer = self.describe_peer(ours, work, times[name], output_frames[name])
            yield make_row(f"{ours.way} {ours.clip}, {name}", **columns, **peer)
        for name, reason in absent.items():
            yield make_row(f"{ours.way} {ours.clip}, {name}", **columns, note=f"{name} does not run: {reason}")
        if not self.shapes:
            yield make_row(f"{ours.way} {ours.clip}", **columns)
        return times

    def describe_peer(self, ours: Workload, work: Workload, times: Timing, output_frames: int) -> dict[str, Any]:
        """Return the columns of a row on the peer, with a note on every way in which its work was not ours."""
        name = work.peer.name
        frames = work.clip.frames
        notes: list[str] = []
        if frames != ours.clip.frames:
            notes.append(f"{name} ran {frames} frames only: more take over its time or memory; ratio by frame")
        if work.autocast:
            notes.append(f"{name} has no {work.dtype} here: float32 under autocast")
        if output_frames < frames:
            notes.append(f"{name} gives back {output_frames} of {frames} frames")
        peak = None
        if self.settings.memory:
            try:
                peak = measure_peak(prepare_alone, **work.to_json()).peak_mb
            except ProcessDied as error:
                notes.append(str(error))
        return {
            "peer": times,
            "peer_share": frames / ours.clip.frames,
            "against": str(work.peer),
            "peer_frames": frames,
            "peer_fps": frames / times.median,
            "peer_gflops": peer_gflops(work.peer, work.way, replace(work.clip, frames=output_frames)),
            "peer_layout": work.layout,
            "peer_autocast": work.autocast,
            "peer_peak_mb": peak,
            "note": "; ".join(notes),
        }

    def own_memory(self, ours: Workload) -> dict[str, Any]:
        """Return the peaks of processes of their own; of a streamed clip also over the peak of the base clip.

        `peak_ratio` is of the whole processes, `work_ratio` without the model and the code that were there before.
        """
        if not self.settings.memory:
            return {}
        peak = measure_peak(prepare_alone, **ours.to_json())
        columns: dict[str, Any] = {"peak_mb": peak.peak_mb, "work_mb": peak.work_mb}
        if ours.streamed:
            base = measure_peak(prepare_alone, **replace(ours, clip=self.sizes.base).to_json())
            columns |= {"base_frames": self.sizes.base.frames, "base_peak_mb": base.peak_mb}
            columns["peak_ratio"] = peak.peak_mb / base.peak_mb
            columns["work_ratio"] = peak.work_mb / base.work_mb if base.work_mb > 0 else None
        return columns
