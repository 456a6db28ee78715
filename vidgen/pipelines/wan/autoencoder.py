"""Wan's autoencoders: checkpoints of diffusers' class AutoencoderKLWan, read into a VideoTokenizer, and written."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch

from vidgen.bounds import Length, Range, Share, Width, check_fields
from vidgen.checkpoints.checkpoint import find_checkpoint
from vidgen.checkpoints.config_fields import ConfigMapping
from vidgen.checkpoints.conversion import draft_network, write_checkpoint
from vidgen.checkpoints.empty_weights import init_empty_weights
from vidgen.checkpoints.pretrained import config_from_dict, read_config
from vidgen.errors import VidgenError, explained
from vidgen.pipelines.wan.autoencoder_keys import match_autoencoder_keys
from vidgen.tokenizers.backbones.convolutional import FrontEnd
from vidgen.tokenizers.config import Blocks, TokenizerConfig
from vidgen.tokenizers.model import VideoTokenizer

CLASS_NAME = "AutoencoderKLWan"
Statistic = Annotated[float, Range(-1e6, 1e6)]
# Per channel, of the latents of Wan 2.1: older checkpoints leave them out.
MEAN_21 = (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
           0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921)  # fmt: skip
STD_21 = (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
          3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class WanAutoencoderConfig(ConfigMapping):
    """config.json of an AutoencoderKLWan, with the class's own names and defaults, which are those of Wan 2.1.

    Its scale factors are not read: they follow from the layers.
    """

    base_dim: Width = 96
    decoder_base_dim: Width | None = None
    z_dim: Width = 16
    dim_mult: Annotated[tuple[Width, ...], Length(1, 8)] = (1, 2, 4, 4)
    num_res_blocks: Blocks = 2
    attn_scales: Annotated[tuple[Share, ...], Length(0, 8)] = ()
    temperal_downsample: Annotated[tuple[bool, ...], Length(0, 7)] = (False, True, True)
    dropout: Share = 0.0
    latents_mean: tuple[Statistic, ...] = MEAN_21
    latents_std: tuple[Statistic, ...] = STD_21
    is_residual: bool = False
    in_channels: Width = 3
    out_channels: Width = 3
    patch_size: Width | None = None
    scale_factor_temporal: Width | None = 4
    scale_factor_spatial: Width | None = 8

    def check(self, where: str) -> None:
        """Raise VidgenError, naming `where`, for settings that no published model has, and that are not built here."""
        check_fields(self, f"{where}: ")
        channels = 3 * (self.patch_size or 1) ** 2
        for name, value in (
            ("in_channels", channels),
            ("out_channels", channels),
            ("attn_scales", ()),
            ("dropout", 0.0),
        ):
            if getattr(self, name) != value:
                raise VidgenError(f"{where}: {name}={getattr(self, name)!r} is not supported, only {value!r}")
        if self.dim_mult[0] != 1:
            raise VidgenError(f"{where}: dim_mult={list(self.dim_mult)} is not supported: it starts with 1")
        for name in ("latents_mean", "latents_std"):
            if len(getattr(self, name)) != self.z_dim:
                raise VidgenError(f"{where}: {name} is not {self.z_dim} numbers, one for each of z_dim={self.z_dim}")

    def to_ours(self) -> TokenizerConfig:
        """Return the same network in our words."""
        decoder = self.decoder_base_dim or self.base_dim
        return TokenizerConfig(
            backbone="wan",
            bottleneck="kl",
            plain_logvar=True,
            latent_channels=self.z_dim,
            front_end="patch",
            patch_t=1,
            patch=self.patch_size or 1,
            widths=tuple(self.base_dim * k for k in self.dim_mult),
            decoder_widths=() if decoder == self.base_dim else tuple(decoder * k for k in self.dim_mult),
            temporal=self.temperal_downsample,
            encoder_blocks=self.num_res_blocks,
            decoder_blocks=self.num_res_blocks + 1,
            shortcuts=self.is_residual,
        )

    @staticmethod
    def of(tokenizer: VideoTokenizer) -> WanAutoencoderConfig:
        """Return the settings of a tokenizer in Wan's words. Raises VidgenError if it has none."""
        c = tokenizer.config
        base = c.widths[0]
        decoder = c.decoder_widths or c.widths
        config = WanAutoencoderConfig(
            base_dim=base,
            decoder_base_dim=decoder[0] if decoder[0] != base else None,
            z_dim=c.latent_channels,
            dim_mult=tuple(width // base for width in c.widths),
            num_res_blocks=c.encoder_blocks,
            temperal_downsample=c.temporal,
            latents_mean=tuple(tokenizer.latents_mean.tolist()),
            latents_std=tuple(tokenizer.latents_std.tolist()),
            is_residual=c.shortcuts,
            in_channels=3 * c.patch**2,
            out_channels=3 * c.patch**2,
            patch_size=c.patch if c.patch > 1 else None,
            scale_factor_temporal=c.temporal_compression_ratio,
            scale_factor_spatial=c.spatial_compression_ratio,
        )
        if c.backbone != "wan" or config.to_ours() != c:
            raise VidgenError(f"{c.name} with backbone {c.backbone!r} cannot be written as {CLASS_NAME}: {c}")
        return config


def read_wan(folder: str | os.PathLike, *, dtype: torch.dtype | None = None, device: str = "cpu") -> VideoTokenizer:
    """Return the tokenizer of an AutoencoderKLWan in a folder or a file, in evaluation mode and without gradients.

    Latents are normalized by the config's `latents_mean` and `latents_std`. Raises VidgenError, before a tensor is
    read, if a setting is not supported, a tensor is missing, unexpected or of another shape, or memory is short.
    """
    folder = Path(folder)
    config = config_from_dict(WanAutoencoderConfig, read_config(folder), str(folder))
    config.check(str(folder))
    checkpoint = find_checkpoint(folder)
    with explained(str(folder)), init_empty_weights(len(checkpoint.homes)):
        model = VideoTokenizer(config.to_ours())
    draft = draft_network(model, checkpoint, match_autoencoder_keys(model))
    draft.checkpoint.check_memory(dtype, device)
    tensors = draft.read(dtype=dtype, device=device)
    precision = dtype or tensors["encoder.conv_in.weight"].dtype
    for name, values in (("latents_mean", config.latents_mean), ("latents_std", config.latents_std)):
        tensors[name] = torch.tensor(values, dtype=torch.float64).to(device, precision)
    tensors["front_end.basis"] = FrontEnd("patch", 1, model.config.patch).basis.to(device, dtype)
    model.load_state_dict(tensors, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def write_wan(tokenizer: VideoTokenizer, folder: str | os.PathLike, *, dtype: torch.dtype | None = None) -> None:
    """Write a tokenizer of Wan's backbone as an AutoencoderKLWan that diffusers reads, all or nothing.

    Weights are written in `dtype` if given, the statistics of latents as the tokenizer has them: those of a bfloat16
    one are rounded. Raises VidgenError for a tokenizer that the class cannot hold.
    """
    config = dataclasses.asdict(WanAutoencoderConfig.of(tokenizer))
    write_checkpoint(
        tokenizer, match_autoencoder_keys(tokenizer), folder, class_name=CLASS_NAME, config=config, dtype=dtype
    )
