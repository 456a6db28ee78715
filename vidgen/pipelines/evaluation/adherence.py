"""Adherence: how often a clip shows what was asked for, by the synthetic world's analytic checker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vidgen.data.frames import clamp_to_uint8, to_tensor
from vidgen.data.shapes import ClipLabels, ShapeWorld, ShapeWorldConfig, Sighting, check
from vidgen.deprecation import renamed_attributes
from vidgen.diffusion.noise import sample_generator
from vidgen.interfaces import Tokenizer
from vidgen.metrics.intervals import wilson_interval
from vidgen.models.placement import device_of
from vidgen.pipelines.priors.pipeline import PriorPipeline
from vidgen.pipelines.priors.schedule import PriorSchedule
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.pipelines.video import VideoPipeline

MEASURES = (*Sighting._fields, "all")
Progress = Callable[[int], None]
__getattr__ = renamed_attributes(__name__, {"Asked": "LabeledPrompt"})


@dataclass(frozen=True, kw_only=True)
class LabeledPrompt:
    """A prompt and the labels that a clip of it is checked against."""

    caption: str
    labels: ClipLabels


def held_out_world(scheduler: SchedulerConfig | PriorSchedule | None = None, max_objects: int = 1) -> ShapeWorld:
    """Return the world's held-out stream at a pipeline's own size, length and rate."""
    return prompt_world(scheduler or SchedulerConfig(), "held_out", max_objects)


def prompt_world(s: SchedulerConfig | PriorSchedule, split: str, max_objects: int) -> ShapeWorld:
    """Return a stream of the world at a pipeline's own size, length and rate."""
    config = ShapeWorldConfig(
        height=s.height,
        width=s.width,
        num_frames=s.num_frames,
        fps=round(s.fps),
        max_objects=max_objects,
        split=split,
    )
    return ShapeWorld(config)


def held_out_prompts(world: ShapeWorld, n: int) -> list[LabeledPrompt]:
    """Return the first n prompts of a world, with their labels; nothing is rendered."""
    return [LabeledPrompt(caption=caption, labels=labels) for caption, labels in map(world.sample_prompt, range(n))]


def score_generation(
    pipe: VideoPipeline | PriorPipeline,
    prompts: Sequence[LabeledPrompt],
    *,
    seed: int = 0,
    batch_size: int = 8,
    progress: Progress | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Sample one clip a prompt, check it, and return what `summarize` says of them.

    The noise of prompt i is a function of (seed, i) alone. `settings` (sampler, ...) go to the pipeline.
    """

    def clips() -> Iterator[np.ndarray]:
        for first in range(0, len(prompts), batch_size):
            batch = prompts[first : first + batch_size]
            generators = [sample_generator(seed, first + i) for i in range(len(batch))]
            yield from pipe([prompt.caption for prompt in batch], generator=generators, **settings).frames

    return score_clips(clips(), prompts, progress)


@torch.inference_mode()
def score_reconstruction(
    tokenizer: Tokenizer, world: ShapeWorld, n: int, *, batch_size: int = 8, progress: Progress | None = None
) -> dict[str, Any]:
    """Check a tokenizer's reconstructions of the world's first n clips: the most that sampling with it can reach."""
    device = device_of(tokenizer)

    def clips() -> Iterator[np.ndarray]:
        for first in range(0, n, batch_size):
            video = torch.stack([to_tensor(world[i].video) for i in range(first, min(first + batch_size, n))])
            yield from clamp_to_uint8(tokenizer(video.to(device)))

    return score_clips(clips(), held_out_prompts(world, n), progress)


def score_clips(
    clips: Iterator[np.ndarray], prompts: Sequence[LabeledPrompt], progress: Progress | None = None
) -> dict[str, Any]:
    """Check uint8 clips (T, H, W, 3) against what their prompts ask for, one by one as they come."""
    rows, started = [], time.perf_counter()
    for i, (clip, prompt) in enumerate(zip(clips, prompts, strict=True)):
        result = check(clip, prompt.labels)
        row = {"prompt": prompt.caption, **{m: bool(getattr(result, m)) for m in MEASURES}}
        rows.append(row | {"asked": result.detail["asked"], "seen": result.detail["seen"]})
        if progress is not None:
            progress(i + 1)
    return summarize(rows, time.perf_counter() - started)


def summarize(rows: Sequence[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Return `shares` of the rows, with their number "n", "seconds_per_clip", and "clips": the rows themselves."""
    return {"n": len(rows), **shares(rows), "seconds_per_clip": seconds / len(rows), "clips": list(rows)}


def shares(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return {"colour", "shape", "motion", "all", "ci": {each: [low, high]}} of what the checker said of clips."""
    counts = {m: sum(row[m] for row in rows) for m in MEASURES}
    intervals = {m: list(wilson_interval(counts[m] / len(rows), len(rows))) for m in MEASURES}
    return {**{m: counts[m] / len(rows) for m in MEASURES}, "ci": intervals}
