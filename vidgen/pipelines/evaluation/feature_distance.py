"""Generated clips against real ones, by features of a model of ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vidgen.data.frames import to_tensor
from vidgen.data.shapes import ShapeWorld
from vidgen.diffusion.noise import sample_generator
from vidgen.metrics.kid import kernel_distance
from vidgen.pipelines.evaluation.adherence import Progress
from vidgen.pipelines.gan.pipeline import GANPipeline
from vidgen.pipelines.priors.pipeline import PriorPipeline
from vidgen.pipelines.video import VideoPipeline
from vidgen.representations.extractor import FeatureExtractor

Maker = VideoPipeline | PriorPipeline | GANPipeline
Features = dict[str, Float[np.ndarray, "n d"]]
Batch = tuple[list[str], list[UInt8[np.ndarray, "T h w 3"]]]  # ids and clips


def generated_batches(
    pipe: Maker, world: ShapeWorld, n: int, *, seed: int, batch_size: int, **settings: Any
) -> Iterator[Batch]:
    """Yield clips of the world's first n prompts; the noise of clip i is that of `score_generation`."""
    for first in range(0, n, batch_size):
        numbers = range(first, min(first + batch_size, n))
        generators = [sample_generator(seed, i) for i in numbers]
        prompts = [world.sample_prompt(i)[0] for i in numbers]
        yield [f"generated {i}" for i in numbers], pipe(prompts, generator=generators, **settings).frames


def real_batches(world: ShapeWorld, numbers: Sequence[int], batch_size: int) -> Iterator[Batch]:
    """Yield the world's own clips of these numbers."""
    for first in range(0, len(numbers), batch_size):
        some = numbers[first : first + batch_size]
        yield [f"real {i}" for i in some], [world[i].video for i in some]


def extract_batches(
    extractor: FeatureExtractor, batches: Iterator[Batch], progress: Progress | None = None
) -> Features:
    """Return features of clips as they come, by key, a row a clip; nothing else of them is kept in memory."""
    rows: dict[str, list[torch.Tensor]] = {key: [] for key in extractor.keys}
    done = 0
    for ids, clips in batches:
        features = extractor(torch.stack([to_tensor(clip) for clip in clips]), ids=ids).features
        for key, x in features.items():
            rows[key].append(x.flatten(1).cpu())
        done += len(ids)
        if progress is not None:
            progress(done)
    return {key: torch.cat(parts).numpy() for key, parts in rows.items()}


def compare_features(real: Features, generated: Features, *, seed: int = 0) -> list[dict[str, Any]]:
    """Return a row for each key that both have: `KernelDistance` as a dict."""
    return [
        {"key": key, **asdict(kernel_distance(real[key], generated[key], seed=seed))}
        for key in real
        if key in generated
    ]


def score_distance(
    pipe: Maker,
    extractor: FeatureExtractor,
    world: ShapeWorld,
    n: int,
    *,
    seed: int = 0,
    batch_size: int = 8,
    progress: Progress | None = None,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Return the distance of n generated clips from 2 n of the world's own, of other prompts, and the floor of these.

    Args:
        pipe: The model.
        extractor: What the distance is in.
        world: The stream of clips.
        n: Generated clips.
        seed: Of their noise.
        batch_size: Clips at once.
        progress: Counts clips, 3 n in all.
        settings: Go to the pipeline's call.
    """
    batches = generated_batches(pipe, world, n, seed=seed, batch_size=batch_size, **settings)
    generated = extract_batches(extractor, batches, progress)
    later = None if progress is None else lambda done: progress(n + done)
    real = extract_batches(extractor, real_batches(world, range(n, 3 * n), batch_size), later)
    return compare_features(real, generated, seed=seed)
