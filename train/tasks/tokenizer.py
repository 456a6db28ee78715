"""Task `tokenizer`: reconstruct clips through the bottleneck; at the end, measure and store the latents' statistics."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.files.interrupts import signals_held
from vidgen.metrics import psnr
from vidgen.pipelines.loading import load_trainable
from vidgen.tokenizers.config import TokenizerConfig
from vidgen.tokenizers.model import Encoded, VideoTokenizer
from vidgen.tokenizers.presets import PRESETS
from vidgen.train.config import TokenizerRecipe
from vidgen.train.config.tokenizer import QUANTIZER_WEIGHTS
from vidgen.train.data.latent_statistics import STATISTICS_CLIPS, clip_batches, measure_latents
from vidgen.train.data.sources import VALIDATION_SEED_OFFSET, Mixture, collate
from vidgen.train.losses.adversarial import Adversary
from vidgen.train.losses.discriminators import last_layer
from vidgen.train.losses.reconstruction import ReconstructionLoss
from vidgen.train.runtime.step_memory import check_tokenizer_step
from vidgen.train.tasks.task import Metrics, Role, Task, export_dtype


def build_tokenizer(recipe: TokenizerRecipe) -> VideoTokenizer:
    """Return the recipe's tokenizer: weights of `init_from` if set, else freshly drawn from the recipe's seed."""
    if recipe.init_from:
        return load_trainable(recipe.init_from, dtype=torch.float32)
    config = change_preset(recipe.preset, recipe.model, "model")
    torch.manual_seed(recipe.seed)
    return VideoTokenizer(config)


def change_preset(preset: str, changes: dict[str, Any], key: str) -> TokenizerConfig:
    """Return the config of a preset with the `changes` of a recipe's `key`. VidgenError for an unknown name."""
    if preset not in PRESETS:
        raise VidgenError(f"preset {preset!r} is unknown; choose one of {', '.join(PRESETS)}")
    fields = {f.name for f in dataclasses.fields(PRESETS[preset])}
    if unknown := sorted(set(changes) - fields):
        raise VidgenError(f"{key}.{unknown[0]} is not a tokenizer setting; there are: {', '.join(sorted(fields))}")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()}
    return dataclasses.replace(PRESETS[preset], **values)


def build_adversary(recipe: TokenizerRecipe) -> Adversary | None:
    """Return the discriminators of a recipe, or None where their weight is 0.

    Raises VidgenError if `init_from` does not fit them.
    """
    if recipe.adversarial.weight <= 0:
        return None
    adversary = Adversary(
        recipe.adversarial,
        seed=recipe.seed,
        device=recipe.device,
        precision=recipe.autocast,
    )
    if path := recipe.adversarial.init_from:
        try:
            with signals_held():
                weights = load_file(path)
            adversary.discriminators.load_state_dict(weights)
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:160]
            raise VidgenError(f"adversarial.init_from={path} does not hold these discriminators ({reason})") from None
    return adversary


def codebook_usage(indices: Int[Tensor, "b t h w *q"], size: int) -> float:
    """Return, of the codes that these indices could show beside the first, the share that they do: 0 is one for all.

    The least over residual codebooks, which are the last axis of a fifth.
    """
    columns = rearrange(indices, "b t h w ... -> (...) (b t h w)")
    most = max(1, min(size, columns.shape[1]) - 1)
    return min((column.unique().numel() - 1) / most for column in columns)


