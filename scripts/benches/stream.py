"""`vidgen bench stream`: the chunks of a causal model from its cache against whole passes; long streams."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.models.causal_attention import KVCache, causal_layout, iter_chunks
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.pipelines.streaming.chunk_sampler import is_causal
from vidgen.pipelines.video import VideoPipeline
from vidgen.profiling.peak_memory import compare_lengths, print_peak
from vidgen.profiling.roofline import synchronizer
from vidgen.scripts.benches.bench_rows import BenchSettings, Row, make_row
from vidgen.scripts.benches.machine import Machine
from vidgen.scripts.benches.sampling import LEVEL, PROMPT, SamplingWork, latent_shape, open_model
from vidgen.scripts.benches.timing import Timing, alternate, quartiles

CASES = ("cached", "length")
PEERS = ("uncached",)
CONTEXTS = (1, 2, 5)  # windows of frames that are done before the chunk
FRAMES, QUICK_FRAMES = 2000, 60
BASE = 10  # what part of the whole length the memory is held against


def measure(settings: BenchSettings, machine: Machine) -> Iterator[Row]:
    """Yield the rows of the chosen cases, as they are done."""
    cases = CASES if settings.only is None else settings.only
    pipe = open_causal(settings.model, settings.device, settings.dtype)
    if "cached" in cases:
        with_peer = settings.peers is None or "uncached" in settings.peers
        for windows in CONTEXTS[:1] if settings.quick else CONTEXTS:
            yield measure_chunk(pipe, windows, settings, machine, with_peer=with_peer)
    if "length" in cases:
        yield measure_length(pipe, settings)


def open_causal(model: str, device: str, dtype: str) -> VideoPipeline:
    """Return the pipeline of a model, or of its causal student; a denoiser that is not causal is made so. Raises
    VidgenError for another library's."""
    pipe = open_model(SamplingWork(model=model, device=device, dtype=dtype, batch=1))
    if not isinstance(pipe.transformer, VideoDiT):
        raise VidgenError(f"{model}: a published model, which does not stream; name one of vidgen's own")
    if pipe.student is not None and is_causal(pipe.student.transformer):
        return pipe.student
    if not is_causal(pipe.transformer):
        chunk = min(2, max(1, latent_shape(pipe)[1] // 2))  # of those that it makes at once, a first one stays in sight
        pipe.transformer = pipe.transformer.with_chunks((1, chunk)).requires_grad_(False)
    return pipe


@torch.inference_mode()
def measure_chunk(
    pipe: VideoPipeline, windows: int, settings: BenchSettings, machine: Machine, *, with_peer: bool
) -> Row:
    """Return the time of a pass over a chunk after so many windows, from the cache and, as the peer, with all frames
    in the pass. Both make the same prediction."""
    c, window, h, w = latent_shape(pipe)
    network, chunks = pipe.transformer, pipe.transformer.config.causal_chunks
    past = windows * window
    starts = [start for start, _ in iter_chunks(chunks, past + max(chunks))]
    past = max(start for start in starts if start <= past)  # chunks that are whole
    frames = past + chunks[1]
    torch.manual_seed(0)
    x = torch.randn(1, c, frames, h, w, device=settings.device)
    levels = torch.zeros(1, frames, device=settings.device)
    levels[:, past:] = LEVEL
    text, cache = network.prepare_text(pipe.text_encoder([PROMPT])), KVCache()
    for start, stop in iter_chunks(chunks, past):
        layout = cache.layout(stop - start, extend=True)
        network(x[:, :, start:stop], levels[:, start:stop], text, layout=layout)

    def from_cache() -> Tensor:
        return network(x[:, :, past:], levels[:, past:], text, layout=cache.layout(frames - past))

    def whole() -> Tensor:
        return network(x, levels, text, layout=causal_layout(frames, chunks))[:, :, past:]

    runs: dict[str, Callable[[], Tensor]] = {"cached": from_cache} | ({"uncached": whole} if with_peer else {})
    times = alternate(runs, rounds=settings.rounds, settle=synchronizer(settings.device))
    tokens = pipe.tokens_of((c, frames, h, w))
    columns: dict[str, Any] = {"context_frames": past, "tokens": tokens * (frames - past)}
    if with_peer:
        columns["max_abs_diff"] = (from_cache() - whole()).abs().max().item()
        columns |= {"against": "uncached", "peer_layout": "all frames in each pass", "peer_autocast": False}
    return make_row(
        f"pass of {frames - past} latent frames after {past} ({windows} windows)",
        times["cached"],
        gflops=None,
        peak_gflops=machine.matmul_gflops[settings.dtype],
        peer=times.get("uncached"),
        **columns,
    )


def measure_length(pipe: VideoPipeline, settings: BenchSettings) -> Row:
    """Return how a long stream goes on: its frames a second in all, in its first and in its last tenth, and its memory
    against that of a tenth of it."""
    frames = QUICK_FRAMES if settings.quick else FRAMES
    seconds, counts = time_chunks(pipe, frames)
    part = max(2, len(seconds) // BASE)
    first, last = slice(1, 1 + part), slice(-1 - part, -1)  # the first chunk is shorter, and the last may be
    fps = {name: sum(counts[s]) / sum(seconds[s]) for name, s in (("first_fps", first), ("last_fps", last))}
    columns: dict[str, Any] = {**fps, "fps": sum(counts) / sum(seconds), "frames": frames}
    if settings.memory:
        work = StreamWork(model=settings.model, device=settings.device, dtype=settings.dtype, frames=frames // BASE)
        columns |= compare_lengths(prepare_alone, work, replace(work, frames=frames))
    low, high = quartiles(tuple(seconds))
    note = f"{fps['first_fps']:.3g} frames/s in the first tenth, {fps['last_fps']:.3g} in the last"
    note += f"; a chunk takes {low:.3g} to {high:.3g} s (quartiles)"
    whole = Timing(seconds=(sum(seconds),))
    return make_row(f"stream of {frames} frames", whole, gflops=None, peak_gflops=None, said=note, **columns)


def time_chunks(pipe: VideoPipeline, frames: int) -> tuple[list[float], list[int]]:
    """Return the seconds and the number of frames of each chunk of a stream."""
    seconds, counts = [], []
    started = time.perf_counter()
    for chunk in pipe.stream(PROMPT, frames):
        seconds.append(time.perf_counter() - started)
        counts.append(len(chunk.frames))
        started = time.perf_counter()
    return seconds, counts


@dataclass(frozen=True, kw_only=True)
class StreamWork:
    """A stream of so many frames, whose frames are not kept."""

    model: str
    device: str
    dtype: str
    frames: int


def prepare_alone(**values: Any) -> Callable[[], object]:
    """Make ready a stream with a model of its own, for a process that measures memory."""
    work = StreamWork(**values)
    pipe = open_causal(work.model, work.device, work.dtype)
    return lambda: time_chunks(pipe, work.frames)


if __name__ == "__main__":
    print_peak(prepare_alone)
