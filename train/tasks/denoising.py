"""What tasks on a denoising loss share: networks, cached latents of captioned clips, the loss and its validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from einops import reduce
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.diffusion.loss_weighting import prediction_weight
from vidgen.diffusion.noise import TimeDistribution, draw_normal
from vidgen.diffusion.paths import PATHS, expand_level, network_input
from vidgen.diffusion.prediction_types import find_prediction_type
from vidgen.models.dit.label_embedding import LabelConditioning, task_labels
from vidgen.models.ip_adapter import beside_text
from vidgen.models.text.encoders import TextEncoding
from vidgen.pipelines.loading import load_tokenizer
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.pipelines.streaming.chunk_sampler import is_causal
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.conditioning.generation_tasks import RESTORATIONS, draw_known
from vidgen.samplers.step_cache import take_rows
from vidgen.train.config import DiffusionRecipe
from vidgen.train.config.diffusion import check_lengths
from vidgen.train.data.latent_cache import ENCODE_BATCH, CachedClip
from vidgen.train.data.mixed_lengths import open_held_out, open_latents
from vidgen.train.data.sources import VALIDATION_SEED_OFFSET
from vidgen.train.runtime.step_memory import check_clips, check_denoising_step
from vidgen.train.tasks.denoising_draws import Draw, context_frames, draw_clean_frames, draw_own_levels, put_behind
from vidgen.train.tasks.denoising_networks import build_networks, check_forcing, follow_clean, make_causal
from vidgen.train.tasks.denoising_validation import validate
from vidgen.train.tasks.task import Metrics, Task, export_dtype


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What the denoiser is told: the `text` with pictures' tokens beside it, and those `tokens` alone."""

    text: TextEncoding
    tokens: Float[Tensor, "b n d"] | None = None


