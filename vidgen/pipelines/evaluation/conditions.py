"""Conditions that a model is scored under: of a clip of the synthetic world, what another is made from."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from vidgen.data.frames import latent_frames
from vidgen.data.shapes import COLOURS, ShapeClip, ShapeWorld, describe_unnamed, portray, render
from vidgen.data.shapes.outlines import REACH
from vidgen.errors import VidgenError
from vidgen.models.dit.label_embedding import TEXT_TO_VIDEO, task_names
from vidgen.pipelines.evaluation.adherence import LabeledPrompt
from vidgen.pipelines.restoration import Method, available_methods
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.conditioning.degradations import Degradation, Mask
from vidgen.samplers.conditioning.generation_tasks import (
    IMAGE_TO_VIDEO,
    INPAINTING,
    INTERPOLATION,
    PREDICTION,
    RESTORATIONS,
)

Video = UInt8[np.ndarray, "T h w 3"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a clip is made from: arguments of the pipeline's call, and the pixels that these ask to be kept; or what is
    left of it after a degradation."""

    inputs: dict[str, Any] = field(default_factory=dict)
    keep: Bool[np.ndarray, "T h w"]
    degradation: Degradation | None = None


MakeCase = Callable[[ShapeClip, ShapeWorld, int, float], Case]  # clip, its world, frames a latent frame, strength


def keep_frames(video: Video, *frames: int | slice) -> Bool[np.ndarray, "T h w"]:
    """Return True for all pixels of some frames."""
    keep = np.zeros(video.shape[:3], bool)
    for index in frames:
        keep[index] = True
    return keep


