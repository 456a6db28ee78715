"""A pipeline's prior as a coder of clips: the law of their tokens, what it is known by, and the bits that it takes."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from vidgen.checkpoints.hashing import json_hash, model_hash
from vidgen.models.priors.coding import WORD_BITS, PriorLaw, check_coding, one_thread
from vidgen.models.priors.likelihood import likelihood
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.pipelines.priors.pipeline import PriorPipeline
from vidgen.tokenizers.files.token_files import tokenizer_hash


def prior_hash(pipe: PriorPipeline) -> str:
    """Return the SHA-256 (64 hex digits) of all weights that the law of tokens depends on, as they are in memory.

    The tokenizer is none of them: it has a hash of its own.
    """
    bare = copy.copy(pipe.prior)  # shares the weights
    bare.config = replace(pipe.prior.config, tokenizer_hash="")
    text = None if pipe.text_encoder is None else model_hash(pipe.text_encoder)
    return json_hash([model_hash(bare), text])


class PriorCoder:
    """What codes the tokens of clips by the prior of a pipeline, which is told no text ("" where it reads one).

    A prior with a window of frames codes clips of any length. One without knows clips of its training's length: of a
    longer one each `piece` of that many latent frames is coded as a clip of its own.

    Raises VidgenError for a prior that codes nothing, see `check_coding`.

    Args:
        pipe: The pipeline, its prior in float32 or float64.
        name: What the prior was asked for by, for files and errors.
    """

    def __init__(self, pipe: PriorPipeline, name: str) -> None:
        check_coding(pipe.prior, name)
        self.pipe, self.name = pipe, name
        self.piece = 0 if pipe.prior.config.window else pipe.vae.latent_frames(pipe.scheduler.num_frames)

    @cached_property
    def hash(self) -> str:
        """The hash of the prior, see `prior_hash`."""
        return prior_hash(self.pipe)

    @cached_property
    def tokenizer_hash(self) -> str:
        """The hash of the tokenizer that its indices are of."""
        return tokenizer_hash(self.pipe.vae)

    @cached_property
    def conditions(self) -> dict[str, Any]:
        """What the prior is told."""
        if self.pipe.text_encoder is None:
            return {}
        with torch.inference_mode(), one_thread():
            return {"text": self.pipe.text_encoder([""])}

    def law(self, size: tuple[int, int], piece: int | None = None) -> PriorLaw:
        """Return the law of a clip's tokens, of frames of `size` (h, w) cells; `piece` where a file has another."""
        return PriorLaw(self.prior, size, piece=self.piece if piece is None else piece, **self.conditions)

    @property
    def prior(self) -> TokenPrior:
        """The prior."""
        return self.pipe.prior

    def bits(self, indices: Int[Tensor, "1 t h w"] | Int[Tensor, "1 t h w q"]) -> float:
        """Return the bits that the indices of a clip take: -log2 p exactly, by whole passes, and the stream's end."""
        nats = 0.0
        for part in indices.split(self.piece or indices.shape[1], dim=1):
            tokens = self.pipe.tokens_of(part.to(self.prior.embed.weight.device))
            nats += likelihood(self.prior, tokens, tuple(part.shape[1:4]), **self.conditions).nats.item()
        return nats / math.log(2) + WORD_BITS
