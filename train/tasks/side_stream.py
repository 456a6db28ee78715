"""Task `side_stream`: a denoiser of clips and of their actions together, each at a noise level of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.data.shapes.walks import ACTION_CHANNELS
from vidgen.diffusion.noise import draw_normal, sample_generator
from vidgen.models.dit.joint_network import JointNetwork, with_side_stream
from vidgen.models.dit.side_stream import join_streams, rows_of_latents
from vidgen.models.text.encoders import ByteTextEncoder, TextEncoding
from vidgen.samplers.conditioning.side_modes import StreamStates, draw_states, levels_of
from vidgen.train.config.side_stream import SideStreamRecipe
from vidgen.train.data.latent_cache import CachedClip
from vidgen.train.data.sources import rng_of
from vidgen.train.tasks.denoising import DenoisingTask
from vidgen.train.tasks.task import Metrics


class SideStreamTask(DenoisingTask):
    """The denoising loss of what a mode asks for, over both streams: a frame of either counts as much.

    The denoiser is trained, and a byte-level text encoder with it.
    """

    def __init__(self, recipe: SideStreamRecipe) -> None:
        super().__init__(recipe)
        self.ratio = self.tokenizer.config.temporal_compression_ratio
        torch.manual_seed(recipe.seed)
        self.transformer = with_side_stream(self.transformer, ACTION_CHANNELS * self.ratio)
        trained: dict[str, nn.Module] = {"transformer": self.transformer}
        if recipe.train_text and isinstance(self.text_encoder, ByteTextEncoder):
            trained["text_encoder"] = self.text_encoder
        self.model = nn.ModuleDict(trained).requires_grad_(True)
        self.open_clips()

    def gather(self, samples: list[CachedClip]) -> dict[str, Any]:
        """Return latents, captions, and the actions as rows of latent frames."""
        return super().gather(samples) | {"side": self.rows_of([s.actions for s in samples])}

    def rows_of(self, actions: list[Float[Tensor, "T a"]]) -> Float[Tensor, "b t k"]:
        """Return the actions of clips as rows of latent frames."""
        return rows_of_latents(torch.stack(actions), self.ratio)

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return the denoising loss of a batch, each clip under a mode that it draws by the shares."""
        x0 = batch["latents"]
        b, frames = x0.shape[0], x0.shape[2]
        shares = torch.tensor(list(self.recipe.side.values()), dtype=torch.float64)
        drawn = torch.multinomial(shares, b, replacement=True, generator=generator)
        states = draw_states([list(self.recipe.side)[i] for i in drawn.tolist()], frames, generator)
        levels = self.time_of(x0).sample((b, 2), generator)
        dropped = torch.rand(b, generator=generator) < self.recipe.drop_text
        text = self.condition(batch, dropped, generator).text
        eps = join_streams(draw_normal(x0.shape, generator), draw_normal(batch["side"].shape, generator))
        return self.joint_loss(join_streams(x0, batch["side"]), text, states, levels, eps).mean(), {}

    def joint_loss(
        self,
        both: Float[Tensor, "b c two_t h w"],
        text: TextEncoding | list[str],
        states: StreamStates,
        levels: Float[Tensor, "b two"],
        eps: Float[Tensor, "b c two_t h w"],
    ) -> Float[Tensor, " b"]:
        """Return the loss of each clip over the frames and rows that are wanted; `levels` are of the two streams."""
        network = JointNetwork(transformer=self.transformer, absent=states.absent.to(self.recipe.device))
        return self.denoising_loss(both, text, levels_of(states, levels), eps, network=network)

    def validate(self) -> Metrics:
        """Return the loss of held-out clips under each mode, with fixed noise, contexts and levels, and their mean by
        the shares. The streams are at one level, as in sampling."""
        recipe, held_out = self.recipe, self.held_out
        latents = held_out.latents.float()
        captions = [held_out.caption(i, rng_of(recipe.seed, i)) for i in range(len(latents))]
        side = self.rows_of([held_out.actions(i) for i in range(len(latents))])
        metrics = {}
        for mode in recipe.side:
            generator = sample_generator(recipe.seed, f"validation-{mode}")
            losses = []
            for first in range(0, len(latents), recipe.batch_size):
                part = slice(first, first + recipe.batch_size)
                both = join_streams(latents[part], side[part])
                states = draw_states([mode] * len(both), latents.shape[2], generator)
                eps = join_streams(
                    draw_normal(latents[part].shape, generator), draw_normal(side[part].shape, generator)
                )
                for level in self.time_of(latents).stratified(recipe.validation_levels).tolist():
                    levels = torch.full((len(both), 2), level)
                    losses.append(self.joint_loss(both, captions[part], states, levels, eps))
            metrics[f"loss_{mode}"] = torch.cat(losses).mean().item()
        total = sum(recipe.side.values())
        return {"loss": sum(share * metrics[f"loss_{mode}"] for mode, share in recipe.side.items()) / total, **metrics}

    def export(self, folder: Path) -> None:
        """Write the whole pipeline."""
        self.save_pipeline(folder)