def half_length(num_frames: int, f_t: int) -> int:
    """Return about half of a clip's length, in whole latent frames: 1 + k f_t frames, fewer than all."""
    return 1 + f_t * ((latent_frames(num_frames, f_t) - 1) // 2)


def outside_of_objects(clip: ShapeClip) -> Bool[np.ndarray, "T h w"]:
    """Return the pixels outside of the smallest boxes that hold each object throughout."""
    keep = np.ones(clip.video.shape[:3], bool)
    for thing in clip.labels.objects:
        reach = REACH[thing.shape] * thing.radius[:, None] + 1.0  # and the pixel that its edge fades out over
        low = np.floor((thing.position - reach).min(0)).astype(int).clip(0)
        high = np.ceil((thing.position + reach).max(0)).astype(int)
        keep[:, low[1] : high[1], low[0] : high[0]] = False
    return keep


def recolour(clip: ShapeClip, world: ShapeWorld) -> Video:
    """Return the same clip with every object in the next colour of the world's list."""
    names = list(COLOURS)
    other = [replace(o, colour=names[(names.index(o.colour) + 1) % len(names)]) for o in clip.labels.objects]
    return render(replace(clip.labels, objects=tuple(other)), world.config)


def image_case(clip: ShapeClip, world: ShapeWorld, f_t: int, strength: float) -> Case:
    """Give the first frame."""
    return Case(inputs={"image": clip.video[0]}, keep=keep_frames(clip.video, 0))


def ends_case(clip: ShapeClip, world: ShapeWorld, f_t: int, strength: float) -> Case:
    """Give the first and the last frame."""
    inputs = {"image": clip.video[0], "last_image": clip.video[-1]}
    return Case(inputs=inputs, keep=keep_frames(clip.video, 0, -1))


def continuation_case(clip: ShapeClip, world: ShapeWorld, f_t: int, strength: float) -> Case:
    """Give the first half."""
    count = half_length(len(clip.video), f_t)
    return Case(inputs={"video": clip.video[:count]}, keep=keep_frames(clip.video, slice(count)))


def inpainting_case(clip: ShapeClip, world: ShapeWorld, f_t: int, strength: float) -> Case:
    """Give what lies outside of the objects."""
    keep = outside_of_objects(clip)
    return Case(inputs={"video": clip.video, "mask": ~keep}, keep=keep)


def editing_case(clip: ShapeClip, world: ShapeWorld, f_t: int, strength: float) -> Case:
    """Give the same clip in another colour, to start from."""
    inputs = {"video": recolour(clip, world), "strength": strength}
    return Case(inputs=inputs, keep=keep_frames(clip.video))


def filling_case(clip: ShapeClip, world: ShapeWorld, f_t: int, strength: float) -> Case:
    """Give what lies outside of the objects, to restoration."""
    keep = outside_of_objects(clip)
    return Case(keep=keep, degradation=Mask(torch.from_numpy(~keep)))


def restoring(degradation: Degradation) -> MakeCase:
    """Return the case of what a degradation leaves, for restoration."""
    return lambda clip, world, f_t, strength: Case(keep=keep_frames(clip.video), degradation=degradation)


def text_case(clip: ShapeClip, world: ShapeWorld, f_t: int, strength: float) -> Case:
    """Give the prompt alone."""
    return Case(keep=keep_frames(clip.video))


def reference_case(clip: ShapeClip, world: ShapeWorld, f_t: int, strength: float) -> Case:
    """Give a picture of the clip's object in another clip."""
    rng = np.random.default_rng(clip.labels.background.seed)
    return Case(inputs={"reference": portray(clip.labels, rng, world.config).video[0]}, keep=keep_frames(clip.video))


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What a clip of the world is made again from.

    Args:
        make: Of a clip of the world, what is given.
        task: The generation task that a model with tasks is told by it.
        is_restoration: Whether it goes by `restore`.
    """

    make: MakeCase
    task: str = TEXT_TO_VIDEO
    is_restoration: bool = False


# The prompt is the clip's own, without the words for colour, shape and size where the condition is one of UNNAMED.
CONDITIONS: dict[str, Condition] = {
    "text": Condition(make=text_case),
    "image": Condition(make=image_case, task=IMAGE_TO_VIDEO),
    "first_last": Condition(make=ends_case, task=INTERPOLATION),
    "continuation": Condition(make=continuation_case, task=PREDICTION),  # of the first half
    "inpainting": Condition(make=inpainting_case, task=INPAINTING),  # of what the objects go through
    "video_to_video": Condition(make=editing_case),  # from the same clip in another colour
    "reference": Condition(make=reference_case),  # a picture of its object in another clip
    "no_reference": Condition(make=text_case),  # the same words alone: chance
    # of the same gaps as "inpainting", by restoration
    "filling": Condition(make=filling_case, task=INPAINTING, is_restoration=True),
    **{
        name: Condition(make=restoring(degradation), task=name, is_restoration=True)
        for name, degradation in RESTORATIONS.items()
    },
}
UNNAMED = ("reference", "no_reference")
FORMER = {"colourising": "colorization"}


def prompt_for(world: ShapeWorld, index: int, name: str) -> LabeledPrompt:
    """Return the prompt for clip `index` under a condition, and the labels that its clip is checked against."""
    caption, labels = world.sample_prompt(index)
    return LabeledPrompt(caption=describe_unnamed(labels) if name in UNNAMED else caption, labels=labels)


def choose_conditions(names: Sequence[str]) -> list[str]:
    """Return the names, all if there are none. Raises VidgenError for one that is no condition."""
    for name in FORMER.keys() & names:
        warnings.warn(f"condition {name!r} is now called {FORMER[name]!r}", FutureWarning, stacklevel=2)
    names = [FORMER.get(name, name) for name in names]
    if unknown := [name for name in names if name not in CONDITIONS]:
        raise VidgenError(f"condition {unknown[0]!r} is unknown; choose of {', '.join(CONDITIONS)}")
    return names or list(CONDITIONS)


def served_conditions(pipe: VideoPipeline) -> list[str]:
    """Return all that the model serves: without those of reference images where it reads none, and those of tasks that
    a model with tasks was not trained for."""
    names = [name for name in CONDITIONS if pipe.image_prompt is not None or name not in UNNAMED]
    return [name for name in names if list_methods(pipe, name)]


def list_methods(pipe: VideoPipeline, name: str) -> tuple[Method | None, ...]:
    """Return the ways in which a model serves a condition: those of restoration where it is one, else None alone; of a
    model with tasks those that it was trained for."""
    condition = CONDITIONS[name]
    tasks = task_names(pipe.transformer) or (TEXT_TO_VIDEO, condition.task)
    if not condition.is_restoration:
        return (None,) if condition.task in tasks else ()
    methods = available_methods(pipe, condition.task)
    return methods if TEXT_TO_VIDEO in tasks else methods[1:]  # projection goes by the prompt
