"""Wan's classes of pipelines, for video from text and from an image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vidgen.models.text.prompt_rule import PromptRule
from vidgen.pipelines.pipeline_kind import PipelineKind
from vidgen.pipelines.published_schedule import FLOW, CallDefaults
from vidgen.pipelines.wan.adapter import TwoWanDenoisers, WanDenoiser
from vidgen.pipelines.wan.autoencoder import CLASS_NAME, read_wan


def wan_defaults(index: dict[str, Any], transformer: Any, vae: dict[str, Any]) -> CallDefaults:
    """Return the defaults of a call. The rates are those that the models' own pages play clips at."""
    fps = 24.0 if index.get("expand_timesteps") else 16.0
    return CallDefaults(num_frames=81, height=480, width=832, num_inference_steps=50, guidance_scale=5.0, fps=fps)


WAN = PipelineKind(
    denoiser=WanDenoiser,
    autoencoder=CLASS_NAME,
    read_autoencoder=read_wan,
    # Its transformers attend to the padding, which is zeros, whatever the mask says.
    prompts=PromptRule(length=512, masked=True, zeroed=True, attended=False, cleaned=True),
    schedulers=FLOW,
    defaults=wan_defaults,
    settings=lambda index, vae, defaults: {"frame_levels": bool(index.get("expand_timesteps"))},
    optional=("transformer_2", "boundary_ratio"),
    pair=TwoWanDenoisers,
)
WAN_IMAGE_TO_VIDEO = replace(WAN, optional=(*WAN.optional, "image_encoder"), from_image=True)
