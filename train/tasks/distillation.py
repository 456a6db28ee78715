"""Task `distill`: a student that makes the teacher's clips in a few steps without guidance."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.diffusion.denoiser import make_denoiser
from vidgen.diffusion.noise import draw_normal, sample_generator
from vidgen.diffusion.paths import expand_level, network_input
from vidgen.interfaces import Denoiser
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.models.text.encoders import TextEncoding
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.pipelines.streaming.chunk_sampler import CausalNetwork, is_causal
from vidgen.samplers.few_step.distribution_matching import draw_steps, roll_out
from vidgen.samplers.guidance.guided_denoiser import GuidedDenoiser, Network, encode_prompts
from vidgen.samplers.guidance.registry import Guidance
from vidgen.samplers.solvers import find_solver, noise_of
from vidgen.train.config.distillation import DistillationRecipe
from vidgen.train.data.sources import rng_of
from vidgen.train.losses.discriminators import FeatureHead, hinge_discriminator
from vidgen.train.tasks.denoising import DenoisingTask
from vidgen.train.tasks.denoising_networks import check_stories, follow_clean, make_student
from vidgen.train.tasks.distillation_methods import CONSISTENT, METHODS, Lesson
from vidgen.train.tasks.story_rollouts import Story, make_chunks, roll_out_story
from vidgen.train.tasks.task import Follow, Metrics, Role


class DistillationTask(DenoisingTask):
    """The student is trained, by a method of `METHODS`; teacher and text encoder stay as they are.

    Raises VidgenError where the student would predict something else than the teacher.
    """

    def __init__(self, recipe: DistillationRecipe) -> None:
        super().__init__(recipe)
        self.networks.check_same_prediction(recipe, self.time.path, "a student")
        self.teacher = self.networks.transformer.requires_grad_(False).eval()
        self.transformer = make_student(self.networks, recipe)
        self.model = nn.ModuleDict({"transformer": self.transformer}).requires_grad_(True)
        if recipe.method == "consistency":
            self.average = deepcopy(self.transformer)
        self.critic: VideoDiT | None = None
        self.head: FeatureHead | None = None
        if recipe.method == "distribution_matching":
            self.critic = deepcopy(self.teacher).requires_grad_(True)
            if recipe.adversarial:
                torch.manual_seed(recipe.seed)
                self.head = FeatureHead(self.teacher.config.width).to(recipe.device)
        if recipe.gradient_checkpointing:
            for network in (self.transformer, self.critic):
                if network is not None:
                    network.enable_gradient_checkpointing()
        self.scale = recipe.guidance_scale or self.networks.schedule.guidance_scale
        self.method = METHODS[recipe.method]
        self.window = self.tokenizer.latent_frames(recipe.window_frames) if recipe.window_frames else 0
        check_stories(recipe, self.transformer)
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
        module = self.critic if self.head is None else nn.ModuleDict({"network": self.critic, "head": self.head})
        return {"critic": Role(module=module, loss=self.critic_loss, optimizer=recipe.critic, **turns)}

    def seen_by(self, network: nn.Module, x0: Tensor) -> Network:
        """Return the network; a causal one predicts each chunk after the clean ones of x0 before it."""
        return follow_clean(network, x0, self.path) if is_causal(network) else network

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
        lesson = Lesson(x0=x0, text=text, eps=eps, generator=generator)
        if "earlier" not in batch:
            return lesson
        between = list(zip(*batch["earlier"], strict=True))[1:]  # captions of the first scene are not needed
        opening = x0[:, :, : 1 + (x0.shape[2] - 1) // (len(between) + 2)]
        with torch.no_grad():
            texts = [*(self.encode(list(captions)) for captions in between), text]
        return replace(lesson, x0=opening, story=Story(opening=opening, texts=texts))

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return the method's loss of the student."""
        return self.method(self, self.lesson(batch, generator)).mean(), {}

    def critic_loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return the denoising loss of the critic on the student's clips; with a head its hinge loss, on noised clips
        of the data and of the student, is added."""
        lesson = self.lesson(batch, generator)
        with torch.no_grad():
            x0 = self.rolled_out(lesson)
        t = lesson.levels(self.time_of(x0).sample((len(x0),), generator))
        eps = draw_normal(x0.shape, generator)
        critic = {"network": self.critic, "after_clean": is_causal(self.critic)}
        loss = self.denoising_loss(x0, lesson.text, t, eps, **critic).mean()
        if self.head is None:
            return loss, {}
        t, eps = t.to(x0.device), eps.to(x0.device)
        real, fake = (self.logits(clips, lesson.text, t, eps) for clips in (lesson.x0, x0))
        head_loss = hinge_discriminator(real, fake)
        return loss + self.recipe.adversarial * head_loss, {"critic_head_loss": head_loss.item()}

    def logits(self, x0: Tensor, text: TextEncoding, t: Tensor, eps: Tensor) -> Float[Tensor, "b t h w"]:
        """Return the logits of noised clips being the data's, from the critic's middle block."""
        layers = self.critic.iter_features(network_input(x0, eps, t, self.path), t, text)
        middle = f"blocks.{self.critic.config.depth // 2}"
        return self.head(next(features for name, features in layers if name == middle))

    def rolled_out(self, lesson: Lesson) -> Float[Tensor, "b c t h w"]:
        """Return the student's clips from noise, after as many of its steps as are drawn."""
        times = self.time_of(lesson.x0).steps(self.recipe.student_steps)
        steps = draw_steps(self.recipe.student_steps, lesson.generator)
        settings = {"times": times, "path": self.path, "steps": steps, "generator": lesson.generator}
        run = partial(roll_out, **settings)
        if lesson.story is not None:
            past = CausalNetwork(self.transformer, self.path, window=self.window, sinks=1)
            return roll_out_story(lesson.story, past, self.plain, run, lesson.eps, self.tokenizer)
        return self.generate(self.transformer, lambda network: self.plain(network, lesson.text), run, lesson.eps)

    def generate(
        self,
        network: nn.Module,
        denoiser: Callable[[Network], Denoiser],
        run: Callable[[Denoiser, Tensor], Tensor],
        noise: Float[Tensor, "b c t h w"],
    ) -> Float[Tensor, "b c t h w"]:
        """Return what `run` makes of noise with a network's denoiser; of a causal one see `make_chunks`."""
        if not is_causal(network):
            return run(denoiser(network), noise)
        past = CausalNetwork(network, self.path, window=0)
        return make_chunks(past, denoiser(past), run, noise)

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
        frames = self.tokenizer.latent_frames(self.recipe.data.num_frames)
        latents = self.held_out.latents[: len(captions), :, :frames].float()
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
            window_frames=self.recipe.window_frames,
            distilled_steps=steps,
            distilled_guidance=self.scale,
        )

    def export(self, folder: Path) -> None:
        """Write the whole pipeline with the student for its denoiser."""
        self.save_pipeline(folder)
