"""Trainable backbones: a copy of a model up to one of its layers, with gradients."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.interfaces import Pipeline, Tokenizer
from vidgen.models.placement import device_of
from vidgen.representations.denoiser_encoder import up_to_last
from vidgen.representations.extractor import FeatureExtractor
from vidgen.representations.feature_keys import parse_key
from vidgen.representations.model_layers import evaluating
from vidgen.representations.pooling import POOLS


class Backbone:
    """One layer of a copy of a pipeline or tokenizer, whose weights are free to be trained.

    For a layer of the denoiser the denoiser is trained, on latents of the tokenizer as it is; for one of the tokenizer
    the tokenizer. The noise of a clip is a function of (seed, id), as in `FeatureExtractor`; so is everything else.
    """

    def __init__(self, model: Pipeline | Tokenizer, key: str, *, pool: str, seed: int, prompt: str) -> None:
        self.layer, level = parse_key(key)
        self.pool, self.of_denoiser = pool, self.layer.startswith("dit.")
        if isinstance(model, nn.Module):
            self.model = self.trained = copy.deepcopy(model)
        else:
            part = "transformer" if self.of_denoiser else "vae"
            self.model = copy.copy(model)
            self.trained = copy.deepcopy(getattr(model, part))
            setattr(self.model, part, self.trained)
        self.trained.float().requires_grad_(True)
        levels = (0.0,) if level is None else (level,)
        self.extractor = FeatureExtractor(self.model, [self.layer], levels, pool, seed, prompt)

    @torch.no_grad()
    def prepare(self, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b c t h w"]:
        """Return what `__call__` takes: the clips' latents, or the clips themselves."""
        if not self.of_denoiser:
            return video
        with evaluating(self.model):
            return self.extractor.tokenizer.encode(video.to(device_of(self.extractor.tokenizer))).latents.float().cpu()

    def __call__(self, inputs: Float[Tensor, "b c t h w"], ids: Sequence[str]) -> Float[Tensor, "b d"]:
        """Return pooled features, their axes flattened, with gradients where those are on."""
        with evaluating(self.model):
            if self.of_denoiser:
                ((_, x),) = self.extractor.iter_denoiser_features(inputs, ids)
            else:
                name = self.layer.removeprefix(self.extractor.part)
                walk = self.trained.iter_features(inputs.to(device_of(self.trained)))
                ((_, x),) = up_to_last(walk, [name])
                x = rearrange(x, "b c t h w -> b t h w c")
        return rearrange(POOLS[self.pool](x.float()), "b ... -> b (...)").cpu()
