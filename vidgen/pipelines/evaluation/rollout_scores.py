"""What a long clip keeps: the checker window by window under prompts that change, and drift, over many clips."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from vidgen.data.shapes import ClipLabels, ShapeWorld, check, describe, draw_next_scene, draw_story, locate_object
from vidgen.data.shapes.stories import STORY_STREAM
from vidgen.data.shapes.tracking import MIN_CHROMA, chroma
from vidgen.data.shapes.world import clip_generator
from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.metrics.drift import describe_drift, measure_segment
from vidgen.pipelines.evaluation.adherence import MEASURES, shares
from vidgen.pipelines.rollout import Rollout, WindowConfig, rollout
from vidgen.pipelines.video import VideoPipeline


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A prompt of a story, what it asks for, and the frame that it goes on from."""

    start: int
    prompt: str
    labels: ClipLabels


class Director:
    """Asks for what one object of the world does next, where a clip has got to: never for what it has no room for.

    Raises VidgenError where a scene would be shorter than the world's clips.

    Args:
        world: Where stories come from.
        number: Of the story.
        num_frames: Of the clip.
        scenes: Prompts, which share the frames equally; None for as many as fit, each as long as the world's clips.
    """

    def __init__(self, world: ShapeWorld, number: int, num_frames: int, scenes: int | None = None) -> None:
        self.config, self.num_frames = world.config, num_frames
        least = world.config.num_frames - 1  # between the frame that a scene goes on from and its last
        scenes = max((num_frames - 1) // least, 1) if scenes is None else scenes
        if scenes < 1 or num_frames - 1 < scenes * least:
            raise VidgenError(
                f"{num_frames} frames are too few for {scenes} scenes of at least {least} after the first frame; make "
                "it longer"
            )
        self.least, self.count = least, scenes
        self.length = (num_frames - 1) // scenes
        self.rng = clip_generator(world.config, number, STORY_STREAM)
        self.scenes: list[Scene] = []
        self.add(0, draw_story(world.config, number, 1)[0])

    def add(self, start: int, labels: ClipLabels) -> None:
        """Begin a scene. Its prompt says nothing of the background, which is the clip's own."""
        prompt = describe(labels, self.rng)
        while "background" in prompt:
            prompt = describe(labels, self.rng)
        self.scenes.append(Scene(start=start, prompt=prompt, labels=labels))

    def follow(self, done: int, frame: UInt8[np.ndarray, "h w 3"]) -> str | None:
        """Return the next prompt where the scene is over, of a clip of which `done` frames are there, `frame` the last;
        None where it goes on."""
        last = done - 1
        is_over = last - self.scenes[-1].start >= self.length
        if not is_over or len(self.scenes) == self.count or last + self.least >= self.num_frames:
            return None
        there = locate_object(frame, self.scenes[-1].labels, self.config)
        self.add(last, draw_next_scene(self.rng, there, self.config))
        return self.scenes[-1].prompt


def film(chunks: Rollout, director: Director) -> UInt8[np.ndarray, "T h w 3"]:
    """Return the frames of a clip whose prompts are the director's."""
    frames: list[np.ndarray] = []
    prompt: str | None = None
    with contextlib.suppress(StopIteration):
        while True:
            chunk = chunks.send(prompt)
            frames.append(chunk.frames)
            prompt = director.follow(chunk.start + len(chunk.frames), chunk.frames[-1])
    return np.concatenate(frames)


def check_windows(frames: UInt8[np.ndarray, "T h w 3"], story: Sequence[Scene], length: int) -> list[dict[str, Any]]:
    """Return a row for each window of `length` frames, as many as fit one after the other into every scene; a window
    begins with the last frame of the one before.

    It has `scene`, `start`, and what the checker says: `colour`, `shape`, `motion`, `all`.
    """
    rows = []
    ends = [scene.start for scene in story[1:]] + [len(frames) - 1]
    for number, (scene, end) in enumerate(zip(story, ends, strict=True)):
        for start in range(scene.start, end - length + 2, length - 1):
            result = check(frames[start : start + length], scene.labels)
            rows.append({"scene": number, "start": start, **{m: bool(getattr(result, m)) for m in MEASURES}})
    return rows


def ground_colour(frames: UInt8[np.ndarray, "t h w 3"]) -> Float64[np.ndarray, " 3"]:
    """Return the mean colour of what is no object of the world, in levels: an object that grows moves that of frames as
    a whole."""
    return frames[np.abs(chroma(frames.astype(np.float32))) < MIN_CHROMA].mean(axis=0, dtype=np.float64)


def score_rollouts(
    pipe: VideoPipeline,
    world: ShapeWorld,
    n: int,
    *,
    scenes: int | None = None,
    num_frames: int,
    seed: int = 0,
    windows: WindowConfig = WindowConfig(),  # noqa: B008 (frozen)
    **settings: Any,
) -> Iterator[dict[str, Any]]:
    """Yield a row a clip, as they are made, of n stories.

    It has the `prompts`, `windows` as of `check_windows`, `drift` as of `describe_drift` between windows of the world's
    length with `ground`, the distance of the last one's ground colour from the first one's, and `seconds`.

    Args:
        pipe: The model.
        world: Where stories come from.
        n: Clips.
        scenes: Prompts of each; None for as many as fit.
        num_frames: Of a clip.
        seed: Of the noise.
        windows: How clips are cut.
        settings: Go to the pipeline's call.
    """
    length = world.config.num_frames
    for number in range(n):
        director, began = Director(world, number, num_frames, scenes), time.perf_counter()
        noise = sample_generator(seed, number)
        opening = director.scenes[0].prompt
        chunks = rollout(pipe, opening, num_frames, windows=windows, generator=noise, **settings)
        frames = film(chunks, director)
        seconds = time.perf_counter() - began
        parts = [measure_segment(frames[k : k + length], k) for k in range(0, num_frames - length + 1, length)]
        grounds = [ground_colour(part) for part in (frames[:length], frames[-length:])]
        yield {
            "prompts": [(scene.start, scene.prompt) for scene in director.scenes],
            "windows": check_windows(frames, director.scenes, length),
            "drift": describe_drift(parts) | {"ground": float(np.linalg.norm(grounds[1] - grounds[0]))},
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
    drifts = {name: [row["drift"][name] for row in rows] for name in ("colour", "ground", "contrast", "sharpness")}
    medians = {
        name: float(np.median(numbers)) if (numbers := [v for v in values if v is not None]) else None
        for name, values in drifts.items()
    }
    return {"windows": by_window, "scenes": scenes, "drift": medians}
