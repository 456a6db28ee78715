"""Control, measured by the world's tracker: how far an object is from the path that was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from vidgen.data.shapes import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    SIZES,
    BackgroundLabels,
    ClipLabels,
    ObjectLabels,
    ShapeWorld,
    ShapeWorldConfig,
    classify,
    describe,
    render,
)
from vidgen.data.shapes.labels import TONES
from vidgen.data.shapes.tracking import as_frames, find_objects
from vidgen.diffusion.noise import sample_generator
from vidgen.metrics.intervals import mean_interval, wilson_interval
from vidgen.pipelines.control.animation import animate
from vidgen.pipelines.control.clip_motion import clip_noise
from vidgen.pipelines.control.editing import edit_video
from vidgen.pipelines.control.paths import follow_path
from vidgen.pipelines.evaluation.adherence import Progress, prompt_world
from vidgen.pipelines.evaluation.conditions import Video
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.control.trajectories import Trajectory

MARGIN = 14 / 64  # of the shorter side: paths stay that far from the border
LEAST_LEG = 20 / 64  # the shortest way from point to point
STRENGTH = 0.65  # of edits: the noise level that they start from


@dataclass(frozen=True, kw_only=True)
class ControlCase:
    """A prompt, and a clip of the world on the path that its object is to follow, in another colour than is asked for.

    `source_prompt` is what that clip shows; `trajectory` its path, None where it is drawn by the world."""

    prompt: str
    source_prompt: str
    colour: str
    source: ClipLabels
    trajectory: Trajectory | None = None


def recolored(labels: ClipLabels, colour: str) -> ClipLabels:
    """Return the labels of the same clip with its object in another colour."""
    return replace(labels, objects=(replace(labels.objects[0], colour=colour),))


def draw_path_case(config: ShapeWorldConfig, seed: int, index: int) -> ControlCase:
    """Return an object on a path of one leg or of two, which no prompt says."""
    rng = np.random.default_rng([seed, index])
    side = np.array([config.width, config.height])
    low, high = MARGIN * config.unit, side - MARGIN * config.unit
    while True:
        points = rng.uniform(low, high, (2 + index % 2, 2))
        if np.linalg.norm(np.diff(points, axis=0), axis=1).min() > LEAST_LEG * config.unit:
            break
    trajectory = Trajectory(tuple(map(tuple, points.tolist())))
    colour, other = (str(word) for word in rng.permutation(list(COLOURS))[:2])
    shape = str(rng.choice(SHAPES))
    position = trajectory.positions(config.num_frames).numpy()
    steps = np.diff(position, axis=0)
    thing = ObjectLabels(
        shape=shape,
        colour=other,
        size="medium",
        motion="right",  # any that moves: it is rendered where `position` has it
        start=0,
        stop=config.num_frames,
        position=position,
        velocity=np.concatenate([steps, steps[-1:]]),
        radius=np.full(config.num_frames, SIZES["medium"] * config.unit),
        angle=np.zeros(config.num_frames),
    )
    ground = BackgroundLabels(
        kind=str(rng.choice(BACKGROUNDS)), tone=str(rng.choice(list(TONES))), seed=int(rng.integers(1 << 30))
    )
    return ControlCase(
        prompt=f"a {colour} {shape} moves",
        source_prompt=f"a {other} {shape} moves",
        colour=colour,
        source=ClipLabels(objects=(thing,), background=ground),
        trajectory=trajectory,
    )


def draw_edit_case(config: ShapeWorldConfig, seed: int, index: int) -> ControlCase:
    """Return a held-out clip of the world with its short caption, and the same caption with another colour."""
    _, labels = ShapeWorld(config).sample_prompt(seed + index)
    names = list(COLOURS)
    colour = names[(names.index(labels.objects[0].colour) + 1 + index % (len(names) - 1)) % len(names)]
    return ControlCase(
        prompt=describe(recolored(labels, colour)), source_prompt=describe(labels), colour=colour, source=labels
    )


@dataclass(frozen=True, kw_only=True)
class ControlRun:
    """What a control is given: the model, the case with its clip of the world, the clip's stream of noise, and settings
    of the pipeline's call."""

    pipe: VideoPipeline
    case: ControlCase
    source: Video
    generator: torch.Generator
    settings: dict[str, Any]

    @property
    def call(self) -> dict[str, Any]:
        """The arguments that calls share."""
        return {"generator": [self.generator], **self.settings}

    def edited(self, method: str) -> Any:
        """Return the world's clip edited to the colour that is asked for."""
        names = ("num_inference_steps", "guidance_scale")
        own = {name: self.settings[name] for name in names if name in self.settings}
        inputs = {"generator": self.generator, "method": method, "strength": STRENGTH, **own}
        return edit_video(self.pipe, self.case.prompt, self.source, self.case.source_prompt, **inputs)

    def from_noise(self, share: float) -> Any:
        """Return a clip from noise of which a share follows the world's clip."""
        noise = clip_noise(self.pipe, self.source, [self.generator], share=share)
        return self.pipe(self.case.prompt, latents=noise, **self.call)


