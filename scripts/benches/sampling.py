"""A denoiser of ours: bare passes through it, and the steps of sampling with guidance beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vidgen.data.frames import latent_frames
from vidgen.models.dit.presets import find_preset
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.models.text.encoders import TextEncoding
from vidgen.pipelines.loading import load_pipeline
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.pipelines.video import VideoPipeline
from vidgen.profiling.flops import count_gflops
from vidgen.profiling.peak_memory import measure_peak, print_peak
from vidgen.profiling.roofline import synchronizer
from vidgen.scripts.benches.bench_rows import BenchSettings, Row, make_row
from vidgen.scripts.benches.diffusers_autoencoders import RATIO, RATIO_T
from vidgen.scripts.benches.machine import Machine
from vidgen.scripts.benches.timing import alternate, divide_timing
from vidgen.scripts.cli.errors import one_line
from vidgen.scripts.cli.printing import note

PROMPT = "a red circle moves right"
SCALE = 4.0  # of guidance
LEVEL = 0.5  # of noise, at which a bare pass is
QUICK_STEPS = 2
PRESET = "preset:"  # before a name of VideoDiT's PRESETS: a network of that size with random weights
PRESET_LATENTS, PRESET_TEXT = (5, 32, 32), 64  # the sizes that the FLOPs of PRESETS are for


@dataclass(frozen=True, kw_only=True)
class SamplingWork:
    """`batch` clips of the size that a model makes: one pass at one noise level, or `steps` steps with guidance; with
    its blocks `compiled`, or not."""

    model: str
    device: str
    dtype: str
    batch: int
    steps: int = 0
    compiled: bool = False


def open_model(work: SamplingWork) -> VideoPipeline:
    """Return the pipeline of the work, compiled block by block: all blocks are one piece of code, compiled once."""
    if work.model.startswith(PRESET):
        pipe = make_preset(work.model.removeprefix(PRESET), work.device, getattr(torch, work.dtype))
    else:
        pipe = load_pipeline(work.model, device=work.device, dtype=getattr(torch, work.dtype))
    if work.compiled:
        for block in pipe.transformer.blocks:
            block.compile()
    return pipe


def make_preset(name: str, device: str, dtype: torch.dtype) -> VideoPipeline:
    """Return a pipeline around a VideoDiT preset with random weights, made on its device and in its precision."""
    with torch.device("meta"):
        network = VideoDiT(find_preset(name)).to(dtype)
    network = network.to_empty(device=device).eval().requires_grad_(False)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.02)
    tokens = torch.randn(2, PRESET_TEXT, network.config.text_width, device=device).to(dtype)
    mask = torch.ones(1, PRESET_TEXT, dtype=torch.bool, device=device)
    return as_pipeline(network, *(TextEncoding(tokens=row[None], mask=mask) for row in tokens), PRESET_LATENTS)


@dataclass(frozen=True, kw_only=True)
class LatentSize:
    """The compression of a tokenizer and the channels of its latents."""

    latent_channels: int
    spatial_compression_ratio: int = RATIO
    temporal_compression_ratio: int = RATIO_T


class NoTokenizer:
    """Stands in the place of a tokenizer where nothing is encoded or decoded: it has sizes alone."""

    def __init__(self, channels: int) -> None:
        self.config = LatentSize(latent_channels=channels)

    def latent_frames(self, num_frames: int) -> int:
        """Return the latent frames of a clip."""
        return latent_frames(num_frames, self.config.temporal_compression_ratio)


def as_pipeline(
    network: nn.Module, text: TextEncoding, empty: TextEncoding, latents: tuple[int, int, int]
) -> VideoPipeline:
    """Return a pipeline around a network alone, for clips of that many latents (t, h, w): every prompt is `text`, none
    is `empty`, and nothing is decoded."""
    t, h, w = latents

    def encode(prompts: list[str]) -> TextEncoding:
        rows = [text if prompt else empty for prompt in prompts]
        return TextEncoding(tokens=torch.cat([r.tokens for r in rows]), mask=torch.cat([r.mask for r in rows]))

    size = {"num_frames": 1 + RATIO_T * (t - 1), "height": RATIO * h, "width": RATIO * w}
    return VideoPipeline(NoTokenizer(network.config.latent_channels), network, encode, SchedulerConfig(**size))


def latent_shape(pipe: VideoPipeline) -> tuple[int, int, int, int]:
    """Return (c, t, h, w) of the model's own clips."""
    s = pipe.scheduler
    return pipe.latent_shape(s.num_frames, s.height, s.width)


