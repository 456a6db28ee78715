"""Adherence: how often a clip shows what was asked for, by the synthetic world's analytic checker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from vidgen.data.frames import float_to_levels, levels_to_float
from vidgen.data.shapes import ClipLabels, ShapeWorld, ShapeWorldConfig, check
from vidgen.diffusion.noise import sample_generator
from vidgen.metrics.intervals import wilson_interval
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.pipelines.video import VideoPipeline

MEASURES = ("colour", "shape", "motion", "all")
Progress = Callable[[int], None]


class Autoencoder(Protocol):
    """A tokenizer: pixels (b, 3, T, H, W) in [-1, 1] to their reconstruction."""

    def __call__(self, video: Tensor) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A prompt and the labels that a clip of it is checked against."""

    caption: str
    labels: ClipLabels


def held_out_world(scheduler: SchedulerConfig | None = None, max_objects: int = 1) -> ShapeWorld:
    """The world's held-out stream at a pipeline's own size, length and rate."""
    s = scheduler or SchedulerConfig()
    config = ShapeWorldConfig(
        height=s.height,
        width=s.width,
        num_frames=s.num_frames,
        fps=round(s.fps),
        max_objects=max_objects,
        split="held_out",
    )
    return ShapeWorld(config)


def held_out_prompts(world: ShapeWorld, n: int) -> list[Asked]:
    """The first n prompts of a world, with their labels; nothing is rendered."""
    return [Asked(caption=caption, labels=labels) for caption, labels in map(world.sample_prompt, range(n))]


def score_generation(
    pipe: VideoPipeline,
    asked: Sequence[Asked],
    *,
    seed: int = 0,
    batch_size: int = 8,
    progress: Progress | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Samples one clip a prompt and checks it; see `summarize` for what comes back.

    The noise of prompt i is a function of (seed, i) alone. `settings` (sampler, ...) go to the pipeline.
    """

    def clips() -> Iterator[np.ndarray]:
        for first in range(0, len(asked), batch_size):
            batch = asked[first : first + batch_size]
            generators = [sample_generator(seed, first + i) for i in range(len(batch))]
            yield from pipe([a.caption for a in batch], generator=generators, **settings).frames

    return score_clips(clips(), asked, progress)


@torch.inference_mode()
def score_reconstruction(
    tokenizer: Autoencoder, world: ShapeWorld, n: int, *, batch_size: int = 8, progress: Progress | None = None
) -> dict[str, Any]:
    """Checks a tokenizer's reconstructions of the world's first n clips: the most that sampling with it can reach."""
    weight = next(tokenizer.parameters())

    def clips() -> Iterator[np.ndarray]:
        for first in range(0, n, batch_size):
            frames = np.stack([world[i].video for i in range(first, min(first + batch_size, n))])
            video = rearrange(levels_to_float(torch.from_numpy(frames)), "b t h w c -> b c t h w")
            made = tokenizer(video.to(weight.device)).float().clamp(-1.0, 1.0)
            pixels = float_to_levels(made)
            yield from rearrange(pixels, "b c t h w -> b t h w c").cpu().numpy()

    return score_clips(clips(), held_out_prompts(world, n), progress)


def score_clips(
    clips: Iterator[np.ndarray], asked: Sequence[Asked], progress: Progress | None = None
) -> dict[str, Any]:
    """Checks uint8 clips (T, H, W, 3) against what was asked, one by one as they come."""
    rows, started = [], time.perf_counter()
    for i, (clip, want) in enumerate(zip(clips, asked, strict=True)):
        result = check(clip, want.labels)
        row = {"prompt": want.caption, **{m: bool(getattr(result, m)) for m in MEASURES}}
        rows.append(row | {"asked": result.detail["asked"], "seen": result.detail["seen"]})
        if progress is not None:
            progress(i + 1)
    return summarize(rows, time.perf_counter() - started)


def summarize(rows: Sequence[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """{"n", "colour", "shape", "motion", "all", "ci": {each: [low, high]}, "seconds_per_clip", "clips": rows}."""
    return {"n": len(rows), **shares(rows), "seconds_per_clip": seconds / len(rows), "clips": list(rows)}


def shares(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """{"colour", "shape", "motion", "all", "ci": {each: [low, high]}} of what the checker said of clips."""
    counts = {m: sum(row[m] for row in rows) for m in MEASURES}
    intervals = {m: list(wilson_interval(counts[m] / len(rows), len(rows))) for m in MEASURES}
    return {**{m: counts[m] / len(rows) for m in MEASURES}, "ci": intervals}
