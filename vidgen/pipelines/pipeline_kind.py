"""How a class of diffusers' pipelines is put together; each family's module makes one for every class that it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from vidgen.models.text.prompt_rule import PromptRule
from vidgen.pipelines.published_denoiser import PublishedDenoiser
from vidgen.pipelines.published_schedule import CallDefaults, SchedulerKind

Settings = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class PipelineKind:
    """The parts of a class of pipelines.

    Attributes:
        denoiser: the adapter of its transformer.
        autoencoder: diffusers' class of its autoencoder, and `read_autoencoder(folder, dtype=, device=)` its reader.
        prompts: how prompts become text.
        schedulers: the kinds of schedulers that it may have, by class name.
        defaults: those of a call, from the index, the config of the transformer that was made, and the autoencoder's.
        settings: what the denoiser takes besides, from the index, the tokenizer and the defaults.
        by_length: whether the schedule's shift depends on the clip's length.
        optional: keys of the index that may be there.
        pair: for two transformers, makes one denoiser of both and the `boundary_ratio` between them.
        from_image: whether clips are made from an image that goes in beside the latents.
    """

    denoiser: type[PublishedDenoiser]
    autoencoder: str
    read_autoencoder: Callable[..., nn.Module]
    prompts: PromptRule
    schedulers: Mapping[str, SchedulerKind]
    defaults: Callable[[Settings, Settings, Settings], CallDefaults]
    settings: Callable[[Settings, Any, CallDefaults], Settings] = lambda index, vae, defaults: {}
    by_length: bool = False
    optional: tuple[str, ...] = ()
    pair: Callable[[Any, Any, float], nn.Module] | None = None
    from_image: bool = False
