"""The encoders in a model, and the layers that features can be read at."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from torch import nn

from vidgen.errors import VidgenError
from vidgen.interfaces import Encoder, Pipeline
from vidgen.models.feature_layers import FeatureInfo
from vidgen.representations.denoiser_encoder import DenoiserEncoder
from vidgen.representations.feature_keys import DENOISER, ENCODER, TOKENIZER

LATENTS = f"{TOKENIZER}latents"


def as_encoders(model: Pipeline | Encoder, **noise: object) -> dict[str, Encoder]:
    """Return the encoders in a model by the prefix of their layers, the one that sees the pixels first.

    A pipeline is its tokenizer and its denoiser at noise levels (`noise`: the arguments of `DenoiserEncoder`); an
    encoder is itself, "tokenizer." if it has latents and "encoder." if not. Raises VidgenError for anything else, such
    as a denoiser without the tokenizer of its latents.
    """
    if isinstance(model, Pipeline):
        return {TOKENIZER: model.vae, DENOISER: DenoiserEncoder(model, **noise)}
    modules = {info.module for info in model.feature_info} if isinstance(model, Encoder) else set()
    if "latent" in modules:
        return {TOKENIZER: model}
    if not modules or "denoiser" in modules:
        raise VidgenError(f"{type(model).__name__} has no layers; give a pipeline, a tokenizer or an encoder of clips")
    return {ENCODER: model}


def list_layers(model: Pipeline | Encoder) -> list[FeatureInfo]:
    """Return every layer of a model in the order they are run; all reductions in frames and pixels.

    Raises VidgenError for a model that has none.
    """
    return [
        replace(info, name=part + info.name)
        for part, encoder in as_encoders(model).items()
        for info in (encoder.blocks if isinstance(encoder, DenoiserEncoder) else encoder.feature_info)
    ]


def list_taps(model: Pipeline | Encoder) -> list[FeatureInfo]:
    """Return `list_layers` by its former name."""
    warnings.warn("list_taps is now called list_layers", FutureWarning, stacklevel=2)
    return list_layers(model)


def default_layers(model: Pipeline | Encoder, layers: Sequence[str] | str | None = None) -> list[str]:
    """Return the names in `layers`: for None the one layer that says most, for "all" those worth a sweep.

    "all" is the latents and every block of the denoiser; of an encoder that is no tokenizer, every layer.
    """
    if layers is not None and layers != "all":
        return list(layers)
    infos = list_layers(model)
    chosen = [info.name for info in infos if info.module in ("latent", "denoiser")] or [info.name for info in infos]
    if layers == "all":
        return chosen
    return [LATENTS if LATENTS in chosen else chosen[-1]]


def renamed_layers(layers: Sequence[str] | None, taps: Sequence[str] | None) -> Sequence[str] | None:
    """Return `layers`, or what was given under its former name, with a warning."""
    if taps is None:
        return layers
    warnings.warn("the argument taps is now called layers", FutureWarning, stacklevel=3)
    return taps


@contextmanager
def evaluating(model: Pipeline | Encoder | nn.Module) -> Iterator[None]:
    """Put the model's parts in evaluation mode, and afterwards each as it was."""
    parts = [model.vae, model.transformer, model.text_encoder] if isinstance(model, Pipeline) else [model]
    modules = [m for part in parts if isinstance(part, nn.Module) for m in part.modules() if m.training]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module in modules:
            module.training = True
