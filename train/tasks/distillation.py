"""Task `distill`: a student that makes the teacher's clips in a few steps without guidance."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.diffusion.denoiser import make_denoiser
from vidgen.diffusion.noise import draw_normal, sample_generator
from vidgen.diffusion.paths import add_noise, expand_level
from vidgen.interfaces import Denoiser
from vidgen.models.text.encoders import TextEncoding
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.samplers.few_step.distribution_matching import draw_steps, matching_loss, roll_out
from vidgen.samplers.few_step.targets import consistency_target, continuous_consistency_target, progressive_target
from vidgen.samplers.guidance.guided_denoiser import GuidedDenoiser, encode_prompts
from vidgen.samplers.guidance.registry import Guidance
from vidgen.samplers.solvers import find_solver, noise_of
from vidgen.train.config.distillation import DistillationRecipe
from vidgen.train.data.sources import rng_of
from vidgen.train.tasks.denoising import DenoisingTask
from vidgen.train.tasks.task import Follow, Metrics, Role

MATCHED_LEVELS = (0.02, 0.98)  # where teacher and critic are compared (DMD2)
# Of methods whose student says a whole clip from every level; the others follow the teacher's flow.
CONSISTENT = ("consistency", "continuous_consistency", "distribution_matching")


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A batch as methods see it: clean latents, text, noise, and the generator of what else is drawn."""

    x0: Float[Tensor, "b c t h w"]
    text: TextEncoding
    eps: Float[Tensor, "b c t h w"]
    generator: torch.Generator


