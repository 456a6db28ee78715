"""Task `diffusion_tokenizer`: the denoising loss trains an encoder and the denoiser that decodes its features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.data.frames import latent_frames
from vidgen.diffusion.noise import draw_normal, sample_generator
from vidgen.diffusion.paths import add_noise, expand_level
from vidgen.diffusion.prediction_types import find_prediction_type
from vidgen.metrics import psnr
from vidgen.samplers.solvers import SAMPLERS
from vidgen.tokenizers.diffusion_decoder.config import DiffusionTokenizerConfig
from vidgen.tokenizers.diffusion_decoder.model import DiffusionTokenizer
from vidgen.train.config import DiffusionTokenizerRecipe
from vidgen.train.data.latent_statistics import STATISTICS_CLIPS, clip_batches, measure_latents
from vidgen.train.data.sources import VALIDATION_SEED_OFFSET, Mixture, collate
from vidgen.train.runtime.step_memory import check_clips
from vidgen.train.tasks.task import Metrics, Task, export_dtype
from vidgen.train.tasks.tokenizer import change_preset


def build_diffusion_tokenizer(recipe: DiffusionTokenizerRecipe) -> DiffusionTokenizer:
    """Return the recipe's tokenizer: that of `init_from` if set, else freshly drawn from the recipe's seed.

    Where `model` does not say them, the window is the length of the clips, and regression is decoded in one step.
    The encoder's weights are those that task `tokenizer` draws for the same preset and seed.
    """
    if recipe.init_from:
        return DiffusionTokenizer.from_pretrained(recipe.init_from, dtype=torch.float32)
    values: dict[str, Any] = {"tokenizer": change_preset(recipe.preset, recipe.tokenizer, "tokenizer"), **recipe.model}
    whole = latent_frames(recipe.data.num_frames, values.get("patch_t", DiffusionTokenizerConfig.patch_t))
    values.setdefault("window", max(2, whole))
    if recipe.objective == "regression":
        values.setdefault("num_inference_steps", 1)
    config = config_from_dict(DiffusionTokenizerConfig, values, "recipe key `model`")
    torch.manual_seed(recipe.seed)
    return DiffusionTokenizer(config)


class DiffusionTokenizerTask(Task):
    """The denoising loss of clips under their own features, |prediction - target|^2 in pixels, at levels drawn from
    the config's TimeDistribution, or at level 1 alone (`objective` "regression"); and the bottleneck's loss."""

    def __init__(self, recipe: DiffusionTokenizerRecipe) -> None:
        self.recipe = recipe
        self.model = build_diffusion_tokenizer(recipe).requires_grad_(True)
        check_clips(recipe)
        self.dataset = Mixture(recipe.data, recipe.seed)
        self.held_out = Mixture(recipe.data, recipe.seed + VALIDATION_SEED_OFFSET, "validation")
        self.target = find_prediction_type(self.model.config.prediction_type).target
        self.gather = collate

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return the denoising loss of a batch, its features drawn from the posterior, and the KL divergence."""
        video = batch["video"].to(self.recipe.device)
        encoded = self.model.encode(video, sample_posterior=True, generator=generator)
        t, clean_first = self.draw_levels(len(video), video.shape[2], generator)
        denoising = self.denoising_loss(video, encoded.latents, t, clean_first, generator).mean()
        total, metrics = denoising, {"reconstruction": denoising.item()}
        for name, value in encoded.losses.items():
            total, metrics[name] = total + self.recipe.bottleneck * value, value.item()
        return total, metrics

    def draw_levels(
        self, count: int, num_frames: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, " b"], Bool[Tensor, " b"]]:
        """Draw noise levels, and which clips have a clean first frame; never all of a clip."""
        config = self.model.config
        t = config.time.sample((count,), generator) if self.recipe.objective == "denoising" else torch.ones(count)
        clean_first = torch.rand(count, generator=generator) < config.hold_first
        return t, clean_first if num_frames > 1 else torch.zeros_like(clean_first)

    def denoising_loss(
        self,
        video: Float[Tensor, "b 3 T H W"],
        latents: Float[Tensor, "b c t h w"],
        t: Float[Tensor, " b"],
        clean_first: Bool[Tensor, " b"],
        generator: torch.Generator,
    ) -> Float[Tensor, " b"]:
        """Return the mean squared error of the prediction, one value a clip, over the pixels that the clip has.

        Neither what was repeated to fill patches counts, nor the first frame of a clip that is `clean_first`.
        """
        model, x0 = self.model, self.model.patches(video)
        eps = draw_normal(x0.shape, generator).to(x0)
        levels = t[:, None].repeat(1, x0.shape[2])
        levels[clean_first, 0] = 0.0
        levels = levels.to(x0.device)
        level = expand_level(levels, x0)
        target = self.target(x0, eps, model.path.alpha(level), model.path.sigma(level))
        prediction = model.predict(add_noise(x0, eps, levels, model.path), levels, latents)
        error = model.pixels(prediction.float() - target)[:, :, : video.shape[2], : video.shape[3], : video.shape[4]]
        counted = torch.ones(len(video), video.shape[2], device=x0.device)
        counted[clean_first.to(x0.device), 0] = 0.0
        return (error.square().mean(dim=(1, 3, 4)) * counted).sum(1) / counted.sum(1)

    def validate(self) -> Metrics:
        """Return the loss of held-out clips at fixed, equally probable levels with fixed noise, its mean, and the PSNR.

        The PSNR (dB) is that of clips decoded from the posterior's mode in the config's number of steps.
        """
        recipe, config = self.recipe, self.model.config
        levels = config.time.stratified(recipe.validation_levels).tolist() if recipe.objective == "denoising" else [1.0]
        losses: dict[float, list[Tensor]] = {level: [] for level in levels}
        scores: list[float] = []
        for i, batch in enumerate(clip_batches(self.held_out, recipe.data.validation_clips, recipe.batch_size)):
            video = batch["video"].to(recipe.device)
            encoded = self.model.encode(video)
            none = torch.zeros(len(video), dtype=torch.bool)
            for level in levels:
                generator = sample_generator(recipe.seed, f"validation-{i}")
                t = torch.full((len(video),), level)
                losses[level].append(self.denoising_loss(video, encoded.latents, t, none, generator))
            decoded = self.model.decode(encoded, SAMPLERS["euler"], seed=recipe.seed)
            scores += psnr(decoded.float().clamp(-1.0, 1.0), video).tolist()
        metrics = {f"loss@t={level:.3f}": torch.cat(values).mean().item() for level, values in losses.items()}
        return {"loss": sum(metrics.values()) / len(metrics), "psnr": sum(scores) / len(scores), **metrics}

    def export(self, folder: Path) -> None:
        """Write the tokenizer, with latent statistics; the condition of the denoiser does not change with them."""
        clips = clip_batches(self.held_out, STATISTICS_CLIPS, self.recipe.batch_size)
        measure_latents(self.model.tokenizer, clips, self.recipe.seed)
        self.model.save_pretrained(folder, dtype=export_dtype(self.recipe.autocast))
