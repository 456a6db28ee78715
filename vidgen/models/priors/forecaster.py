"""A prior over sequences of embeddings: of the frames or the clips of a video, what comes next."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.checkpoints.pretrained import Pretrained
from vidgen.errors import VidgenError
from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.token_prior import TokenPrior

LEAST_STD = 1e-4  # of a channel that hardly changes, relative to the largest one


class EmbeddingForecaster(Pretrained):
    """A `TokenPrior` over embeddings, one a latent frame of one cell, and their mean and spread.

    Lin et al. 2025 (VEDIT) denoise what is unseen of a procedure's clip embeddings, given what is seen, in the space of
    a frozen encoder. Here that is a prior over continuous tokens: of order "causal" each embedding after those before
    it, of order "masked" any of them after any others.

    `length` is of the sequences of training: longer ones are forecast in a window of as many. Raises VidgenError for a
    config without channels.
    """

    config_class = TokenPriorConfig

    def __init__(self, config: TokenPriorConfig) -> None:
        super().__init__(config)
        if not config.channels:
            raise VidgenError("a forecaster's tokens are embeddings: give channels, and no codebook_sizes")
        self.prior = TokenPrior(config)
        self.register_buffer("mean", torch.zeros(config.channels))
        self.register_buffer("std", torch.ones(config.channels))
        self.register_buffer("length", torch.tensor(1, dtype=torch.int64))

    @torch.no_grad()
    def fit_scale(self, embeddings: Float[Tensor, "n t c"]) -> None:
        """Take mean, spread and length from the sequences of training."""
        std, mean = torch.std_mean(embeddings.float().flatten(0, 1), dim=0)
        self.mean.copy_(mean)
        self.std.copy_(std.clamp(min=max(LEAST_STD * std.max().item(), torch.finfo(std.dtype).tiny)))
        self.length.fill_(embeddings.shape[1])

    def standardize(self, embeddings: Float[Tensor, "b t c"]) -> Float[Tensor, "b t c"]:
        """Return embeddings with mean 0 and spread 1 in each channel, as the prior knows them."""
        return (embeddings.to(self.mean) - self.mean) / self.std

    def restore(self, tokens: Float[Tensor, "b t c"]) -> Float[Tensor, "b t c"]:
        """Return the embeddings of the prior's tokens: the inverse of `standardize`."""
        return tokens * self.std + self.mean
