"""Pipelines of diffusers by class: WanPipeline, CogVideoXPipeline and LTXPipeline, their folders as a VideoPipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from vidgen.errors import VidgenError
from vidgen.models.published.prompts import PromptRule, PublishedTextEncoder, draft_text_encoder, read_words
from vidgen.models.published.weights import draft_diffusers
from vidgen.pretrained import read_config
from vidgen.samplers.pipeline import VideoPipeline
from vidgen.samplers.published.schedules import FLOW, TABLE, CallDefaults, SchedulerKind, read_schedule


@dataclass(frozen=True, kw_only=True)
class PipelineKind:
    """How a class of pipelines is put together. `denoiser` is ours, "module:class"; `defaults` and `settings` are
    functions of the transformer's config, and of index and tokenizer: what a call and the denoiser take besides."""

    denoiser: str
    autoencoder: str
    prompts: PromptRule
    schedulers: dict[str, SchedulerKind]
    defaults: Callable[[dict[str, Any], dict[str, Any]], CallDefaults]
    settings: Callable[[dict[str, Any], Any, CallDefaults], dict[str, Any]] = lambda index, vae, defaults: {}
    by_length: bool = False


def wan_defaults(index: dict[str, Any], transformer: dict[str, Any]) -> CallDefaults:
    # The rates are those that the models' own pages play clips at.
    fps = 24.0 if index.get("expand_timesteps") else 16.0
    return CallDefaults(num_frames=81, height=480, width=832, num_inference_steps=50, guidance_scale=5.0, fps=fps)


def cogvideox_defaults(index: dict[str, Any], transformer: dict[str, Any]) -> CallDefaults:
    return CallDefaults(
        num_frames=transformer.get("sample_frames", 49),
        height=8 * transformer.get("sample_height", 60),
        width=8 * transformer.get("sample_width", 90),
        num_inference_steps=50,
        guidance_scale=6.0,
        fps=16.0 if transformer.get("patch_size_t") else 8.0,
    )


def ltx_defaults(index: dict[str, Any], transformer: dict[str, Any]) -> CallDefaults:
    return CallDefaults(num_frames=161, height=512, width=704, num_inference_steps=50, guidance_scale=3.0, fps=25.0)


def ltx_settings(index: dict[str, Any], vae: Any, defaults: CallDefaults) -> dict[str, Any]:
    return {"cell": (vae.config.ratio_t, vae.config.ratio, vae.config.ratio), "frame_rate": defaults.fps}


PIPELINES: dict[str, PipelineKind] = {
    "WanPipeline": PipelineKind(
        denoiser="vidgen.models.published.wan:WanDenoiser",
        autoencoder="AutoencoderKLWan",
        prompts=PromptRule(length=512, masked=True, zeroed=True, cleaned=True),
        schedulers=FLOW,
        defaults=wan_defaults,
        settings=lambda index, vae, defaults: {"frame_levels": bool(index.get("expand_timesteps"))},
    ),
    "CogVideoXPipeline": PipelineKind(
        denoiser="vidgen.models.published.cogvideox:CogVideoXDenoiser",
        autoencoder="AutoencoderKLCogVideoX",
        prompts=PromptRule(length=226),
        schedulers=TABLE,
        defaults=cogvideox_defaults,
    ),
    "LTXPipeline": PipelineKind(
        denoiser="vidgen.models.published.ltx:LTXDenoiser",
        autoencoder="AutoencoderKLLTXVideo",
        prompts=PromptRule(length=128, attended=False),
        schedulers=FLOW,
        defaults=ltx_defaults,
        settings=ltx_settings,
        by_length=True,
    ),
}
# Keys of an index that make another pipeline of a class, such as Wan 2.2's two transformers.
UNREAD = ("transformer_2", "boundary_ratio", "image_encoder")


def open_published(folder: Path, index: dict[str, Any], *, dtype: torch.dtype | None, device: str) -> VideoPipeline:
    """The pipeline of diffusers in `folder`, whose model_index.json is `index`.

    All configs, and names and shapes of all tensors, are looked at before any of them is read; the weights go straight
    to their place in `dtype`. Raises VidgenError for parts that are missing, damaged or not supported.
    """
    name = index["_class_name"]
    kind = PIPELINES[name]
    for key in UNREAD:
        if index.get(key) not in (None, [None, None]):
            raise VidgenError(f"{folder}: a {name} with {key} is not supported")
    module, denoiser_name = kind.denoiser.split(":")
    denoiser = getattr(import_module(module), denoiser_name)
    wanted = {"transformer": denoiser.network_class.__name__, "vae": kind.autoencoder}
    for part, cls in wanted.items():
        found = read_config(folder / part).get("_class_name")
        if found != cls:
            raise VidgenError(f"{folder / part} holds a {found}; a {name} with {cls} is supported")
    draft = draft_diffusers(denoiser.network_class, folder / "transformer")
    defaults = kind.defaults(index, dict(draft.network.config))
    schedule = read_schedule(folder, kind.schedulers, defaults, by_length=kind.by_length)
    text = draft_text_encoder(folder / "text_encoder", dtype)
    words = read_words(folder / "tokenizer")
    # The side folders do not import each other, so this one is found by its name.
    vae = import_module("vidgen.tokenizers.loading").load_tokenizer(str(folder / "vae"), dtype=dtype, device=device)
    transformer = denoiser(draft.network, schedule.clock, **kind.settings(index, vae, defaults))
    widths = {
        "latent channels": (transformer.config.latent_channels, vae.config.latent_channels, "vae"),
        "text width": (transformer.config.text_width, text.network.config.d_model, "text_encoder"),
    }
    for what, (taken, given, part) in widths.items():
        if taken != given:
            raise VidgenError(f"{folder}: the transformer's {what} is {taken}, the {part}'s {given}; they do not fit")
    encoder = PublishedTextEncoder(text.fill(dtype=dtype, device=device), words, kind.prompts)
    draft.fill(dtype=dtype, device=device)
    return VideoPipeline(vae, transformer, encoder, schedule)
