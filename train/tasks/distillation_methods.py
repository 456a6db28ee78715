"""The methods of distillation: what the student of a task loses on a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.noise import draw_normal
from vidgen.diffusion.paths import add_noise
from vidgen.models.text.encoders import TextEncoding
from vidgen.pipelines.streaming.chunk_sampler import is_causal
from vidgen.samplers.few_step.distribution_matching import matching_loss
from vidgen.samplers.few_step.targets import consistency_target, continuous_consistency_target, progressive_target
from vidgen.train.losses.discriminators import hinge_generator
from vidgen.train.tasks.story_rollouts import Story

if TYPE_CHECKING:
    from vidgen.train.tasks.distillation import DistillationTask

MATCHED_LEVELS = (0.02, 0.98)  # where teacher and critic are compared (DMD2)
# Of methods whose student says a whole clip from every level; the others follow the teacher's flow.
CONSISTENT = ("consistency", "continuous_consistency", "distribution_matching")


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A batch as methods see it: clean latents, text, noise, and the generator of what else is drawn.

    Of stories x0 is the first scene, noise is for all frames, and the text is that of the last scene."""

    x0: Float[Tensor, "b c t h w"]
    text: TextEncoding
    eps: Float[Tensor, "b c t h w"]
    generator: torch.Generator
    story: Story | None = None

    def levels(self, t: Float[Tensor, " b"]) -> Tensor:
        """Return the noise levels of rolled-out clips: those of stories go on from a frame that is known, so that
        nothing but what follows it is matched."""
        if self.story is None:
            return t
        return torch.cat([torch.zeros_like(t)[:, None], t[:, None].expand(-1, self.story.scene_frames)], dim=1)


def guidance_loss(task: DistillationTask, lesson: Lesson) -> Tensor:
    """Return the distance to the guided teacher at any level."""
    t = task.time_of(lesson.x0).sample((len(lesson.x0),), lesson.generator).to(lesson.x0.device)
    x = add_noise(lesson.x0, lesson.eps, t, task.path)
    with torch.no_grad():
        target = task.teacher_in(lesson)(x, t)
    return task.distance(task.denoiser_in(lesson, task.transformer)(x, t), target, x, t)


def progressive_loss(task: DistillationTask, lesson: Lesson) -> Tensor:
    """Return the distance to two of the teacher's steps."""
    t, middle, s = task.draw_step(lesson, 2 * task.recipe.student_steps, stride=2)
    x = add_noise(lesson.x0, lesson.eps, t, task.path)
    target = progressive_target(task.teacher_in(lesson), x, t, middle, s, task.path)
    return task.distance(task.denoiser_in(lesson, task.transformer)(x, t), target, x, t)


def consistency_loss(task: DistillationTask, lesson: Lesson) -> Tensor:
    """Return the distance to the averaged student after a step of the teacher's."""
    t, s = task.draw_step(lesson, task.recipe.teacher_steps)
    x = add_noise(lesson.x0, lesson.eps, t, task.path)
    average = task.denoiser_in(lesson, task.average)
    target = consistency_target(average, task.teacher_in(lesson), x, t, s, task.path)
    student = task.denoiser_in(lesson, task.transformer)(x, t)
    return (student - target).square().flatten(1).mean(1)


def continuous_consistency_loss(task: DistillationTask, lesson: Lesson) -> Tensor:
    """Return the distance to the student less its tangent along the teacher's flow."""
    t = task.time_of(lesson.x0).sample((len(lesson.x0),), lesson.generator).to(lesson.x0.device)
    x = add_noise(lesson.x0, lesson.eps, t, task.path)
    student = task.denoiser_in(lesson, task.transformer)
    target = continuous_consistency_target(student, task.teacher_in(lesson), x, t, task.path)
    return (student(x, t) - target).square().flatten(1).mean(1)


def reflow_loss(task: DistillationTask, lesson: Lesson) -> Tensor:
    """Return the denoising loss on pairs of noise and what the teacher makes of it (Liu et al. 2023, section 2.2)."""
    with torch.no_grad():
        x0 = task.teacher_clips(lesson.text, lesson.eps)
    t = task.time_of(x0).sample((len(x0),), lesson.generator)
    return task.denoising_loss(x0, lesson.text, t, lesson.eps, after_clean=is_causal(task.transformer))


def distribution_matching_loss(task: DistillationTask, lesson: Lesson) -> Tensor:
    """Return the loss of the student's own clips; a causal teacher and its critic see their chunks before. With
    a head of the critic the generator's part of its hinge loss is added (DMD2, section 4.3)."""
    x0 = task.rolled_out(lesson)
    own = replace(lesson, x0=x0.detach())
    t = task.time_of(x0).sample((len(x0),), lesson.generator).clamp(*MATCHED_LEVELS).to(x0.device)
    t = lesson.levels(t)
    eps = draw_normal(x0.shape, lesson.generator).to(x0.device)
    loss = matching_loss(x0, task.teacher_in(own), task.denoiser_in(own, task.critic), t, eps, task.path)
    if task.head is None:
        return loss
    return loss + task.recipe.adversarial * hinge_generator(task.logits(x0, lesson.text, t, eps))


METHODS: dict[str, Callable[[DistillationTask, Lesson], Tensor]] = {
    "guidance": guidance_loss,
    "progressive": progressive_loss,
    "consistency": consistency_loss,
    "continuous_consistency": continuous_consistency_loss,
    "reflow": reflow_loss,
    "distribution_matching": distribution_matching_loss,
}