def prepare(work: SamplingWork, pipe: VideoPipeline) -> Callable[[], Tensor]:
    """Make ready the work, with its input made, to be run any number of times. It returns the output."""
    torch.manual_seed(0)
    if work.steps:
        settings = {"num_inference_steps": work.steps, "guidance_scale": SCALE, "output_type": "latent"}
        return lambda: pipe([PROMPT] * work.batch, **settings).latents
    with torch.inference_mode():
        text = pipe.text_encoder([PROMPT] * work.batch)
    x = torch.randn(work.batch, *latent_shape(pipe), device=work.device)
    t = torch.full((work.batch,), LEVEL, device=work.device)
    return torch.inference_mode()(lambda: pipe.transformer(x, t, text=text))


def prepare_alone(**values: Any) -> Callable[[], Tensor]:
    """Make ready the work with a model of its own, for a process that measures memory."""
    work = SamplingWork(**values)
    return prepare(work, open_model(work))


def count_rows(network: nn.Module, run: Callable[[], object]) -> int:
    """Return how many clips go through `network` in `run`, each counted as often as it does."""
    rows = 0

    def count(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal rows
        rows += len(inputs[0])

    handle = network.register_forward_pre_hook(count)
    try:
        run()
    finally:
        handle.remove()
    return rows


def measure_model(settings: BenchSettings, machine: Machine, forms: tuple[bool, ...]) -> Iterator[Row]:
    """Yield two rows for each form (compiled or not): a bare pass, and a step with guidance; all timed in turns.

    A form that cannot be compiled here is left out, and a note says so.
    """
    start = SamplingWork(model=settings.model, device=settings.device, dtype=settings.dtype, batch=1)
    plain = open_model(start)
    steps = QUICK_STEPS if settings.quick else plain.scheduler.num_inference_steps
    gflops = count_gflops(prepare(start, plain))
    runs: dict[SamplingWork, Callable[[], Tensor]] = {}
    rows: dict[bool, int] = {}  # clips through the network, by form
    for compiled in forms:
        work = replace(start, compiled=compiled)
        pipe = open_model(work) if compiled else plain
        own = {0: prepare(work, pipe), steps: prepare(replace(work, steps=steps), pipe)}
        try:
            rows[compiled] = count_rows(pipe.transformer, own[steps])
        except Exception as error:  # of the compiler, which has kinds of its own: a missing C++ compiler, for one
            if not compiled:
                raise
            note(f"compiled: left out, torch.compile does not run here: {one_line(error)[:160]}")
            continue
        runs |= {replace(work, steps=n): run for n, run in own.items()}
    times = alternate(runs, rounds=settings.rounds, settle=synchronizer(settings.device)) if runs else {}
    shape = latent_shape(plain)
    tokens = plain.tokens_of(shape) * shape[1]
    for work, timing in times.items():
        size = f"{work.model.removeprefix(PRESET)} " if work.model.startswith(PRESET) else ""
        name = f"{size}{'x'.join(map(str, shape[1:]))} latents{', compiled' * work.compiled}"
        passes = 1.0
        columns: dict[str, Any] = {"latents": list(shape), "tokens": tokens, "peak_mb": peak_mb(work, settings)}
        if work.steps:
            name = f"step {plain.scheduler.sampler} {name}"
            passes = rows[work.compiled] / steps
            columns |= {"steps": steps, "passes": passes, "fps": plain.scheduler.num_frames / timing.median}
            timing = divide_timing(timing, steps)
            columns["step_over_passes"] = timing.median / (passes * times[replace(work, steps=0)].median)
        else:
            name = f"pass {name}"
        peak = machine.matmul_gflops[settings.dtype]
        rate = tokens / timing.median
        yield make_row(name, timing, gflops=passes * gflops, peak_gflops=peak, tokens_per_s=rate, **columns)


def peak_mb(work: SamplingWork, settings: BenchSettings) -> float | None:
    """Return the MiB that a process takes for the work, where the settings ask for it."""
    return measure_peak(prepare_alone, **asdict(work)).peak_mb if settings.memory else None


if __name__ == "__main__":
    print_peak(prepare_alone)
