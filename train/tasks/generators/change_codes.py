"""Task `change_codes`: codes of what changes from frame to frame, and what can be read of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.errors import VidgenError
from vidgen.pipelines.loading import load_tokenizer
from vidgen.tokenizers.change_codes import ChangeCodes, ChangeCodesConfig
from vidgen.tokenizers.encoded import latent_size
from vidgen.train.config.change_codes import ChangeCodesRecipe
from vidgen.train.data.latent_cache import ENCODE_BATCH, CachedClip, LatentCache
from vidgen.train.data.mixed_lengths import open_held_out, open_latents
from vidgen.train.data.sources import VALIDATION_SEED_OFFSET
from vidgen.train.runtime.step_memory import check_clips
from vidgen.train.tasks.task import Metrics, Task, export_dtype

READ_CLIPS = 1024  # of training, that the linear map is fitted to


class ChangeCodesTask(Task):
    """The loss is the squared error of each latent frame, made from the one before and its change's codes."""

    def __init__(self, recipe: ChangeCodesRecipe) -> None:
        self.recipe = recipe
        dtype = torch.bfloat16 if recipe.autocast == "bfloat16" else torch.float32
        self.tokenizer = load_tokenizer(recipe.tokenizer, dtype=dtype, device=recipe.device)
        config = self.tokenizer.config
        if self.tokenizer.latent_frames(shortest := min(recipe.data.lengths())) < 2:
            raise VidgenError(
                f"clips of {shortest} frames are one latent frame, of which nothing changes: give data.num_frames, and "
                f"that of each source, more than {config.temporal_compression_ratio} or leave the source out"
            )
        size = latent_size(*recipe.data.size, config.spatial_compression_ratio)
        values = {**recipe.model, "latent_channels": config.latent_channels, "size": tuple(size)}
        torch.manual_seed(recipe.seed)
        self.model = ChangeCodes(config_from_dict(ChangeCodesConfig, values, "recipe key `model`")).to(recipe.device)
        check_clips(recipe, min(ENCODE_BATCH, recipe.cached_clips or ENCODE_BATCH))
        clips, settings = (self.tokenizer, recipe.data), {"cache": recipe.cache}
        self.dataset = open_latents(*clips, seed=recipe.seed, count=recipe.cached_clips, **settings)
        own = {"seed": recipe.seed + VALIDATION_SEED_OFFSET, "count": recipe.data.validation_clips}
        self.held_out = open_held_out(*clips, **own, **settings)

    def gather(self, samples: list[CachedClip]) -> dict[str, Any]:
        """Return latents."""
        return {"latents": torch.stack([s.latents for s in samples])}

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return the squared error of a batch."""
        latents = batch["latents"].to(self.recipe.device)
        return (self.model(latents) - latents[:, :, 1:]).square().mean(), {}

    @torch.no_grad()
    def validate(self) -> Metrics:
        """Return the squared error of held-out clips, over that of repeating the frame before, and the share of codes
        in use; of clips with actions, R^2 of these, read by a linear map from the codes of each change."""
        latents = self.held_out.latents.float().to(self.recipe.device)
        parts = [x for x in latents.split(self.recipe.batch_size)]
        error = torch.cat([(self.model(x) - x[:, :, 1:]).square().mean((1, 2, 3, 4)) for x in parts]).mean()
        still = (latents[:, :, 1:] - latents[:, :, :-1]).square().mean()
        used = torch.cat([self.model.encode(x)[1].flatten() for x in parts]).unique().numel()
        metrics = {"loss": error.item(), "error_over_still": (error / still).item()}
        metrics["codes_in_use"] = used / self.model.codebook_size
        if isinstance(self.dataset, LatentCache) and self.dataset.actions(0) is not None:
            metrics["actions_r2"] = self.read_actions()
        return metrics

    def read_actions(self) -> float:
        """Return R^2 of the actions of held-out clips, by ridge regression on the codes of training clips."""
        from sklearn.linear_model import RidgeCV

        fitted, held_out = (self.changes_of(cache) for cache in (self.dataset, self.held_out))
        return float(RidgeCV(alphas=np.logspace(-3, 3, 13)).fit(*fitted).score(*held_out))

    def changes_of(self, cache: LatentCache) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "n a"]]:
        """Return the codes of each change and, as a row, the actions of the frames that it leads to."""
        count, ratio = min(READ_CLIPS, len(cache.rows)), self.tokenizer.config.temporal_compression_ratio
        latents = cache.latents[:count].float().to(self.recipe.device)
        codes = torch.cat([self.model.encode(x)[0] for x in latents.split(self.recipe.batch_size)]).flatten(2)
        actions = torch.stack([cache.actions(i) for i in range(count)])[:, 1:]
        rows = actions.reshape(count, codes.shape[1], ratio * actions.shape[-1])
        return codes.flatten(0, 1).cpu().numpy(), rows.flatten(0, 1).numpy()

    def export(self, folder: Path) -> None:
        """Write the model."""
        self.model.save_pretrained(folder, dtype=export_dtype(self.recipe.autocast))