class TokenizerTask(Task):
    """Losses, validation and export of a tokenizer, and the discriminators that its recipe sets against it."""

    def __init__(self, recipe: TokenizerRecipe) -> None:
        self.recipe = recipe
        self.model = build_tokenizer(recipe).requires_grad_(recipe.part == "all")
        self.model.decoder.requires_grad_(True)
        if recipe.gradient_checkpointing:
            self.model.enable_gradient_checkpointing()
        check_tokenizer_step(recipe, self.model)
        self.dataset = Mixture(recipe.data, recipe.seed)
        self.held_out = Mixture(recipe.data, recipe.seed + VALIDATION_SEED_OFFSET, "validation")
        self.reconstruction = ReconstructionLoss(recipe.loss, recipe.device)
        self.adversary = build_adversary(recipe)
        self.last: tuple[Tensor, Tensor, float] | None = None  # clips, decoded clips and loss of this step
        self.gather = collate

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return the sum of the reconstruction loss, the bottleneck's, and the adversarial one once it has started."""
        video = batch["video"].to(self.recipe.device)
        if self.recipe.part == "decoder":
            self.model.bottleneck.eval()  # a codebook that moved would change the latents
        encoded, decoded = self.reconstruct(video, generator)
        reconstruction, parts = self.reconstruction(decoded, video)
        total = reconstruction
        for name, value in encoded.losses.items():
            parts[name] = value
            total = total + self.bottleneck_weight(name, encoded.losses) * value
        metrics = {name: value.item() for name, value in {**parts, "reconstruction": reconstruction}.items()}
        if encoded.indices is not None:
            metrics["codebook_usage"] = codebook_usage(encoded.indices, self.model.bottleneck.codebook_size)
        if self.adversary is not None:
            adversarial, more = self.adversary.generator_loss(decoded, reconstruction, last_layer(self.model.decoder))
            total, metrics = total + adversarial, metrics | more
            self.last = (video, decoded.detach(), metrics["reconstruction"])
        return total, metrics

    def reconstruct(self, video: Tensor, generator: torch.Generator) -> tuple[Encoded, Tensor]:
        """Return the clip encoded, with a draw from the posterior, and decoded in float32."""
        encoded = self.model.encode(video, sample_posterior=True, generator=generator)
        latents = self.disturb(encoded.latents, generator)
        return encoded, self.model.decode(dataclasses.replace(encoded, latents=latents)).float()

    def disturb(self, latents: Float[Tensor, "b c t h w"], generator: torch.Generator) -> Float[Tensor, "b c t h w"]:
        """Return the latents with the recipe's `latent_noise`: a level for each clip, drawn anew."""
        if self.recipe.latent_noise == 0:
            return latents
        levels = torch.randn(len(latents), 1, 1, 1, 1, generator=generator).abs() * self.recipe.latent_noise
        noise = levels * torch.randn(latents.shape, generator=generator)
        return latents + noise.to(latents)

    def bottleneck_weight(self, name: str, losses: dict[str, Tensor]) -> float:
        """Return the weight of one of the bottleneck's losses. VidgenError if the recipe names another."""
        weights = self.recipe.loss
        if unknown := sorted(set(weights.bottleneck_parts) - set(losses)):
            raise VidgenError(
                f"loss.bottleneck_parts.{unknown[0]}: bottleneck {self.model.config.bottleneck!r} has no such loss, "
                f"only {', '.join(losses)}; take it out"
            )
        usual = QUANTIZER_WEIGHTS.get(self.model.config.bottleneck, {})
        return weights.bottleneck_parts.get(name, usual.get(name, weights.bottleneck))

    def roles(self) -> dict[str, Role]:
        """Return the discriminators, where the recipe has any."""
        if self.adversary is None:
            return {}
        optimizer = self.adversary.optimizer_config(self.recipe.optimizer)
        return {"discriminator": Role(module=self.adversary, loss=self.discriminator_loss, optimizer=optimizer)}

    def discriminator_loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor | None, Metrics]:
        """Return the discriminators' loss of the clips that the decoder's turn left."""
        real, fake, reconstruction = self.last
        self.last = None
        return self.adversary.discriminator_loss(real, fake, reconstruction)

    def begin_step(self, step: int) -> None:
        """Start the discriminators at their step."""
        if self.adversary is not None:
            self.adversary.begin_step(step)

    def state_dict(self) -> dict[str, Any]:
        """Return where the adversarial game stands."""
        return {} if self.adversary is None else {"adversary": self.adversary.progress()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        if self.adversary is not None:
            self.adversary.load_progress(state["adversary"])

    def held_out_batches(self, count: int) -> Iterator[dict[str, Any]]:
        """Yield `count` held-out clips in batches, the same ones every time."""
        return clip_batches(self.held_out, count, self.recipe.batch_size)

    def validate(self) -> Metrics:
        """Return PSNR (dB, mean over clips) and L1 of held-out clips, decoded from the posterior's mode; of a discrete
        tokenizer also `codebook_usage` by all of them."""
        scores: list[float] = []
        errors: list[float] = []
        indices: list[Tensor] = []
        for batch in self.held_out_batches(self.recipe.data.validation_clips):
            video = batch["video"].to(self.recipe.device)
            encoded = self.model.encode(video)
            decoded = self.model.decode(encoded).float().clamp(-1.0, 1.0)
            scores += psnr(decoded, video).tolist()
            errors.append((decoded - video).abs().mean().item())
            if encoded.indices is not None:
                indices.append(encoded.indices)
        metrics = {"psnr": sum(scores) / len(scores), "l1": sum(errors) / len(errors)}
        if indices:
            metrics["codebook_usage"] = codebook_usage(torch.cat(indices), self.model.bottleneck.codebook_size)
        return metrics

    def export(self, folder: Path) -> None:
        """Write the tokenizer, with latent statistics, and beside it the discriminators, where there are any."""
        if self.recipe.part == "all":  # the latents of a kept encoder keep their statistics
            self.measure_latents()
        self.model.save_pretrained(folder, dtype=export_dtype(self.recipe.autocast))
        if self.adversary is not None:
            save_file(self.adversary.discriminators.state_dict(), folder / "discriminators.safetensors")

    def measure_latents(self) -> None:
        """Store the statistics of held-out clips' latents in the model."""
        measure_latents(self.model, self.held_out_batches(STATISTICS_CLIPS), self.recipe.seed)
