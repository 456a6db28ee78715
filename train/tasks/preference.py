"""Task `preference`: a trained denoiser learns from its own clips, by what the world's checker says of them."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidgen.diffusion.noise import draw_normal
from vidgen.pipelines.evaluation.adherence import held_out_prompts, prompt_world, score_generation
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.pipelines.streaming.chunk_sampler import is_causal
from vidgen.train.config.preference import CRITERIA, PreferenceRecipe
from vidgen.train.data.judged_clips import JudgedClips, JudgedGroup
from vidgen.train.losses.preference import preference_loss, reward_weights
from vidgen.train.runtime.step_memory import check_clips, process_batch
from vidgen.train.tasks.denoising import DenoisingTask
from vidgen.train.tasks.task import Metrics, autocast


class PreferenceTask(DenoisingTask):
    """The denoiser is trained, by `method`; text encoder, tokenizer and the model as it was stay as they are.

    Raises VidgenError where it would predict something else than the model does.
    """

    def __init__(self, recipe: PreferenceRecipe) -> None:
        super().__init__(recipe)
        self.networks.check_same_prediction(recipe, self.time.path, "post-training")
        self.before = deepcopy(self.transformer).requires_grad_(False).eval()
        self.model = nn.ModuleDict({"transformer": self.transformer}).requires_grad_(True)
        self.open_clips()

    @property
    def max_objects(self) -> int:
        """The most objects of a clip."""
        return max(source.max_objects for source in self.recipe.data.sources)

    def open_clips(self) -> None:
        """Make the clips that are judged, or read them from the recipe's cache."""
        recipe = self.recipe
        check_clips(recipe, process_batch(recipe) * recipe.clips_per_prompt)
        world = prompt_world(self.scheduler(), "train", self.max_objects)
        with autocast(recipe.device, recipe.autocast):
            self.dataset = JudgedClips(
                self.pipeline(),
                world,
                prompts=recipe.cached_clips // recipe.clips_per_prompt,
                clips=recipe.clips_per_prompt,
                rewarded=tuple(recipe.rewarded),
                seed=recipe.seed,
                cache=recipe.cache,
                unequal=recipe.method == "preference",
            )

    def gather(self, samples: list[JudgedGroup]) -> dict[str, Any]:
        """Return latents (b, m, c, t, h, w), captions and rewards (b, m) of groups."""
        latents, rewards = (
            torch.stack(values) for values in zip(*((s.latents, s.rewards) for s in samples), strict=True)
        )
        return {"latents": latents, "rewards": rewards, "captions": [s.caption for s in samples]}

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return the method's loss."""
        return (self.weighted if self.recipe.method == "weighted" else self.preferred)(batch, generator)

    def weighted(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return the denoising loss of all clips, by their rewards."""
        latents, clips = batch["latents"].flatten(0, 1), batch["latents"].shape[1]
        draw = self.draw(latents, generator)
        captions = [caption for caption in batch["captions"] for _ in range(clips)]
        with torch.no_grad():
            text = self.condition({"captions": captions}, draw.dropped, generator).text
        errors = self.denoising_loss(latents, text, draw.t, draw.eps, after_clean=is_causal(self.transformer))
        weights = reward_weights(batch["rewards"], self.recipe.temperature).flatten().to(errors)
        return (weights * errors).mean(), {"reward": batch["rewards"].mean().item()}

    def preferred(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return the loss of the best clip of each prompt against its worst, both at one level and with one noise."""
        draw = torch.rand(batch["rewards"].shape, generator=generator)
        rewards = batch["rewards"] + 1e-3 * draw  # draws among equals
        rows = torch.arange(len(rewards))
        pair = [batch["latents"][rows, place] for place in (rewards.argmax(1), rewards.argmin(1))]
        t = self.time_of(pair[0]).sample((len(rows),), generator)
        eps = draw_normal(pair[0].shape, generator)
        forced = {"after_clean": is_causal(self.transformer)}
        with torch.no_grad():
            text = self.encode(batch["captions"])
            reference = [self.denoising_loss(x0, text, t, eps, network=self.before, **forced) for x0 in pair]
        better, worse = (self.denoising_loss(x0, text, t, eps, **forced) for x0 in pair)
        loss = preference_loss(better, reference[0], worse, reference[1], self.recipe.beta)
        margin = (worse - reference[1]) - (better - reference[0])
        return loss.mean(), {"preferred": (margin > 0).float().mean().item()}

    def validate(self) -> Metrics:
        """Return how often clips of held-out prompts have what is rewarded, the loss being what is missing of it, and,
        as the guard, what is not."""
        world = prompt_world(self.scheduler(), "held_out", self.max_objects)
        prompts = held_out_prompts(world, self.recipe.data.validation_clips)
        with autocast(self.recipe.device, self.recipe.autocast):
            shares = score_generation(self.pipeline(), prompts, seed=self.recipe.seed)
        rewarded = [shares[name] for name in self.recipe.rewarded]
        guards = {f"guard_{name}": shares[name] for name in CRITERIA if name not in self.recipe.rewarded}
        own = {name: shares[name] for name in self.recipe.rewarded}
        return {"loss": 1.0 - sum(rewarded) / len(rewarded), **own, **guards}

    def scheduler(self) -> SchedulerConfig:
        """Return the model's own schedule."""
        return self.networks.schedule

    def export(self, folder: Path) -> None:
        """Write the whole pipeline."""
        self.save_pipeline(folder)
