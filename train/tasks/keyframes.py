"""Task `keyframes`: the motion between key frames through its bottleneck and back, against what it has to beat."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.diffusion.noise import sample_generator
from vidgen.metrics import psnr
from vidgen.pipelines.loading import load_trainable
from vidgen.tokenizers.keyframes.ablation import decode_variants
from vidgen.tokenizers.keyframes.config import KeyframeConfig
from vidgen.tokenizers.keyframes.model import KeyframeTokenizer
from vidgen.tokenizers.keyframes.rates import stored_bpp
from vidgen.train.config import KeyframeRecipe
from vidgen.train.config.tokenizer import QUANTIZER_WEIGHTS
from vidgen.train.data.latent_statistics import clip_batches, store_moments
from vidgen.train.data.sources import VALIDATION_SEED_OFFSET, Mixture, collate
from vidgen.train.losses.reconstruction import ReconstructionLoss
from vidgen.train.runtime.step_memory import check_clips
from vidgen.train.tasks.task import Metrics, Task, export_dtype
from vidgen.train.tasks.tokenizer import codebook_usage

STATISTICS_CLIPS = 64


def build_keyframe_tokenizer(recipe: KeyframeRecipe) -> KeyframeTokenizer:
    """Return the recipe's model: weights of `init_from` if set; else those of `key`, if set, and a new motion part."""
    if recipe.init_from:
        return KeyframeTokenizer.from_pretrained(recipe.init_from, dtype=torch.float32)
    config = config_from_dict(KeyframeConfig, recipe.model, "model")
    key = None
    if recipe.key:
        key = load_trainable(recipe.key, dtype=torch.float32)
        config = config_from_dict(KeyframeConfig, {**recipe.model, "key": key.config}, "model")
    torch.manual_seed(recipe.seed)
    model = KeyframeTokenizer(config)
    if key is not None:
        model.key.load_state_dict(key.state_dict())
    return model


class KeyframeTask(Task):
    """Losses, validation beside the baselines, and export of a key frame tokenizer."""

    def __init__(self, recipe: KeyframeRecipe) -> None:
        self.recipe = recipe
        self.model = build_keyframe_tokenizer(recipe).requires_grad_(True)
        self.model.key.requires_grad_(recipe.part == "all")
        check_clips(recipe)
        self.dataset = Mixture(recipe.data, recipe.seed)
        self.held_out = Mixture(recipe.data, recipe.seed + VALIDATION_SEED_OFFSET, "validation")
        self.reconstruction = ReconstructionLoss(recipe.loss, recipe.device)
        self.gather = collate

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return the sum of losses: of all frames, of moved key frames and of fields, and the bottlenecks'."""
        video = batch["video"].to(self.recipe.device)
        whole = self.recipe.part == "all"
        if not whole:
            self.model.key.eval()  # a codebook that moved would change the key frames
        motion = self.model.measure_motion(video)
        codes = self.model.encode(video, motion=motion, sample_posterior=whole, generator=generator)
        decoded = self.model.synthesize(codes)
        reconstruction, parts = self.reconstruction(decoded.frames.float(), video)
        parts["warped"] = (decoded.warped.float() - video).abs().mean()
        parts["field"] = (decoded.field.float() - motion.float()).abs().mean() / self.model.config.block
        weights = self.recipe.motion_loss
        total = reconstruction + weights.warped * parts["warped"] + weights.field * parts["field"]
        for name, value in codes.losses.items():
            if whole or name.startswith("motion_"):
                parts[name] = value
                total = total + self.bottleneck_weight(name) * value
        metrics = {name: value.item() for name, value in {**parts, "reconstruction": reconstruction}.items()}
        if codes.motion_indices is not None:
            metrics["codebook_usage"] = codebook_usage(codes.motion_indices, self.model.bottleneck.codebook_size)
        return total, metrics

    def bottleneck_weight(self, name: str) -> float:
        """Return the weight of "motion_NAME" or "key_NAME": the recipe's by that name, or the usual one."""
        part, _, loss = name.partition("_")
        config, weights = self.model.config, self.recipe.loss
        usual = QUANTIZER_WEIGHTS.get(config.bottleneck if part == "motion" else config.key.bottleneck, {})
        return weights.bottleneck_parts.get(name, usual.get(loss, weights.bottleneck))

    def held_out_batches(self, count: int) -> Iterator[Float[Tensor, "b 3 t h w"]]:
        """Yield `count` held-out clips in batches on the device, the same ones every time."""
        for batch in clip_batches(self.held_out, count, self.recipe.batch_size):
            yield batch["video"].to(self.recipe.device)

    def validate(self) -> Metrics:
        """Return PSNR (dB, mean over clips) of held-out clips: `psnr` learned; `psnr_repeated` key frames that stand;
        `psnr_vectors` key frames moved by the vectors themselves, block by block; `psnr_keys` of key frames alone.
        `bpp_key` and `bpp_motion` are bits a pixel as stored; `codebook_usage` that of the motion."""
        scores: dict[str, list[float]] = {name: [] for name in ("psnr", "psnr_repeated", "psnr_vectors", "psnr_keys")}
        indices, rates, gop = [], {}, self.model.config.gop
        for video in self.held_out_batches(self.recipe.data.validation_clips):
            ways = decode_variants(self.model, video)
            scores["psnr"] += psnr(ways.learned, video).tolist()
            scores["psnr_repeated"] += psnr(ways.repeated, video).tolist()
            scores["psnr_vectors"] += psnr(ways.vectors, video).tolist()
            scores["psnr_keys"] += psnr(ways.repeated[:, :, ::gop], video[:, :, ::gop]).tolist()
            indices += [] if ways.codes.motion_indices is None else [ways.codes.motion_indices]
            rates = stored_bpp(self.model, ways.codes)  # of clips of one size: the same for all
        metrics = {name: sum(values) / len(values) for name, values in scores.items()}
        metrics |= {f"bpp_{part}": rate for part, rate in rates.items()}
        if indices:
            metrics["codebook_usage"] = codebook_usage(torch.cat(indices), self.model.bottleneck.codebook_size)
        return metrics

    def export(self, folder: Path) -> None:
        """Write the model, with the statistics of its motion latents."""
        self.measure_latents()
        self.model.save_pretrained(folder, dtype=export_dtype(self.recipe.autocast))

    def measure_latents(self) -> None:
        """Store mean and standard deviation of each motion channel over held-out clips. A channel that never moves
        keeps a spread of one. Key frames keep the statistics of the tokenizer that they are coded by."""
        self.model.motion_mean.zero_()
        self.model.motion_std.fill_(1.0)
        draws = []
        for i, video in enumerate(self.held_out_batches(STATISTICS_CLIPS)):
            generator = sample_generator(self.recipe.seed, f"statistics-{i}")
            draws.append(self.model.encode(video, sample_posterior=True, generator=generator).motion_latents.float())
        store_moments(torch.cat(draws), self.model.motion_mean, self.model.motion_std)