class DenoisingTask(Task):
    """A base for tasks on w(t) |prediction - target|^2, at levels drawn from the recipe's TimeDistribution.

    A task sets `model`, what it trains of the networks, and then calls `open_clips`.
    """

    def __init__(self, recipe: DiffusionRecipe) -> None:
        self.recipe = recipe
        self.time = config_from_dict(TimeDistribution, recipe.time, "recipe key `time`")
        self.target = find_prediction_type(recipe.prediction_type).target
        self.path = PATHS[self.time.path]()
        prediction_weight(recipe.weighting, recipe.prediction_type, torch.ones(1), torch.ones(1))  # a name it knows
        dtype = torch.bfloat16 if recipe.autocast == "bfloat16" else torch.float32
        self.tokenizer = load_tokenizer(recipe.tokenizer, dtype=dtype, device=recipe.device)
        ratio = self.tokenizer.config.temporal_compression_ratio
        check_lengths(recipe.data.lengths(), ratio, recipe.out)
        recipe.check_tasks(Path(recipe.out), ratio)
        self.networks = build_networks(recipe, self.tokenizer.config.latent_channels)
        self.transformer = make_causal(self.networks.transformer, recipe)
        self.text_encoder = self.networks.text_encoder
        self.image_prompt = self.networks.image_prompt
        check_forcing(recipe, self.transformer)
        if recipe.gradient_checkpointing:
            self.transformer.enable_gradient_checkpointing()

    def open_clips(self) -> None:
        """Encode the clips of the recipe's data, or read them from its cache."""
        recipe = self.recipe
        check_clips(recipe, min(ENCODE_BATCH, recipe.cached_clips or ENCODE_BATCH))
        check_denoising_step(recipe, self.tokenizer, self.transformer)
        settings = {"cache": recipe.cache, "pictures": recipe.reference > 0, "tasks": recipe.tasks}
        clips = (self.tokenizer, recipe.data)
        self.dataset = open_latents(*clips, seed=recipe.seed, count=recipe.cached_clips, **settings)
        own = {"seed": recipe.seed + VALIDATION_SEED_OFFSET, "count": recipe.data.validation_clips}
        self.held_out = open_held_out(*clips, **own, **settings)

    def gather(self, samples: list[CachedClip]) -> dict[str, Any]:
        """Return latents and captions, and with pictures these and what to say beside them."""
        batch = {"latents": torch.stack([s.latents for s in samples]), "captions": [s.caption for s in samples]}
        if self.recipe.reference:
            batch["pictures"] = torch.stack([s.picture for s in samples])
            batch |= {"beside": [s.beside for s in samples], "shows": [s.shows for s in samples]}
        if earlier := [s.earlier for s in samples if s.earlier]:
            batch["earlier"] = earlier
        if self.recipe.tasks:
            batch["tasks"] = [s.task for s in samples]
            if degraded := [s.degraded for s in samples if s.degraded is not None]:
                batch["degraded"] = torch.stack(degraded)
        return batch

    def draw(
        self,
        x0: Float[Tensor, "b c t h w"],
        generator: torch.Generator,
        tasks: Sequence[str] | None = None,
        context: int = 0,
    ) -> Draw:
        """Draw which captions are dropped, the noise levels and the noise of a batch; of `tasks`, one a clip, what is
        known. The first `context` latent frames are clean."""
        recipe, time = self.recipe, self.time_of(x0)
        b, frames = x0.shape[0], x0.shape[2]
        dropped = torch.rand(b, generator=generator) < recipe.drop_text
        t = time.sample((b, 1), generator).expand(b, frames)
        if recipe.per_frame_noise > 0:  # diffusion forcing (Chen et al. 2024): a level of its own for each frame
            own = torch.rand(b, 1, generator=generator) < recipe.per_frame_noise
            t = torch.where(own, draw_own_levels(time, b, frames, self.transformer.config.causal_chunks, generator), t)
        if recipe.given_frames > 0:
            t = t.masked_fill(draw_clean_frames(b, frames, recipe.given_frames, generator), 0.0)
        t = t.masked_fill(torch.arange(frames) < context, 0.0)
        known: Tensor | None = None
        if tasks is not None:
            known = torch.stack([draw_known(task, tuple(x0.shape[2:]), generator) for task in tasks])
            t = t.masked_fill(known.flatten(2).all(2), 0.0)
        return Draw(dropped=dropped, t=t, eps=draw_normal(x0.shape, generator), known=known)

    def condition(self, batch: dict[str, Any], dropped: Bool[Tensor, " b"], generator: torch.Generator) -> Condition:
        """Return what the denoiser is told of a batch: captions that are not `dropped`, and pictures in their share."""
        captions, pictures = batch["captions"], batch.get("pictures")
        tokens: Tensor | None = None
        with_picture: Tensor | None = None
        if pictures is not None:
            picture_chance, caption_chance = torch.rand(2, len(captions), generator=generator)
            with_picture = picture_chance < self.recipe.reference
            shortened = with_picture & (caption_chance >= self.recipe.whole_captions)
            pairs = zip(captions, batch["beside"], shortened, strict=True)
            captions = [beside if short else caption for caption, beside, short in pairs]
            tokens = self.image_prompt(pictures.to(self.recipe.device))
        captions = ["" if drop else caption for drop, caption in zip(dropped, captions, strict=True)]
        return Condition(text=self.encode(captions, tokens, with_picture), tokens=tokens)

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return the denoising loss of a batch."""
        draw = self.draw(batch["latents"], generator, batch.get("tasks"), context_frames(batch))
        text = self.condition(batch, draw.dropped, generator).text
        share = self.recipe.teacher_forcing
        if share > 0 and torch.rand((), generator=generator) < share:
            return self.denoising_loss(batch["latents"], text, draw.t, draw.eps, after_clean=True).mean(), {}
        return self.losses(batch, text, draw).mean(), {}

    def losses(
        self, batch: dict[str, Any], text: TextEncoding, draw: Draw, teacher: TextEncoding | None = None
    ) -> Float[Tensor, " b"]:
        """Return the denoising loss of each clip under its task. Clips that are restored stand behind their degraded
        ones, are twice as long so, and come last."""
        x0 = batch["latents"]
        if draw.known is None:
            return self.denoising_loss(x0, text, draw.t, draw.eps, teacher)
        losses = []
        for restored in (False, True):
            rows = [i for i, task in enumerate(batch["tasks"]) if (task in RESTORATIONS) == restored]
            if not rows:
                continue
            clip = (x0[rows], draw.t[rows], draw.eps[rows], draw.known[rows])
            x, t, eps, known = put_behind(batch["degraded"], *clip) if restored else clip
            own, other = (None if each is None else take_rows(each, torch.tensor(rows)) for each in (text, teacher))
            labels = self.task_labels([batch["tasks"][i] for i in rows])
            losses.append(self.denoising_loss(x, own, t, eps, other, known=known, labels=labels))
        return torch.cat(losses)

    def task_labels(self, tasks: Sequence[str]) -> LabelConditioning:
        """Return what tells the denoiser the tasks of clips."""
        return task_labels(self.transformer, tasks)["labels"]

    def encode(
        self,
        captions: list[str],
        tokens: Float[Tensor, "b n d"] | None = None,
        with_picture: Bool[Tensor, " b"] | None = None,
    ) -> TextEncoding:
        """Return the encoded captions, beside tokens of pictures in the clips `with_picture` (None: all)."""
        text = self.text_encoder(captions)
        return text if tokens is None else beside_text(text, tokens, with_picture)

    def time_of(self, latents: Tensor) -> TimeDistribution:
        """Return the time distribution for clips of this size."""
        _, p, q = self.transformer.config.patch
        return self.time.for_size((latents.shape[3] // p) * (latents.shape[4] // q), latents.shape[2])

    def denoising_loss(
        self,
        x0: Float[Tensor, "b c t h w"],
        text: TextEncoding | list[str],
        t: Float[Tensor, b * f],
        eps: Float[Tensor, "b c t h w"],
        teacher: TextEncoding | None = None,
        network: nn.Module | None = None,
        known: Bool[Tensor, "b t h w"] | None = None,
        labels: LabelConditioning | None = None,
        after_clean: bool = False,
    ) -> Float[Tensor, " b"]:
        """Return the weighted mean squared error of the prediction over the frames that have noise, one value a clip.

        `text` may be captions as they are. The target is the clip's own, or what is predicted from the text `teacher`.
        `network` stands in place of the task's transformer. Cells that are `known` are shown without noise, and their
        error does not count. `after_clean`: see `follow_clean`.
        """
        text = self.encode(text) if isinstance(text, list) else text
        x0, t, eps = (v.to(self.recipe.device) for v in (x0, t, eps))
        level = expand_level(t, x0)
        alpha, sigma = self.path.alpha(level), self.path.sigma(level)
        x = network_input(x0, eps, t, self.path)
        if known is not None:
            known = known.to(x0.device)
            x = torch.where(known[:, None], self.path.input_scale(level) * x0, x)
        told = {} if labels is None else {"labels": labels}
        network = network or self.transformer
        seen = follow_clean(network, x0, self.path) if after_clean else network
        prediction = seen(x, t, text, **told)
        target = self.target(x0, eps, alpha, sigma)
        if teacher is not None:
            with torch.no_grad():
                target = self.transformer(x, t, teacher, **told).float()
        weight = prediction_weight(self.recipe.weighting, self.recipe.prediction_type, alpha, sigma)
        noisy = (sigma > 0).expand(len(x0), 1, x0.shape[2], 1, 1)  # nothing hints at the noise of the other frames
        weight = torch.where(noisy, weight, torch.zeros_like(sigma))
        error = weight * (prediction.float() - target).square()
        if known is not None:
            counted = noisy & ~known[:, None]
            return (error * counted).mean(1).flatten(1).sum(1) / counted.flatten(1).sum(1)
        return reduce(error, "b c t h w -> b t", "mean").sum(1) / noisy.flatten(1).sum(1)

    def validate(self) -> Metrics:
        """Return the losses of held-out clips, see `validate`."""
        return validate(self)

    def scheduler(self) -> SchedulerConfig:
        """Return how the denoiser is sampled: the time distribution, and the size of clips."""
        data = self.recipe.data
        longest = max(data.lengths())
        return SchedulerConfig(
            prediction_type=self.recipe.prediction_type,
            time_distribution=self.time,
            num_frames=data.num_frames,
            height=data.size[0],
            width=data.size[1],
            fps=data.fps,
            window_frames=longest if longest > data.num_frames and is_causal(self.transformer) else None,
        )

    def pipeline(self) -> VideoPipeline:
        """Return the pipeline of the networks as they are."""
        return VideoPipeline(self.tokenizer, self.transformer, self.text_encoder, self.scheduler(), self.image_prompt)

    def save_pipeline(self, folder: Path) -> None:
        """Write the whole pipeline: the tokenizer, the denoiser and its encoders, with the schedule."""
        self.pipeline().save_pretrained(folder, dtype=export_dtype(self.recipe.autocast))
