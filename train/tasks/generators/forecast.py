"""Task `forecast`: what comes next in sequences of embeddings, held against keeping the last one that was seen."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.diffusion.noise import TimeDistribution, sample_generator
from vidgen.errors import VidgenError
from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.diffusion_head import flow_losses
from vidgen.models.priors.forecaster import EmbeddingForecaster
from vidgen.models.priors.likelihood import draw_nats
from vidgen.pipelines.priors.forecasting import forecast_embeddings
from vidgen.representations.bank import FeatureBank
from vidgen.train.config.forecast import ForecastRecipe
from vidgen.train.data.sources import rng_of
from vidgen.train.tasks.task import Metrics, Task, export_dtype


class Sequences(Dataset):
    """Item (step, slot): one of the sequences (n, t, c), drawn by the seed, the step and the slot."""

    def __init__(self, values: Float[Tensor, "n t c"], seed: int) -> None:
        self.values, self.seed = values, seed

    def __getitem__(self, key: tuple[int, int]) -> Float[Tensor, "t c"]:
        return self.values[int(rng_of(self.seed, *key).integers(len(self.values)))]


class ForecastTask(Task):
    """The loss is that of flow matching of each embedding, given those that the order says, standardised."""

    def __init__(self, recipe: ForecastRecipe) -> None:
        self.recipe = recipe
        if not recipe.bank:
            raise VidgenError("task forecast reads a bank: give bank=FOLDER, of vidgen extract --pool frame")
        bank = FeatureBank.load(recipe.bank)
        values = torch.from_numpy(bank.tokens(recipe.layer))
        if values.ndim != 3 or values.shape[1] <= recipe.seen:
            raise VidgenError(
                f"{recipe.bank}: {recipe.layer} has features of {tuple(values.shape[1:])} a clip; a forecast after "
                f"{recipe.seen} needs a sequence of more vectors: extract with --pool frame"
            )
        rows = split_rows(bank, recipe.hold_out)
        train, held_out = (values[numbers] for numbers in rows)
        self.held_out = held_out[: recipe.data.validation_clips]
        config = {**recipe.model, "channels": values.shape[-1]}
        torch.manual_seed(recipe.seed)
        self.model = EmbeddingForecaster(config_from_dict(TokenPriorConfig, config, "recipe key `model`"))
        self.model.fit_scale(train)
        self.model.to(recipe.device)
        self.dataset = Sequences(train, recipe.seed)

    def gather(self, samples: list[Tensor]) -> dict[str, Any]:
        """Return sequences."""
        return {"embeddings": torch.stack(samples)}

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return the mean flow-matching loss of an embedding."""
        tokens = self.model.standardize(batch["embeddings"].to(self.recipe.device))
        settings = {"time": TimeDistribution(), "generator": generator, "draws": self.recipe.head_draws}
        measure = partial(flow_losses, self.model.prior.head, **settings)
        losses = draw_nats(self.model.prior, tokens, (tokens.shape[1], 1, 1), generator, measure)
        return losses.mean() / tokens.shape[1], {}

    @torch.no_grad()
    def validate(self) -> Metrics:
        """Return the loss of held-out sequences, and the mean squared errors, in units of each channel's variance, of
        the mean forecast; `keep_error` of the last embedding that was seen, and `mean_error` of that of training."""
        generator, losses = torch.Generator().manual_seed(self.recipe.seed), []
        for part in self.held_out.split(self.recipe.batch_size):
            losses += [self.loss({"embeddings": part}, generator)[0].item()] * len(part)
        held_out = self.held_out.to(self.recipe.device)
        seen, rest = held_out.split([self.recipe.seen, held_out.shape[1] - self.recipe.seen], dim=1)
        total = torch.zeros_like(rest)
        for draw in range(self.recipe.draws):
            generators = [sample_generator(self.recipe.seed, f"forecast-{draw}-{row}") for row in range(len(seen))]
            total += forecast_embeddings(self.model, seen, rest.shape[1], generators).to(total)
        answers = {"error": total / self.recipe.draws, "keep_error": seen[:, -1:].expand_as(rest)}
        answers["mean_error"] = self.model.mean.expand_as(rest)
        errors = {name: (((x - rest) / self.model.std) ** 2).mean().item() for name, x in answers.items()}
        return {"loss": float(np.mean(losses)), **errors}

    def export(self, folder: Path) -> None:
        """Write the forecaster."""
        self.model.save_pretrained(folder, dtype=export_dtype(self.recipe.autocast))


def split_rows(bank: FeatureBank, hold_out: int) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """Return the rows that train and those that validate. Raises VidgenError where one of the two has none."""
    numbers = np.arange(len(bank))
    splits = np.array([row.split or "" for row in bank.rows])
    trains = splits == "train" if splits.astype(bool).any() else numbers % hold_out != hold_out - 1
    if trains.all() or not trains.any():
        raise VidgenError(
            f"{bank.folder} has {len(bank)} rows, none of them to {'validate' if trains.all() else 'train'}"
        )
    return numbers[trains], numbers[~trains]
