"""What a long clip keeps: the checker window by window under prompts that change, and drift, over many clips."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vidgen.data.shapes import ClipLabels, ShapeWorld, check
from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.metrics.drift import describe_drift, measure_segment
from vidgen.pipelines.evaluation.adherence import MEASURES, shares
from vidgen.pipelines.rollout import WindowConfig, rollout
from vidgen.pipelines.video import VideoPipeline

STRIDE = 10_000  # prompts between the first ones of two schedules
SEARCHED = 5_000  # prompts among which a schedule's next one is looked for


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A prompt of a schedule, what it asks for, and the frame from which it holds."""

    start: int
    prompt: str
    labels: ClipLabels


def draw_scenes(world: ShapeWorld, number: int, scenes: int, num_frames: int) -> list[Scene]:
    """Return schedule `number` of prompts of the world, about one object that does something else each time.

    It has one shape, colour and size. The prompts share the frames equally. Raises VidgenError where a scene would be
    shorter than the world's clips.
    """
    length = world.config.num_frames
    if scenes < 1 or num_frames < scenes * length:
        raise VidgenError(f"{num_frames} frames are too few for {scenes} scenes of at least {length}; make it longer")
    schedule: list[Scene] = []
    for index in range(STRIDE * number, STRIDE * number + SEARCHED):
        prompt, labels = world.sample_prompt(index)
        thing = labels.objects[0]
        before = [scene.labels.objects[0] for scene in schedule]
        if before and (thing.shape, thing.colour, thing.size) != (before[0].shape, before[0].colour, before[0].size):
            continue
        if thing.motion not in {other.motion for other in before}:
            schedule.append(Scene(start=len(schedule) * num_frames // scenes, prompt=prompt, labels=labels))
        if len(schedule) == scenes:
            return schedule
    raise VidgenError(f"the world has no {scenes} motions of one object; ask for fewer prompts")


def check_windows(frames: UInt8[np.ndarray, "T h w 3"], schedule: Sequence[Scene], length: int) -> list[dict[str, Any]]:
    """Return a row for each window of `length` frames, as many as fit one after the other into every scene.

    It has `scene`, `start`, and what the checker says: `colour`, `shape`, `motion`, `all`.
    """
    rows = []
    ends = [scene.start for scene in schedule[1:]] + [len(frames)]
    for number, (scene, end) in enumerate(zip(schedule, ends, strict=True)):
        for start in range(scene.start, end - length + 1, length):
            result = check(frames[start : start + length], scene.labels)
            rows.append({"scene": number, "start": start, **{m: bool(getattr(result, m)) for m in MEASURES}})
    return rows


def score_rollouts(
    pipe: VideoPipeline,
    world: ShapeWorld,
    n: int,
    *,
    scenes: int,
    num_frames: int,
    seed: int = 0,
    windows: WindowConfig = WindowConfig(),  # noqa: B008 (frozen)
    **settings: Any,
) -> Iterator[dict[str, Any]]:
    """Yield a row a clip, as they are made, of n schedules of prompts.

    It has the `prompts`, `windows` as of `check_windows`, `drift` as of `describe_drift` between windows of the world's
    length, and `seconds`.

    Args:
        pipe: The model.
        world: The stream of prompts.
        n: Clips.
        scenes: Prompts of each.
        num_frames: Of a clip.
        seed: Of the noise.
        windows: How clips are cut.
        settings: Go to the pipeline's call.
    """
    length = world.config.num_frames
    for number in range(n):
        schedule, began = draw_scenes(world, number, scenes, num_frames), time.perf_counter()
        prompts = [(scene.start, scene.prompt) for scene in schedule]
        chunks = rollout(
            pipe, prompts, num_frames, windows=windows, generator=sample_generator(seed, number), **settings
        )
        frames = np.concatenate([chunk.frames for chunk in chunks])
        seconds = time.perf_counter() - began
        parts = [measure_segment(frames[k : k + length], k) for k in range(0, num_frames - length + 1, length)]
        yield {
            "prompts": prompts,
            "windows": check_windows(frames, schedule, length),
            "drift": describe_drift(parts),
            "seconds": seconds,
        }


def summarize_rollouts(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what holds over many clips.

    `windows`: of every window in time the share that is as asked; `scenes`: of the last window of each scene that share
    with its 95% interval; `drift`: medians of the last window against the first.
    """
    windows = [
        {"scene": same[0]["scene"], "start": same[0]["start"], **shares(same)}
        for same in zip(*(row["windows"] for row in rows), strict=True)
    ]
    by_window = [{name: value for name, value in window.items() if name != "ci"} for window in windows]
    scenes = list({window["scene"]: window for window in windows}.values())  # the last of each
    drifts = {name: [row["drift"][name] for row in rows] for name in ("colour", "contrast", "sharpness")}
    medians = {
        name: float(np.median(numbers)) if (numbers := [v for v in values if v is not None]) else None
        for name, values in drifts.items()
    }
    return {"windows": by_window, "scenes": scenes, "drift": medians}
