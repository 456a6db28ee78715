"""Task `distill`: a student that makes the teacher's clips in a few steps without guidance."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.diffusion.denoiser import make_denoiser
from vidgen.diffusion.noise import draw_normal, sample_generator
from vidgen.diffusion.paths import add_noise, expand_level, network_input
from vidgen.interfaces import Denoiser
from vidgen.models.causal_attention import iter_chunks
from vidgen.models.text.encoders import TextEncoding
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.pipelines.streaming.chunk_sampler import CausalNetwork, is_causal
from vidgen.samplers.few_step.distribution_matching import draw_steps, matching_loss, roll_out
from vidgen.samplers.few_step.targets import consistency_target, continuous_consistency_target, progressive_target
from vidgen.samplers.guidance.guided_denoiser import GuidedDenoiser, Network, encode_prompts
from vidgen.samplers.guidance.registry import Guidance
from vidgen.samplers.solvers import find_solver, noise_of
from vidgen.train.config.distillation import DistillationRecipe
from vidgen.train.data.sources import rng_of
from vidgen.train.tasks.denoising import DenoisingTask
from vidgen.train.tasks.denoising_networks import AfterClean, make_student
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
        self.teacher = self.networks.transformer.requires_grad_(False).eval()
        self.transformer = make_student(self.teacher, recipe)
        self.model = nn.ModuleDict({"transformer": self.transformer}).requires_grad_(True)
        if recipe.method == "consistency":
            self.average = deepcopy(self.transformer)
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

    def seen_by(self, network: nn.Module, x0: Tensor) -> Network:
        """Return the network; a causal one predicts each chunk after the clean ones of x0 before it."""
        if not is_causal(network):
            return network
        clean = network_input(x0, torch.zeros_like(x0), torch.zeros(len(x0), device=x0.device), self.path)
        return AfterClean(network=network, clean=clean)

    def plain(self, network: Network, text: TextEncoding) -> Denoiser:
        """Return the denoiser of a network without guidance."""
        text = network.prepare_text(text) if isinstance(network, CausalNetwork) else text
        return make_denoiser(network, self.path, self.recipe.prediction_type, text=text)

    def guided(self, network: Network, text: TextEncoding) -> Denoiser:
        """Return the denoiser of a network with the teacher's guidance."""
        guided = GuidedDenoiser(
            network=network,
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
        critic = {"network": self.critic, "after_clean": is_causal(self.critic)}
        return self.denoising_loss(x0, lesson.text, t, eps, **critic).mean(), {}

    def rolled_out(self, lesson: Lesson) -> Float[Tensor, "b c t h w"]:
        """Return the student's clips from noise, after as many of its steps as are drawn."""
        times = self.time_of(lesson.x0).steps(self.recipe.student_steps)
        steps = draw_steps(self.recipe.student_steps, lesson.generator)
        settings = {"times": times, "path": self.path, "steps": steps, "generator": lesson.generator}
        student = self.transformer, lambda network: self.plain(network, lesson.text)
        return self.generate(*student, partial(roll_out, **settings), lesson.eps)

    def generate(
        self,
        network: nn.Module,
        denoiser: Callable[[Network], Denoiser],
        run: Callable[[Denoiser, Tensor], Tensor],
        noise: Float[Tensor, "b c t h w"],
    ) -> Float[Tensor, "b c t h w"]:
        """Return what `run` makes of noise with a network's denoiser; of a causal one chunk by chunk, with the cache of
        its own chunks, through which no gradients go (Self-Forcing, Huang et al. 2025, section 3.2)."""
        if not is_causal(network):
            return run(denoiser(network), noise)
        past = CausalNetwork(network, self.path, window=0)
        denoise, chunks = denoiser(past), []
        for start, stop in iter_chunks(network.config.causal_chunks, noise.shape[2]):
            chunks.append(run(denoise, noise[:, :, start:stop]))
            with torch.no_grad():
                past.extend(chunks[-1].detach())
        return torch.cat(chunks, dim=2)

    def denoiser_in(self, lesson: Lesson, network: nn.Module) -> Denoiser:
        """Return the denoiser of a network for a lesson's clips."""
        return self.plain(self.seen_by(network, lesson.x0), lesson.text)

    def teacher_in(self, lesson: Lesson) -> Denoiser:
        """Return the guided teacher for a lesson's clips."""
        return self.guided(self.seen_by(self.teacher, lesson.x0), lesson.text)

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
        text = self.encode(captions)
        student = self.transformer, lambda network: self.plain(network, text)
        clips = self.generate(*student, self.euler(noise, self.recipe.student_steps), noise)
        return (clips - self.teacher_clips(text, noise)).square().mean().item()

    def teacher_clips(self, text: TextEncoding, noise: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """Return what the guided teacher makes of noise in its steps."""
        teacher = self.teacher, lambda network: self.guided(network, text)
        return self.generate(*teacher, self.euler(noise, self.recipe.teacher_steps), noise)

    def euler(self, noise: Tensor, steps: int) -> Callable[[Denoiser, Tensor], Tensor]:
        """Return a run of Euler's method over so many steps."""
        return partial(find_solver("euler"), times=self.time_of(noise).steps(steps), path=self.path)

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
    """Return the loss of the student's own clips; a causal teacher and its critic see their chunks before."""
    x0 = task.rolled_out(lesson)
    own = replace(lesson, x0=x0.detach())
    t = task.time_of(x0).sample((len(x0),), lesson.generator).clamp(*MATCHED_LEVELS).to(x0.device)
    eps = draw_normal(x0.shape, lesson.generator).to(x0.device)
    return matching_loss(x0, task.teacher_in(own), task.denoiser_in(own, task.critic), t, eps, task.path)


METHODS: dict[str, Callable[[DistillationTask, Lesson], Tensor]] = {
    "guidance": guidance_loss,
    "progressive": progressive_loss,
    "consistency": consistency_loss,
    "continuous_consistency": continuous_consistency_loss,
    "reflow": reflow_loss,
    "distribution_matching": distribution_matching_loss,
}