# By name: how a clip is made. All but "none" know the path, or a clip that follows it; those of EDITS are edits of it.
CONTROLS: dict[str, Callable[[ControlRun], Any]] = {
    "none": lambda run: run.pipe(run.case.prompt, **run.call),
    "path": lambda run: follow_path(run.pipe, run.case.prompt, run.case.trajectory, **run.call),
    "animate": lambda run: animate(run.pipe, run.case.prompt, run.case.trajectory, **run.call),
    "warp_noise": lambda run: run.from_noise(0.5),
    "warp_noise_whole": lambda run: run.from_noise(1.0),
    "sdedit": lambda run: run.pipe(run.case.prompt, video=run.source, strength=STRENGTH, **run.call),
    "flow_edit": lambda run: run.edited("flow_edit"),
    "inversion": lambda run: run.edited("inversion"),
}
EDITS = ("sdedit", "flow_edit", "inversion")


def score_control(
    pipe: VideoPipeline,
    name: str,
    n: int,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    look: Callable[[Video, Video], None] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Make n clips by CONTROLS[name], and return how far the object's middle is from the path, in pixels.

    Returns `distance`, the mean over frames and clips with its interval over those in which an object is seen;
    `motion`, the same with path and object moved to where they start, which is how far its motion is from the one asked
    for; and the shares in which it is `seen`, and has the `colour` and the `shape` asked for, with theirs in `ci`. Clip
    i is a function of (seed, i) alone. `look` is shown the world's clip and what comes out; settings go to the
    pipeline's call.
    """
    config = prompt_world(pipe.scheduler, "held_out", 1).config
    offsets: dict[str, list[float]] = {"distance": [], "motion": []}
    counts = {"seen": 0, "colour": 0, "shape": 0}
    for i in range(n):
        case = (draw_edit_case if name in EDITS else draw_path_case)(config, seed, i)
        source = render(case.source, config)
        generator = sample_generator(seed, i)
        run = ControlRun(pipe=pipe, case=case, source=source, generator=generator, settings=settings)
        video = CONTROLS[name](run).frames[0]
        objects, sightings = find_objects(as_frames(video)), classify(video)
        if objects:
            asked = case.source.objects[0]
            off = objects[0].center - asked.position  # t 2
            offsets["distance"].append(float(np.linalg.norm(off, axis=1).mean()))
            offsets["motion"].append(float(np.linalg.norm(off - off[0], axis=1).mean()))
            counts["seen"] += 1
            counts["colour"] += objects[0].colour == case.colour
            counts["shape"] += bool(sightings) and sightings[0].shape == asked.shape
        if look is not None:
            look(source, video)
        if progress is not None:
            progress(i + 1)
    shares = {key: count / n for key, count in counts.items()}
    means = {key: asdict(mean_interval(values, (0.0, np.inf))) if values else None for key, values in offsets.items()}
    ci = {key: list(wilson_interval(share, n)) for key, share in shares.items()}
    return {"control": name, "n": n, **means, **shares, "ci": ci}
