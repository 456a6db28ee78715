"""The encoders that task ssl trains, by the `kind` of recipe key `encoder`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from vidgen.checkpoints.hub import find_model
from vidgen.checkpoints.pretrained import config_from_dict, read_config
from vidgen.errors import VidgenError
from vidgen.models.encoders.clip_encoder import ClipEncoder
from vidgen.models.encoders.loading import ENCODERS
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig
from vidgen.train.config.self_supervised import SSLRecipe


def build_encoder(recipe: SSLRecipe) -> ClipEncoder:
    """Return the encoder of `init_from`, or a new one from the recipe's seed. Raises VidgenError for another shape, and
    for one that is not of pixels."""
    data, values = recipe.data, dict(recipe.encoder)
    kind = values.pop("kind", "vit")
    if kind not in ENCODERS:
        raise VidgenError(f"recipe key `encoder`: kind {kind!r} is unknown; choose one of {', '.join(ENCODERS)}")
    encoder_class = ENCODERS[kind]
    clip = {"clip": (data.num_frames, *data.size), "fps": data.fps or encoder_class.config_class.fps}
    if recipe.init_from:
        encoder = open_encoder(recipe.init_from, None if "kind" not in recipe.encoder else encoder_class)
        encoder.config = replace(encoder.config, **clip)  # what it is trained at from here on
        frames = values.get("selector_frames")
        if frames and isinstance(encoder, VideoViT) and not encoder.config.selector_frames:
            encoder = add_selector(encoder, frames, recipe.seed)
        check_same(encoder.config, values, recipe)
    else:
        torch.manual_seed(recipe.seed)
        encoder = encoder_class(config_from_dict(encoder_class.config_class, values | clip, "recipe key `encoder`"))
    config = encoder.config
    if isinstance(encoder, VideoViT) and (config.in_channels != 3 or config.codebook_size):
        raise VidgenError("task ssl trains encoders of pixels: leave encoder.in_channels and encoder.codebook_size out")
    encoder.grid_of(torch.empty(1, 3, *clip["clip"], device="meta"))
    return encoder.to(recipe.device).requires_grad_(True)


def open_encoder(name: str, wanted: type[ClipEncoder] | None) -> ClipEncoder:
    """Return the encoder in a folder, of the class `wanted` or of whichever it says. Raises VidgenError for another."""
    class_name = read_config(find_model(name)).get("_class_name")
    classes = {encoder_class.__name__: encoder_class for encoder_class in ENCODERS.values()}
    if class_name not in classes:
        raise VidgenError(f"init_from={name} is a {class_name}; name a folder of a {' or '.join(classes)}")
    component = wanted or classes[class_name]
    return component.from_pretrained(name, dtype=torch.float32)


def add_selector(encoder: VideoViT, frames: int, seed: int) -> VideoViT:
    """Return a trained encoder with a new selector of so many frames."""
    torch.manual_seed(seed)
    shape = dict(encoder.config) | {"selector_frames": frames}
    selecting = VideoViT(config_from_dict(VideoViTConfig, shape, "recipe key `encoder`"))
    selecting.load_state_dict(selecting.state_dict() | encoder.state_dict())
    return selecting


def check_same(shape: Mapping[str, Any], values: Mapping[str, Any], recipe: SSLRecipe) -> None:
    """Raise VidgenError where `values` say another shape than that of the encoder of `init_from`."""
    for name, value in values.items():
        own = shape[name] if name in shape else None
        if own != (tuple(value) if isinstance(value, list) else value):
            raise VidgenError(f"init_from={recipe.init_from} has encoder.{name}={own}, not {value}; leave it out")
