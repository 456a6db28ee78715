"""What a long clip keeps: the checker window by window under prompts that change, and drift, over many stories."""

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

APART = 10_000  # prompts between the first ones of two stories
LOOKED_AT = 5_000  # prompts among which a story's next one is looked for


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A prompt of a story, what it asks for, and the frame from which it holds."""

    start: int
    prompt: str
    labels: ClipLabels


def draw_scenes(world: ShapeWorld, number: int, scenes: int, num_frames: int) -> list[Scene]:
    """Story `number`: prompts of the world about one object, of one shape, colour and size, which does something else
    each time; they share the frames equally. Raises VidgenError where a scene would be shorter than the world's clips.
    """
    length = world.config.num_frames
    if scenes < 1 or num_frames < scenes * length:
        raise VidgenError(f"{num_frames} frames are too few for {scenes} scenes of at least {length}; make it longer")
    story: list[Scene] = []
    for index in range(APART * number, APART * number + LOOKED_AT):
        prompt, labels = world.sample_prompt(index)
        thing = labels.objects[0]
        known = [scene.labels.objects[0] for scene in story]
        if known and (thing.shape, thing.colour, thing.size) != (known[0].shape, known[0].colour, known[0].size):
            continue
        if thing.motion not in {other.motion for other in known}:
            story.append(Scene(start=len(story) * num_frames // scenes, prompt=prompt, labels=labels))
        if len(story) == scenes:
            return story
    raise VidgenError(f"the world has no {scenes} motions of one object; ask for fewer prompts")


def check_windows(frames: UInt8[np.ndarray, "T h w 3"], story: Sequence[Scene], length: int) -> list[dict[str, Any]]:
    """Of every scene, windows of `length` frames one after the other from its start, as many as fit: `scene`, `start`,
    and what the checker says: `colour`, `shape`, `motion`, `all`."""
    rows = []
    ends = [scene.start for scene in story[1:]] + [len(frames)]
    for number, (scene, end) in enumerate(zip(story, ends, strict=True)):
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
    windows: Windows = WindowConfig(),  # noqa: B008 (frozen)
    **settings: Any,
) -> Iterator[dict[str, Any]]:
    """A row a story, as they are made: its `prompts`, `windows` as of `check_windows`, `drift` as of `describe_drift`
    between windows of the world's length, and `seconds`. `settings` go to the pipeline's call."""
    length = world.config.num_frames
    for number in range(n):
        story, began = draw_scenes(world, number, scenes, num_frames), time.perf_counter()
        told = [(scene.start, scene.prompt) for scene in story]
        pieces = rollout(pipe, told, num_frames, windows=windows, generator=sample_generator(seed, number), **settings)
        frames = np.concatenate([piece.frames for piece in pieces])
        seconds = time.perf_counter() - began
        parts = [measure_segment(frames[k : k + length], k) for k in range(0, num_frames - length + 1, length)]
        yield {
            "prompts": told,
            "windows": check_windows(frames, story, length),
            "drift": describe_drift(parts),
            "seconds": seconds,
        }


def summarize_rollouts(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Over stories: `windows`, of every window in time the share that is as asked; `scenes`, of the last window of each
    scene that share with its 95% interval; `drift`, medians of the last window against the first."""
    found = [
        {"scene": same[0]["scene"], "start": same[0]["start"], **shares(same)}
        for same in zip(*(row["windows"] for row in rows), strict=True)
    ]
    by_window = [{name: value for name, value in window.items() if name != "ci"} for window in found]
    scenes = list({window["scene"]: window for window in found}.values())  # the last of each
    drifts = {name: [row["drift"][name] for row in rows] for name in ("colour", "contrast", "sharpness")}
    medians = {
        name: float(np.median(known)) if (known := [v for v in values if v is not None]) else None
        for name, values in drifts.items()
    }
    return {"windows": by_window, "scenes": scenes, "drift": medians}