class DistillationTask(DenoisingTask):
    """The student is trained, by a method of `METHODS`; teacher and text encoder stay as they are.

    Raises VidgenError where the student would predict something else than the teacher.
    """

    def __init__(self, recipe: DistillationRecipe) -> None:
        super().__init__(recipe)
        self.networks.check_same_prediction(recipe, self.time.path, "a student")
        self.teacher = self.transformer.requires_grad_(False).eval()
        self.transformer = deepcopy(self.teacher)
        self.model = nn.ModuleDict({"transformer": self.transformer}).requires_grad_(True)
        if recipe.method == "consistency":
            self.average = deepcopy(self.teacher)
        if recipe.method == "distribution_matching":
            self.critic = deepcopy(self.teacher).requires_grad_(True)
        self.scale = recipe.guidance_scale or self.networks.schedule.guidance_scale
        self.method = METHODS[recipe.method]
        if recipe.method == "continuous_consistency":
            self.transformer.set_attention("plain")  # fused kernels have no derivative forward
        self.open_clips()

    def roles(self) -> dict[str, Role]:
        """Return the averaged student of consistency, or the critic of distribution matching."""
        recipe = self.recipe
        if recipe.method == "consistency":
            follow = Follow(source=self.transformer, decay=recipe.average_decay)
            return {"average": Role(module=self.average, follow=follow)}
        if recipe.method != "distribution_matching":
            return {}
        turns = {"updates": recipe.critic_updates, "before_main": True}
        return {"critic": Role(module=self.critic, loss=self.critic_loss, optimizer=recipe.critic, **turns)}

    def denoiser_of(self, network: nn.Module, text: TextEncoding) -> Denoiser:
        """Return the denoiser of a network of the teacher's kind."""
        return make_denoiser(network, self.path, self.recipe.prediction_type, text=text)

    def guided_teacher(self, text: TextEncoding) -> Denoiser:
        """Return the guided teacher."""
        guided = GuidedDenoiser(
            network=self.teacher,
            path=self.path,
            prediction_type=self.recipe.prediction_type,
            text=text,
            negative=lambda: encode_prompts(self.text_encoder, [""] * len(text.mask)),
        )
        return guided.guided(Guidance(), self.scale, tokens=0)

    def lesson(self, batch: dict[str, Any], generator: torch.Generator) -> Lesson:
        """Return what a method sees of a batch."""
        draw = self.draw(batch["latents"], generator)
        with torch.no_grad():
            text = self.condition(batch, draw.dropped, generator).text
        x0, eps = (value.to(self.recipe.device) for value in (batch["latents"], draw.eps))
        return Lesson(x0=x0, text=text, eps=eps, generator=generator)

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return the method's loss of the student."""
        return self.method(self, self.lesson(batch, generator)).mean(), {}

    def critic_loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return the denoising loss of the critic on the student's clips."""
        lesson = self.lesson(batch, generator)
        with torch.no_grad():
            x0 = self.rolled_out(lesson)
        t = self.time_of(x0).sample((len(x0),), generator)
        eps = draw_normal(x0.shape, generator)
        return self.denoising_loss(x0, lesson.text, t, eps, network=self.critic).mean(), {}

    def rolled_out(self, lesson: Lesson) -> Float[Tensor, "b c t h w"]:
        """Return the student's clips from noise, after as many of its steps as are drawn."""
        times = self.time_of(lesson.x0).steps(self.recipe.student_steps)
        steps = draw_steps(self.recipe.student_steps, lesson.generator)
        student = self.denoiser_of(self.transformer, lesson.text)
        return roll_out(student, lesson.eps, times, self.path, steps=steps, generator=lesson.generator)

    def draw_step(self, lesson: Lesson, steps: int, stride: int = 1) -> tuple[Tensor, ...]:
        """Draw a step of a run of `steps` for each clip: its levels, the first, those between, and the last."""
        times = self.time_of(lesson.x0).steps(steps).float()
        first = stride * torch.randint(0, steps // stride, (len(lesson.x0),), generator=lesson.generator)
        return tuple(times[first + k].to(lesson.x0.device) for k in range(stride + 1))

    def distance(self, student: Tensor, target: Tensor, x: Tensor, t: Tensor) -> Float[Tensor, " b"]:
        """Return the squared distance of two x0 at (x, t), in what the network predicts."""
        level = expand_level(t, x)
        ends = (self.path.alpha(level), self.path.sigma(level))
        predictions = [self.target(x0, noise_of(x, x0, t, self.path), *ends) for x0 in (student, target)]
        return (predictions[0] - predictions[1]).square().flatten(1).mean(1)

    def validate(self) -> Metrics:
        """Return how far the student's clips are from the teacher's of the same noise.

        A student by distribution matching makes other clips of the same noise: of it only the log's losses speak.
        """
        clips = min(len(self.held_out.rows), self.recipe.batch_size)
        captions = [self.held_out.caption(i, rng_of(self.recipe.seed, i)) for i in range(clips)]
        return {"loss": self.distance_to_teacher(captions)}

    def distance_to_teacher(self, captions: list[str]) -> float:
        """Return the mean squared distance of latents, the student's after its steps and the teacher's after its."""
        latents = self.held_out.latents[: len(captions)].float()
        noise = draw_normal(latents.shape, sample_generator(self.recipe.seed, "validation")).to(self.recipe.device)
        text, time = self.encode(captions), self.time_of(latents)
        euler = find_solver("euler")
        student = euler(
            self.denoiser_of(self.transformer, text), noise, time.steps(self.recipe.student_steps), self.path
        )
        teacher = euler(self.guided_teacher(text), noise, time.steps(self.recipe.teacher_steps), self.path)
        return (student - teacher).square().mean().item()

    def scheduler(self) -> SchedulerConfig:
        """Return the schedule with the student's steps, which need no guidance."""
        sampler = "consistency" if self.recipe.method in CONSISTENT else "euler"
        steps = () if self.recipe.method == "guidance" else (self.recipe.student_steps,)
        count = self.networks.schedule.num_inference_steps if not steps else self.recipe.student_steps
        return replace(
            super().scheduler(),
            sampler=sampler,
            num_inference_steps=count,
            guidance_scale=1.0,
            distilled_steps=steps,
            distilled_guidance=self.scale,
        )

    def export(self, folder: Path) -> None:
        """Write the whole pipeline with the student for its denoiser."""
        self.save_pipeline(folder)


def guidance_loss(task: DistillationTask, lesson: Lesson) -> Tensor:
    """Return the distance to the guided teacher at any level."""
    t = task.time_of(lesson.x0).sample((len(lesson.x0),), lesson.generator).to(lesson.x0.device)
    x = add_noise(lesson.x0, lesson.eps, t, task.path)
    with torch.no_grad():
        target = task.guided_teacher(lesson.text)(x, t)
    return task.distance(task.denoiser_of(task.transformer, lesson.text)(x, t), target, x, t)


def progressive_loss(task: DistillationTask, lesson: Lesson) -> Tensor:
    """Return the distance to two of the teacher's steps."""
    t, middle, s = task.draw_step(lesson, 2 * task.recipe.student_steps, stride=2)
    x = add_noise(lesson.x0, lesson.eps, t, task.path)
    target = progressive_target(task.guided_teacher(lesson.text), x, t, middle, s, task.path)
    return task.distance(task.denoiser_of(task.transformer, lesson.text)(x, t), target, x, t)


def consistency_loss(task: DistillationTask, lesson: Lesson) -> Tensor:
    """Return the distance to the averaged student after a step of the teacher's."""
    t, s = task.draw_step(lesson, task.recipe.teacher_steps)
    x = add_noise(lesson.x0, lesson.eps, t, task.path)
    average = task.denoiser_of(task.average, lesson.text)
    target = consistency_target(average, task.guided_teacher(lesson.text), x, t, s, task.path)
    student = task.denoiser_of(task.transformer, lesson.text)(x, t)
    return (student - target).square().flatten(1).mean(1)


def continuous_consistency_loss(task: DistillationTask, lesson: Lesson) -> Tensor:
    """Return the distance to the student less its tangent along the teacher's flow."""
    t = task.time_of(lesson.x0).sample((len(lesson.x0),), lesson.generator).to(lesson.x0.device)
    x = add_noise(lesson.x0, lesson.eps, t, task.path)
    student = task.denoiser_of(task.transformer, lesson.text)
    target = continuous_consistency_target(student, task.guided_teacher(lesson.text), x, t, task.path)
    return (student(x, t) - target).square().flatten(1).mean(1)


def reflow_loss(task: DistillationTask, lesson: Lesson) -> Tensor:
    """Return the denoising loss on pairs of noise and what the teacher makes of it (Liu et al. 2023, section 2.2)."""
    times = task.time_of(lesson.x0).steps(task.recipe.teacher_steps)
    with torch.no_grad():
        x0 = find_solver("euler")(task.guided_teacher(lesson.text), lesson.eps, times, task.path)
    t = task.time_of(x0).sample((len(x0),), lesson.generator)
    return task.denoising_loss(x0, lesson.text, t, lesson.eps)


def distribution_matching_loss(task: DistillationTask, lesson: Lesson) -> Tensor:
    """Return the loss of the student's own clips."""
    x0 = task.rolled_out(lesson)
    t = task.time_of(x0).sample((len(x0),), lesson.generator).clamp(*MATCHED_LEVELS).to(x0.device)
    eps = draw_normal(x0.shape, lesson.generator).to(x0.device)
    critic = task.denoiser_of(task.critic, lesson.text)
    return matching_loss(x0, task.guided_teacher(lesson.text), critic, t, eps, task.path)


METHODS: dict[str, Callable[[DistillationTask, Lesson], Tensor]] = {
    "guidance": guidance_loss,
    "progressive": progressive_loss,
    "consistency": consistency_loss,
    "continuous_consistency": continuous_consistency_loss,
    "reflow": reflow_loss,
    "distribution_matching": distribution_matching_loss,
}
