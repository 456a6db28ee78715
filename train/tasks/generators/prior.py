"""Task `prior`: the law of a tokenizer's indices, or of its latents, and the text encoder that it reads."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.data.shapes.walks import ACTION_CHANNELS
from vidgen.diffusion.noise import TimeDistribution
from vidgen.errors import VidgenError
from vidgen.models.attention_patterns import Grid
from vidgen.models.dit.side_stream import rows_of_latents
from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.diffusion_head import flow_losses
from vidgen.models.priors.likelihood import Measure, draw_nats, likelihood, token_nats
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.models.priors.token_values import Tokens
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder
from vidgen.pipelines.loading import load_tokenizer
from vidgen.pipelines.priors.pipeline import PriorPipeline
from vidgen.pipelines.priors.schedule import PriorSchedule
from vidgen.pipelines.priors.words import join_words, words_grid
from vidgen.tokenizers.bottlenecks.output import Quantizer
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.train.config.prior import PriorRecipe
from vidgen.train.data.latent_cache import ENCODE_BATCH, CachedClip
from vidgen.train.data.mixed_lengths import open_held_out, open_latents
from vidgen.train.data.sources import VALIDATION_SEED_OFFSET, rng_of
from vidgen.train.runtime.step_memory import check_clips
from vidgen.train.tasks.task import Metrics, Task, export_dtype


class PriorTask(Task):
    """The loss is -log p of the tokens after those before them, or the bound of `masked_nats`, in nats a token; of
    continuous tokens the flow-matching loss of the head in place of -log p."""

    def __init__(self, recipe: PriorRecipe) -> None:
        self.recipe = recipe
        dtype = torch.bfloat16 if recipe.autocast == "bfloat16" else torch.float32
        self.tokenizer = load_tokenizer(recipe.tokenizer, dtype=dtype, device=recipe.device)
        self.prior, self.text_encoder = build_prior(recipe, prior_shape(recipe, self.tokenizer))
        if recipe.gradient_checkpointing:
            self.prior.enable_gradient_checkpointing()
        self.time = config_from_dict(TimeDistribution, recipe.time, "recipe key `time`")
        if self.time.path != "flow":
            raise VidgenError(f"recipe key `time`: path {self.time.path} is not for the head of a prior; it is flow")
        data = recipe.data
        sizes = {"num_frames": data.num_frames, "height": data.size[0], "width": data.size[1], "fps": data.fps}
        schedule = PriorSchedule(**sizes, time_distribution=self.time)
        self.pipe = PriorPipeline(self.tokenizer, self.prior, self.text_encoder, schedule)
        trained: dict[str, nn.Module] = {"prior": self.prior}
        if self.text_encoder is not None:
            trained["text_encoder"] = self.text_encoder
        self.model = nn.ModuleDict(trained).requires_grad_(True)
        words_grid(self.prior.config, self.pipe.grid_of((data.num_frames, *data.size)))
        check_clips(recipe, min(ENCODE_BATCH, recipe.cached_clips or ENCODE_BATCH))
        clips, settings = (self.tokenizer, recipe.data), {"cache": recipe.cache, "indices": recipe.tokens == "indices"}
        self.dataset = open_latents(*clips, seed=recipe.seed, count=recipe.cached_clips, **settings)
        own = {"seed": recipe.seed + VALIDATION_SEED_OFFSET, "count": recipe.data.validation_clips}
        self.held_out = open_held_out(*clips, **own, **settings)

    def gather(self, samples: list[CachedClip]) -> dict[str, Any]:
        """Return indices, or latents, and captions, and the actions that the prior is told, if any."""
        clips = {
            self.recipe.tokens: torch.stack([s.latents for s in samples]),
            "captions": [s.caption for s in samples],
        }
        return clips | self.told([s.actions for s in samples])

    def told(self, actions: list[Float[Tensor, "T a"] | None]) -> dict[str, Tensor]:
        """Return the actions of clips as rows of latent frames, where the prior is told them."""
        if not self.recipe.actions:
            return {}
        ratio = self.tokenizer.config.temporal_compression_ratio
        return {"actions": rows_of_latents(torch.stack(actions), ratio).to(self.recipe.device)}

    def tokens_of(self, indices: Tensor) -> tuple[Tokens, Grid]:
        """Return the tokens of indices, or of latents, and their cells (t, h, w)."""
        first = 2 if self.recipe.tokens == "latents" else 1
        return self.pipe.tokens_of(indices.to(self.recipe.device)), tuple(indices.shape[first : first + 3])

    def measure(self, generator: torch.Generator) -> Measure:
        """Return what is lost at each token: its nats; of continuous ones the head's error at levels that are drawn."""
        if self.recipe.tokens == "indices":
            return token_nats
        settings = {"time": self.time, "generator": generator, "draws": self.recipe.head_draws}
        return partial(flow_losses, self.prior.head, **settings)

    def add_captions(self, tokens: Tokens, grid: Grid, captions: list[str]) -> tuple[Tokens, Grid, dict[str, Any]]:
        """Return tokens with captions among them, where the prior has words, their cells, and the text that it reads
        beside them, if any."""
        text = {} if self.text_encoder is None else {"text": self.text_encoder(captions)}
        return *join_words(self.prior.config, captions, tokens, grid, cut=True), text

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return the mean nats, or the mean flow-matching loss, of a token."""
        tokens, grid = self.tokens_of(batch[self.recipe.tokens])
        dropped = torch.rand(len(tokens), generator=generator) < self.recipe.drop_text
        captions = ["" if drop else caption for drop, caption in zip(dropped, batch["captions"], strict=True)]
        tokens, grid, known = self.add_captions(tokens, grid, captions)
        if self.recipe.actions:
            known["actions"] = batch["actions"]
        nats = draw_nats(self.prior, tokens, grid, generator, self.measure(generator), **known)
        return nats.mean() / tokens.shape[1], {}

    def validate(self) -> Metrics:
        """Return the mean nats and bits of a token of held-out clips, given their captions: exact, or a bound, which is
        called so. Of continuous tokens, which have none, the loss at draws that are always the same."""
        if self.recipe.tokens == "latents":
            return {"loss": self.validate_latents()}
        nats, exact, words = [], True, self.prior.config.words
        for tokens, grid, known in self.held_out_batches():
            draws = {"draws": self.recipe.validation_draws, "seed": self.recipe.seed, "given": words}
            result = likelihood(self.prior, tokens, grid, **draws, **known)
            nats.append(result.nats / (tokens.shape[1] - words))
            exact = result.exact
        mean = torch.cat(nats).mean().item()
        return {"loss": mean, "bits_per_token" if exact else "bits_per_token_bound": mean / math.log(2)}

    @torch.no_grad()
    def validate_latents(self) -> float:
        """Return the mean flow-matching loss of held-out clips."""
        generator, losses = torch.Generator().manual_seed(self.recipe.seed), []
        for tokens, grid, known in self.held_out_batches():
            for _ in range(self.recipe.validation_draws):
                drawn = draw_nats(self.prior, tokens, grid, generator, self.measure(generator), **known)
                losses.append(drawn / tokens.shape[1])
        return torch.cat(losses).mean().item()

    def held_out_batches(self) -> Iterator[tuple[Tokens, Grid, dict[str, Any]]]:
        """Yield tokens of held-out clips, their cells, and what the prior is told of them."""
        count, kind = len(self.held_out.rows), torch.int64 if self.recipe.tokens == "indices" else torch.float32
        for first in range(0, count, self.recipe.batch_size):
            rows = range(first, min(first + self.recipe.batch_size, count))
            cells = self.held_out.latents[rows.start : rows.stop].to(kind)
            captions = [self.held_out.caption(i, rng_of(self.recipe.seed, i)) for i in rows]
            tokens, grid, known = self.add_captions(*self.tokens_of(cells), captions)
            yield tokens, grid, known | self.told([self.held_out.actions(i) for i in rows])

    def export(self, folder: Path) -> None:
        """Write the whole pipeline: the tokenizer, the prior and its text encoder."""
        self.pipe.save_pretrained(folder, dtype=export_dtype(self.recipe.autocast))


def prior_shape(recipe: PriorRecipe, tokenizer: VideoTokenizer) -> dict[str, Any]:
    """Return what a prior's config says of its clips: codebooks, or channels, and those of actions. Raises VidgenError
    for indices of a tokenizer without any, and for digits that are not of its codebook."""
    actions = ACTION_CHANNELS * tokenizer.config.temporal_compression_ratio if recipe.actions else 0
    if recipe.tokens == "latents":
        return {"channels": tokenizer.config.latent_channels, "actions": actions}
    codebook = getattr(tokenizer, "bottleneck", None)
    if not isinstance(codebook, Quantizer):
        raise VidgenError(
            f"tokenizer={recipe.tokenizer} has no codebook: name the folder of one with fsq, vq or the like, or set "
            "tokens=latents"
        )
    sizes = recipe.codebook_sizes(codebook.codebook_size, codebook.quantizers)
    return {"codebook_sizes": sizes, "actions": actions}


def build_prior(recipe: PriorRecipe, shape: dict[str, Any]) -> tuple[TokenPrior, ByteTextEncoder | None]:
    """Return the prior and the text encoder of `init_from`, or new ones from the recipe's seed.

    Raises VidgenError for a prior of other tokens or actions than `shape` says.
    """
    if recipe.init_from:
        pipe = PriorPipeline.from_pretrained(recipe.init_from, dtype=torch.float32, device=recipe.device)
        for name, value in shape.items():
            if (own := pipe.prior.config[name]) != value:
                raise VidgenError(f"init_from={recipe.init_from} is for {name} {own or 'of none'}, not {value}")
        return pipe.prior, pipe.text_encoder
    torch.manual_seed(recipe.seed)
    text: ByteTextEncoder | None = None
    if recipe.text_model:
        text = ByteTextEncoder(config_from_dict(ByteTextConfig, recipe.text_model, "recipe key `text_model`"))
    values = {**recipe.model, **shape, "text_width": text.width if text else 0}
    prior = TokenPrior(config_from_dict(TokenPriorConfig, values, "recipe key `model`"))
    return prior.to(recipe.device), None if text is None else text.to(recipe.device)
