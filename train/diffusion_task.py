"""Task `diffusion`: a VideoDiT, and its byte-level text encoder, on cached latents of captioned clips."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from einops import reduce
from jaxtyping import Bool
from torch import Tensor, nn

from vidgen.errors import VidgenError
from vidgen.loss_weights import prediction_weight
from vidgen.models.text import ByteTextConfig, ByteTextEncoder, TransformersTextEncoder
from vidgen.models.video_dit import VideoDiT
from vidgen.models.video_dit_config import VideoDiTConfig
from vidgen.models.video_dit_presets import find_preset
from vidgen.noise import TimeDistribution, draw_normal, sample_generator
from vidgen.paths import PARAMETRISATIONS, PATHS, expand_level, network_input
from vidgen.pretrained import config_from_dict
from vidgen.samplers.loading import load_pipeline
from vidgen.samplers.pipeline import VideoPipeline
from vidgen.samplers.scheduler_config import SchedulerConfig
from vidgen.tokenizers.loading import load_tokenizer
from vidgen.train.config import DiffusionRecipe
from vidgen.train.diffusion_lora import make_lora
from vidgen.train.latents import CachedLatents
from vidgen.train.sources import VALIDATION_SEED_OFFSET, rng_of
from vidgen.train.task import Task


def build_networks(recipe: DiffusionRecipe, latent_channels: int) -> tuple[VideoDiT, nn.Module]:
    """The transformer and its text encoder: those of the pipeline `init_from`, or new ones from the recipe's seed.

    `text_model.pretrained` names a folder of transformers' T5, UMT5 or CLIP, which is used as it is.
    """
    if recipe.init_from:
        pipeline = load_pipeline(recipe.init_from, dtype=torch.float32, device=recipe.device)
        if not isinstance(pipeline.transformer, VideoDiT):
            raise VidgenError(f"init_from={recipe.init_from} is a published pipeline; only vidgen's own are trained on")
        if pipeline.transformer.config.latent_channels != latent_channels:
            raise VidgenError(f"init_from={recipe.init_from} is for latents of another tokenizer; name another")
        return pipeline.transformer, pipeline.text_encoder
    text = dict(recipe.text_model)
    pretrained = text.pop("pretrained", None)
    torch.manual_seed(recipe.seed)
    if pretrained:
        encoder: nn.Module = TransformersTextEncoder.from_pretrained(pretrained, device=recipe.device)
    else:
        encoder = ByteTextEncoder(config_from_dict(ByteTextConfig, text, "recipe key `text_model`"))
    sizes = {"latent_channels": latent_channels, "text_width": encoder.width}
    preset = asdict(find_preset(recipe.preset)) if recipe.preset else {}
    config = config_from_dict(VideoDiTConfig, {**preset, **recipe.model, **sizes}, "recipe key `model`")
    if config.labels:
        raise VidgenError(
            f"recipe key `model`: clips of task diffusion have no {config.labels[0]}; leave classes, tasks, frame_rate "
            "and frame_size out"
        )
    return VideoDiT(config), encoder


def draw_given(b: int, frames: int, share: float, generator: torch.Generator) -> Bool[Tensor, "b t"]:
    """Which latent frames of a batch are given clean, in about `share` of the clips: the first one, the first and the
    last, those up to some moment, or any (each with probability 1/4). At least one frame is left to be made."""
    one, moment, kind = (torch.rand(b, 1, generator=generator) for _ in range(3))
    place = torch.arange(frames)
    first = (place == 0).expand(b, frames)
    ends = first | (place == frames - 1)
    past = place < 1 + (moment * (frames - 1)).floor()
    some = torch.rand(b, frames, generator=generator) < 0.5
    kinds = torch.stack([first, ends, past, some])  # kind b t
    chosen = kinds[(kind[:, 0] * len(kinds)).long(), torch.arange(b)]
    return chosen & ~chosen.all(dim=1, keepdim=True) & (one < share)


class DiffusionTask(Task):
    """The denoising loss w(t) |prediction - target|^2 at levels drawn from the recipe's TimeDistribution."""

    def __init__(self, recipe: DiffusionRecipe) -> None:
        self.recipe = recipe
        self.time = config_from_dict(TimeDistribution, recipe.time, "recipe key `time`")
        if recipe.parametrisation not in PARAMETRISATIONS:
            raise VidgenError(
                f"parametrisation {recipe.parametrisation!r}: choose one of {', '.join(PARAMETRISATIONS)}"
            )
        self.target, self.path = PARAMETRISATIONS[recipe.parametrisation].target, PATHS[self.time.path]()
        prediction_weight(recipe.weighting, recipe.parametrisation, torch.ones(1), torch.ones(1))  # a name it knows
        dtype = torch.bfloat16 if recipe.autocast == "bfloat16" else torch.float32
        self.tokenizer = load_tokenizer(recipe.tokenizer, dtype=dtype, device=recipe.device)
        self.transformer, self.text_encoder = build_networks(recipe, self.tokenizer.config.latent_channels)
        trained: dict[str, nn.Module] = {"transformer": self.transformer}
        # Published encoders stay as they are.
        if recipe.train_text and isinstance(self.text_encoder, ByteTextEncoder):
            trained["text_encoder"] = self.text_encoder
        if recipe.lora_rank:
            trained = {"lora": make_lora(self.transformer, recipe, self.time.path)}
        self.model = nn.ModuleDict(trained).requires_grad_(True)
        self.dataset = CachedLatents(
            self.tokenizer, recipe.data, seed=recipe.seed, count=recipe.cached_clips, cache=recipe.cache
        )
        self.held_out = CachedLatents(
            self.tokenizer,
            recipe.data,
            seed=recipe.seed + VALIDATION_SEED_OFFSET,
            count=recipe.data.validation_clips,
            part="validation",
            cache=recipe.cache,
        )

    def gather(self, samples: list[tuple[Tensor, str]]) -> dict[str, Any]:
        return {"latents": torch.stack([z for z, _ in samples]), "captions": [caption for _, caption in samples]}

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        x0, captions = batch["latents"], batch["captions"]
        b, frames, time = x0.shape[0], x0.shape[2], self.time_of(x0)
        dropped = torch.rand(b, generator=generator) < self.recipe.drop_text
        captions = ["" if drop else caption for drop, caption in zip(dropped, captions, strict=True)]
        t = time.sample((b, 1), generator).expand(b, frames)
        if self.recipe.per_frame_noise > 0:  # diffusion forcing (Chen et al. 2024): a level of its own for each frame
            own = torch.rand(b, 1, generator=generator) < self.recipe.per_frame_noise
            t = torch.where(own, time.sample((b, frames), generator), t)
        if self.recipe.given_frames > 0:
            t = t.masked_fill(draw_given(b, frames, self.recipe.given_frames, generator), 0.0)
        loss = self.denoising_loss(x0, captions, t, draw_normal(x0.shape, generator))
        return loss.mean(), {}

    def time_of(self, latents: Tensor) -> TimeDistribution:
        """The time distribution for clips of this size."""
        _, p, q = self.transformer.config.patch
        return self.time.for_size((latents.shape[3] // p) * (latents.shape[4] // q), latents.shape[2])

    def denoising_loss(self, x0: Tensor, captions: list[str], t: Tensor, eps: Tensor) -> Tensor:
        """Weighted mean squared error of the prediction over the frames that have noise, one value a clip (b,)."""
        x0, t, eps = (v.to(self.recipe.device) for v in (x0, t, eps))
        level = expand_level(t, x0)
        alpha, sigma = self.path.alpha(level), self.path.sigma(level)
        prediction = self.transformer(network_input(x0, eps, t, self.path), t, self.text_encoder(captions))
        weight = prediction_weight(self.recipe.weighting, self.recipe.parametrisation, alpha, sigma)
        noisy = (sigma > 0).expand(len(x0), 1, x0.shape[2], 1, 1)  # nothing hints at the noise of the other frames
        weight = torch.where(noisy, weight, torch.zeros_like(sigma))
        error = weight * (prediction.float() - self.target(x0, eps, alpha, sigma)).square()
        return reduce(error, "b c t h w -> b t", "mean").sum(1) / noisy.flatten(1).sum(1)

    def validate(self) -> dict[str, float]:
        """The loss of held-out clips at fixed, equally probable noise levels with fixed noise, and its mean."""
        latents, rows = self.held_out.latents.float(), range(len(self.held_out.rows))
        captions = [self.held_out.caption(i, rng_of(self.recipe.seed, i)) for i in rows]
        eps = draw_normal(latents.shape, sample_generator(self.recipe.seed, "validation"))
        metrics = {}
        for level in self.time_of(latents).stratified(self.recipe.validation_levels).tolist():
            losses = []
            for first in range(0, len(latents), self.recipe.batch_size):
                part = slice(first, first + self.recipe.batch_size)
                t = torch.full((len(latents[part]),), level)
                losses.append(self.denoising_loss(latents[part], captions[part], t, eps[part]))
            metrics[f"loss@t={level:.3f}"] = torch.cat(losses).mean().item()
        return {"loss": sum(metrics.values()) / len(metrics), **metrics}

    def export(self, folder: Path) -> None:
        """Writes a whole pipeline: the tokenizer, the denoiser and the text encoder, with the time distribution; or the
        LoRA where that is what was trained."""
        data, dtype = self.recipe.data, torch.bfloat16 if self.recipe.autocast == "bfloat16" else None
        if "lora" in self.model:
            self.model["lora"].save(folder, dtype=dtype)
            return
        scheduler = SchedulerConfig(
            parametrisation=self.recipe.parametrisation,
            **self.time.to_dict(),
            num_frames=data.num_frames,
            height=data.size[0],
            width=data.size[1],
            fps=data.fps,
        )
        pipeline = VideoPipeline(self.tokenizer, self.transformer, self.text_encoder, scheduler)
        pipeline.save_pretrained(folder, dtype=dtype)
