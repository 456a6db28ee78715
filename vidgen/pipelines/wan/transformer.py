"""Wan's text-to-video transformers, 2.1 and 2.2: checkpoints of diffusers' class WanTransformer3DModel, read into a
VideoDiT, and written.

They predict the velocity of the flow path (`flow`, from the clean latents to the noise), at levels that diffusers
counts in thousandths. Latents are those of the autoencoder of the same version, normalized.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vidgen.checkpoints.conversion import KeyedDraft, draft_keyed, make_empty, write_checkpoint
from vidgen.checkpoints.pretrained import CONFIG_NAME, config_from_dict, read_config
from vidgen.errors import VidgenError
from vidgen.models.dit.config import VideoDiTConfig
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.pipelines.wan.transformer_keys import match_keys

CLASS_NAME = "WanTransformer3DModel"
TEXT_LENGTH = 512  # tokens that its pipelines fill prompts up to; the config does not say it
# Settings that all text-to-video models share, and that are not built otherwise here.
FIXED = {
    "patch_size": (1, 2, 2),
    "freq_dim": 256,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "image_dim": None,
    "added_kv_proj_dim": None,
    "pos_embed_seq_len": None,
}


@dataclass(frozen=True, kw_only=True)
class WanTransformerConfig:
    """config.json of a WanTransformer3DModel, with the class's own names and defaults, which are Wan 2.1's 14B.

    `rope_max_seq_len` is not read: positions are made for any length.
    """

    patch_size: tuple[int, int, int] = (1, 2, 2)
    num_attention_heads: int = 40
    attention_head_dim: int = 128
    in_channels: int = 16
    out_channels: int | None = 16
    text_dim: int = 4096
    freq_dim: int = 256
    ffn_dim: int = 13824
    num_layers: int = 40
    cross_attn_norm: bool = True
    qk_norm: str | None = "rms_norm_across_heads"
    eps: float = 1e-6
    image_dim: int | None = None
    added_kv_proj_dim: int | None = None
    rope_max_seq_len: int = 1024
    pos_embed_seq_len: int | None = None

    def check(self, where: str) -> None:
        """Raises VidgenError for settings that no text-to-video model has, and that are not built here."""
        for name, wanted in FIXED.items():
            if getattr(self, name) != wanted:
                raise VidgenError(
                    f"{where}: {name}={getattr(self, name)!r} is not supported, only {wanted!r}; of Wan's transformers "
                    "those that make video from text are read"
                )
        counts = ("num_attention_heads", "attention_head_dim", "in_channels", "text_dim", "ffn_dim", "num_layers")
        for name in counts:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise VidgenError(f"{where}: {name}={value!r} is not a whole number from 1; the config is damaged")
        if not isinstance(self.eps, float) or self.eps <= 0.0:
            raise VidgenError(f"{where}: eps={self.eps!r} is not a number above 0; the config is damaged")
        if (self.out_channels or self.in_channels) != self.in_channels:
            raise VidgenError(
                f"{where}: in_channels={self.in_channels} with out_channels={self.out_channels} is not supported, only "
                "equal ones: more channels in are an image's"
            )

    def to_ours(self) -> VideoDiTConfig:
        """The same network in our words."""
        width = self.num_attention_heads * self.attention_head_dim
        return VideoDiTConfig(
            latent_channels=self.in_channels,
            patch=self.patch_size,
            width=width,
            depth=self.num_layers,
            head_dim=self.attention_head_dim,
            mlp_ratio=self.ffn_dim / width,
            text_width=self.text_dim,
            qk_norm=self.qk_norm,
            norm_eps=self.eps,
            fused_qkv=True,
            rope_theta=10000.0,
            added_positions=False,
            pooled_text=False,
            text_mlp=True,
            text_length=TEXT_LENGTH,
            final_table=True,
        )

    @staticmethod
    def of(config: VideoDiTConfig) -> WanTransformerConfig:
        """A VideoDiT's shape in Wan's words. Raises VidgenError if it has none."""
        found = WanTransformerConfig(
            num_attention_heads=config.width // config.head_dim,
            attention_head_dim=config.head_dim,
            in_channels=config.latent_channels,
            out_channels=config.latent_channels,
            text_dim=config.text_width,
            ffn_dim=config.mlp_width,
            num_layers=config.depth,
            eps=config.norm_eps,
        )
        theirs, ours = (dataclasses.asdict(c) for c in (found.to_ours(), config))
        # How weights lie, and how long texts are, is no part of the class.
        free = ("fused_qkv", "text_length", "mlp_ratio")
        if other := [name for name in ours if name not in free and ours[name] != theirs[name]]:
            values = ", ".join(f"{name}={ours[name]!r}, not {theirs[name]!r}" for name in other[:3])
            raise VidgenError(f"this VideoDiT cannot be written as {CLASS_NAME}: {values}")
        return found


# By name, the transformers of the published text-to-video models. 2.2's 14B is two of 2.1's, for high and low noise.
SIZES = {
    "wan2.1_t2v_1.3b": WanTransformerConfig(num_attention_heads=12, ffn_dim=8960, num_layers=30),
    "wan2.1_t2v_14b": WanTransformerConfig(),
    "wan2.2_ti2v_5b": WanTransformerConfig(
        num_attention_heads=24, ffn_dim=14336, num_layers=30, in_channels=48, out_channels=48
    ),
}


def is_native(values: dict[str, Any]) -> bool:
    """Whether a config is of a text-to-video transformer that is read here."""
    try:
        config = config_from_dict(WanTransformerConfig, values, CONFIG_NAME)
        config.check(CONFIG_NAME)
        config.to_ours()
    except VidgenError:
        return False
    return values.get("_class_name") in (None, CLASS_NAME)


def draft_wan_transformer(place: Path) -> KeyedDraft:
    """The VideoDiT of a WanTransformer3DModel in a folder or a single file, before its weights are read.

    Raises VidgenError if a setting is not supported or a tensor is missing, unexpected or of another shape.
    """
    values = read_config(place)
    if values.get("_class_name") not in (None, CLASS_NAME):
        raise VidgenError(f"{place} holds a {values['_class_name']}, not a {CLASS_NAME}")
    config = config_from_dict(WanTransformerConfig, values, str(place))
    model = make_empty(config, VideoDiT, place)
    return draft_keyed(model, match_keys(model), place)


def read_wan_transformer(
    place: str | os.PathLike, *, dtype: torch.dtype | None = None, device: str = "cpu"
) -> VideoDiT:
    """The VideoDiT of a WanTransformer3DModel in a folder or a single file, in evaluation mode and without gradients.

    In half precision the noise level's embedding and the tables of modulations stay in float32, as diffusers keeps
    them. Raises VidgenError, before a tensor is read, as `draft_wan_transformer`, and if memory is short.
    """
    draft = draft_wan_transformer(Path(place))
    draft.checkpoint.check_room(dtype, device)
    return draft.fill(dtype=dtype, device=device)


def write_wan_transformer(model: VideoDiT, folder: str | os.PathLike, *, dtype: torch.dtype | None = None) -> None:
    """Writes a VideoDiT of Wan's shape as a WanTransformer3DModel that diffusers reads, in `dtype` if given, all or
    nothing. Raises VidgenError for a model that the class cannot hold."""
    config = dataclasses.asdict(WanTransformerConfig.of(model.config))
    write_checkpoint(model, match_keys(model), folder, class_name=CLASS_NAME, config=config, dtype=dtype)
