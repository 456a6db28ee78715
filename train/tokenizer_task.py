"""Task `tokenizer`: reconstruct clips through the bottleneck; at the end, measure and store the latents' statistics."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.metrics import psnr
from vidgen.noise import sample_generator
from vidgen.tokenizers.loading import load_tokenizer
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS
from vidgen.train.config import TokenizerRecipe
from vidgen.train.losses import PerceptualLoss, gradient_l1
from vidgen.train.sources import VALIDATION_SEED_OFFSET, Mixture, collate

STATISTICS_CLIPS = 256


def build_tokenizer(recipe: TokenizerRecipe) -> VideoTokenizer:
    """The recipe's tokenizer: weights of `init_from` if set, else freshly drawn from the recipe's seed."""
    if recipe.init_from:
        return load_tokenizer(recipe.init_from, dtype=torch.float32)
    if recipe.preset not in PRESETS:
        raise VidgenError(f"preset {recipe.preset!r} is unknown; choose one of {', '.join(PRESETS)}")
    fields = {f.name for f in dataclasses.fields(PRESETS[recipe.preset])}
    if unknown := sorted(set(recipe.model) - fields):
        raise VidgenError(f"model.{unknown[0]} is not a tokenizer setting; known: {', '.join(sorted(fields))}")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in recipe.model.items()}
    torch.manual_seed(recipe.seed)
    return VideoTokenizer(dataclasses.replace(PRESETS[recipe.preset], **values))


class TokenizerTask:
    """Losses, validation and export of a tokenizer."""

    def __init__(self, recipe: TokenizerRecipe) -> None:
        self.recipe = recipe
        self.model = build_tokenizer(recipe).requires_grad_(recipe.part == "all")
        self.model.decoder.requires_grad_(True)
        self.dataset = Mixture(recipe.data, recipe.seed)
        self.held_out = Mixture(recipe.data, recipe.seed + VALIDATION_SEED_OFFSET, "validation")
        self.perceptual = PerceptualLoss().to(recipe.device) if recipe.loss.lpips > 0 else None
        self.gather = collate

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        video, weights = batch["video"].to(self.recipe.device), self.recipe.loss
        encoded = self.model.encode(video, sample_posterior=True, generator=generator)
        decoded = self.model.decode(encoded).float()
        error = decoded - video
        parts = {"l1": error.abs().mean(), "l2": error.square().mean(), "gradient": gradient_l1(decoded, video)}
        total = sum(getattr(weights, name) * value for name, value in parts.items())
        if self.perceptual is not None:
            parts["lpips"] = self.perceptual(decoded, video)
            total = total + weights.lpips * parts["lpips"]
        for name, value in encoded.losses.items():
            parts[name] = value
            total = total + weights.bottleneck * value
        return total, {k: v.item() for k, v in parts.items()}

    def held_out_batches(self, count: int):
        """`count` held-out clips in batches, the same ones every time."""
        size = self.recipe.batch_size
        for first in range(0, count, size):
            yield collate([self.held_out[(0, i)] for i in range(first, min(first + size, count))])

    def validate(self) -> dict[str, float]:
        """PSNR (dB, mean over clips) and L1 of held-out clips, decoded from the posterior's mode."""
        scores, errors = [], []
        for batch in self.held_out_batches(self.recipe.data.validation_clips):
            video = batch["video"].to(self.recipe.device)
            decoded = self.model(video).float().clamp(-1.0, 1.0)
            scores += psnr(decoded, video).tolist()
            errors.append((decoded - video).abs().mean().item())
        return {"psnr": sum(scores) / len(scores), "l1": sum(errors) / len(errors)}

    def export(self, folder: Path) -> None:
        if self.recipe.part == "all":  # the latents of a kept encoder keep their statistics
            self.measure_latents()
        self.model.save_pretrained(folder, dtype=torch.bfloat16 if self.recipe.autocast == "bfloat16" else None)

    def measure_latents(self) -> None:
        """Stores per-channel mean and standard deviation of posterior draws over held-out clips in the model.

        Draws and not modes: a channel that the model does not use has a mode of nearly nothing and a spread of one,
        and dividing by the spread of its mode would blow noise up.
        """
        self.model.latents_mean.zero_(), self.model.latents_std.fill_(1.0)
        draws = []
        for i, batch in enumerate(self.held_out_batches(STATISTICS_CLIPS)):
            generator = sample_generator(self.recipe.seed, f"statistics-{i}")
            video = batch["video"].to(self.recipe.device)
            draws.append(self.model.encode(video, sample_posterior=True, generator=generator).latents.float())
        latents = torch.cat(draws)
        self.model.latents_mean.copy_(latents.mean(dim=(0, 2, 3, 4)))
        self.model.latents_std.copy_(latents.std(dim=(0, 2, 3, 4)))
