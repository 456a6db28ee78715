"""Task `known_entropy`: a prior on clips whose law is known, held against the nats that this law takes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.data.token_worlds.registry import TOKEN_WORLDS
from vidgen.data.token_worlds.world import SPLITS, TokenClip, TokenWorld
from vidgen.errors import VidgenError
from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.likelihood import token_nats
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.train.config.known_entropy import KnownEntropyRecipe
from vidgen.train.data.sources import rng_of
from vidgen.train.tasks.task import Metrics, Task, export_dtype

NUMBERS = 2**62  # of clips that training draws among


class WorldClips(Dataset):
    """Item (step, slot): a clip of the world's training split, whose number the seed, the step and the slot draw."""

    def __init__(self, world: TokenWorld, seed: int) -> None:
        self.world, self.seed = world, seed

    def __getitem__(self, key: tuple[int, int]) -> TokenClip:
        return self.world.draw(int(rng_of(self.seed, *key).integers(NUMBERS)), SPLITS[0])


class KnownEntropyTask(Task):
    """The loss is -log p of the tokens after the world's context, in nats a token."""

    def __init__(self, recipe: KnownEntropyRecipe) -> None:
        self.recipe = recipe
        try:
            self.world = TOKEN_WORLDS[recipe.world](**recipe.world_settings)
        except TypeError as error:
            raise VidgenError(f"recipe key `world_settings`: {error}; see vidgen.data.token_worlds") from None
        own = {"codebook_sizes": (self.world.codebook_size,)}
        values = {"learned_positions": self.world.grid[1:]} | recipe.model | own
        torch.manual_seed(recipe.seed)
        self.model = TokenPrior(config_from_dict(TokenPriorConfig, values, "recipe key `model`")).to(recipe.device)
        self.dataset = WorldClips(self.world, recipe.seed)

    def gather(self, samples: list[TokenClip]) -> dict[str, Any]:
        """Return the tokens of clips."""
        return {"tokens": torch.from_numpy(np.stack([clip.tokens for clip in samples])).flatten(1)}

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return the mean nats of a token; order "random" draws an order of its own for each clip."""
        tokens = batch["tokens"].to(self.recipe.device)
        t, h, w = self.world.grid
        if self.model.config.order == "random":
            order = torch.rand(tokens.shape, generator=generator).argsort(1).to(tokens.device)
            return token_nats(self.model(tokens, self.world.grid, order=order), tokens).mean(), {}
        return token_nats(self.model(tokens, self.world.grid), tokens)[:, self.world.context * h * w :].mean(), {}

    @torch.no_grad()
    def validate(self) -> Metrics:
        """Return nats a frame after the context, of both splits, beside the floor; `excess` is the part above it, with
        the standard error of its mean over clips."""
        frames, metrics = self.world.grid[0] - self.world.context, {}
        for split, prefix in zip(SPLITS, ("train_", ""), strict=True):
            nats, floors = [], []
            for first in range(0, self.recipe.data.validation_clips, self.recipe.batch_size):
                numbers = range(first, min(first + self.recipe.batch_size, self.recipe.data.validation_clips))
                clips = [self.world.draw(number, split) for number in numbers]
                logits = self.model(self.gather(clips)["tokens"].to(self.recipe.device), self.world.grid)
                laws = logits.double().log_softmax(-1).cpu().numpy().reshape(len(clips), *self.world.grid, -1)
                nats += [self.world.nats(law, clip.tokens) for law, clip in zip(laws, clips, strict=True)]
                floors += [clip.nats for clip in clips]
            excess = np.array(nats) - np.array(floors)
            mean = float(np.mean(floors))
            metrics[f"{prefix}nats_per_frame"] = float(np.mean(nats)) / frames
            metrics[f"{prefix}excess"] = float(excess.mean()) / mean
            metrics[f"{prefix}excess_error"] = float(excess.std(ddof=1)) / math.sqrt(len(excess)) / mean
        return metrics | {"floor_per_frame": mean / frames, "loss": metrics["nats_per_frame"]}

    def export(self, folder: Path) -> None:
        """Write the prior."""
        self.model.save_pretrained(folder, dtype=export_dtype(self.recipe.autocast))
