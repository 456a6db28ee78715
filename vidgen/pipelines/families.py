"""Pipelines of diffusers by class, those of Wan, CogVideoX and LTX-Video: what each is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from vidgen.pipelines.diffusers_schedule import FLOW, TABLE, CallDefaults, SchedulerKind
from vidgen.pipelines.text_encoder import PromptRule

Settings = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class PipelineKind:
    """How a class of pipelines is put together.

    `denoiser` is ours, "module:class". `defaults(index, config of the transformer that was made, autoencoder's
    config)` are those of a call, `settings(index, tokenizer, defaults)` what the denoiser takes besides. `optional`:
    keys of the index that may be there.
    """

    denoiser: str
    autoencoder: str
    prompts: PromptRule
    schedulers: dict[str, SchedulerKind]
    defaults: Callable[[Settings, Settings, Settings], CallDefaults]
    settings: Callable[[Settings, Any, CallDefaults], Settings] = lambda index, vae, defaults: {}
    by_length: bool = False
    optional: tuple[str, ...] = ()


def wan_defaults(index: Settings, transformer: Settings, vae: Settings) -> CallDefaults:
    # The rates are those that the models' own pages play clips at.
    fps = 24.0 if index.get("expand_timesteps") else 16.0
    return CallDefaults(num_frames=81, height=480, width=832, num_inference_steps=50, guidance_scale=5.0, fps=fps)


def cogvideox_defaults(index: Settings, transformer: Settings, vae: Settings) -> CallDefaults:
    ratio = 2 ** (len(vae.get("block_out_channels", range(4))) - 1)
    return CallDefaults(
        num_frames=transformer["sample_frames"],
        height=ratio * transformer["sample_height"],
        width=ratio * transformer["sample_width"],
        num_inference_steps=50,
        guidance_scale=6.0,
        fps=16.0 if transformer["patch_size_t"] else 8.0,
    )


def ltx_defaults(index: Settings, transformer: Settings, vae: Settings) -> CallDefaults:
    return CallDefaults(num_frames=161, height=512, width=704, num_inference_steps=50, guidance_scale=3.0, fps=25.0)


def ltx_settings(index: Settings, vae: Any, defaults: CallDefaults) -> Settings:
    return {
        "cell": (
            vae.config.temporal_compression_ratio,
            vae.config.spatial_compression_ratio,
            vae.config.spatial_compression_ratio,
        ),
        "frame_rate": defaults.fps,
    }


WAN = PipelineKind(
    denoiser="vidgen.pipelines.wan.adapter:WanDenoiser",
    autoencoder="AutoencoderKLWan",
    # Its transformers attend to the padding, which is zeros, whatever the mask says.
    prompts=PromptRule(length=512, masked=True, zeroed=True, attended=False, cleaned=True),
    schedulers=FLOW,
    defaults=wan_defaults,
    settings=lambda index, vae, defaults: {"frame_levels": bool(index.get("expand_timesteps"))},
    optional=("transformer_2", "boundary_ratio"),
)
PIPELINES: dict[str, PipelineKind] = {
    "WanPipeline": WAN,
    "WanImageToVideoPipeline": replace(WAN, optional=(*WAN.optional, "image_encoder")),
    "CogVideoXPipeline": PipelineKind(
        denoiser="vidgen.pipelines.cogvideox:CogVideoXDenoiser",
        autoencoder="AutoencoderKLCogVideoX",
        prompts=PromptRule(length=226),
        schedulers=TABLE,
        defaults=cogvideox_defaults,
    ),
    "LTXPipeline": PipelineKind(
        denoiser="vidgen.pipelines.ltx:LTXDenoiser",
        autoencoder="AutoencoderKLLTXVideo",
        prompts=PromptRule(length=128, attended=False),
        schedulers=FLOW,
        defaults=ltx_defaults,
        settings=ltx_settings,
        by_length=True,
    ),
}
