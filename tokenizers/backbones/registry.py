"""Backbones by name: what makes the encoder and the decoder of a tokenizer, and the settings that only it has."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from vidgen.errors import VidgenError
from vidgen.tokenizers.backbones.convolutional import Decoder, Encoder, MakeBlock
from vidgen.tokenizers.backbones.convolutions import ResidualBlock
from vidgen.tokenizers.backbones.transformer import TransformerBlock
from vidgen.tokenizers.backbones.wan import WanDecoder, WanEncoder

Networks = tuple[nn.Module, nn.Module]  # encoder and decoder


@dataclass(frozen=True, kw_only=True)
class NetworkShape:
    """What every backbone is built from: widths of the stages, which steps between them halve time, blocks a stage.

    The encoder maps `patch_channels` to the `hidden_channels` that the bottleneck takes, and the decoder maps
    `latent_channels` to `patch_channels`. `patch_t` and `front_end` say what the patches are.
    """

    patch_channels: int
    hidden_channels: int
    latent_channels: int
    encoder_widths: tuple[int, ...]
    decoder_widths: tuple[int, ...]
    temporal: tuple[bool, ...]
    encoder_blocks: int
    decoder_blocks: int
    patch_t: int
    front_end: str


def build_stages(shape: NetworkShape, make_block: MakeBlock, attention: bool = False) -> Networks:
    """Return an `Encoder` and a `Decoder` of the blocks that `make_block` makes."""
    ends = {"temporal": shape.temporal, "make_block": make_block, "attention": attention}
    encoder = Encoder(
        shape.patch_channels, shape.hidden_channels, shape.encoder_widths, blocks=shape.encoder_blocks, **ends
    )
    decoder = Decoder(
        shape.latent_channels, shape.patch_channels, shape.decoder_widths, blocks=shape.decoder_blocks, **ends
    )
    return encoder, decoder


def build_convolutional(shape: NetworkShape, *, convolution: str, attention: bool) -> Networks:
    """Return networks of `ResidualBlock`s."""
    return build_stages(shape, lambda c_in, c_out, index: ResidualBlock(c_in, c_out, convolution), attention)


def build_transformer(shape: NetworkShape, *, head_dim: int, window: int, time_window: int) -> Networks:
    """Return networks of `TransformerBlock`s, every second one with shifted windows."""
    settings = {"head_dim": head_dim, "window": window, "time_window": time_window}
    return build_stages(
        shape, lambda c_in, c_out, index: TransformerBlock(c_in, c_out, shifted=index % 2 == 1, **settings)
    )


def check_transformer(shape: NetworkShape, *, head_dim: int, window: int, time_window: int) -> None:
    """Raise VidgenError for widths that are not whole heads."""
    if head_dim % 4 or any(width % head_dim for width in (*shape.encoder_widths, *shape.decoder_widths)):
        raise VidgenError(
            f"widths={shape.encoder_widths} with head_dim={head_dim}: a transformer needs head_dim a multiple of 4 "
            "and widths multiples of head_dim, e.g. widths=(384,) with head_dim=64"
        )


def build_wan(shape: NetworkShape, *, shortcuts: bool) -> Networks:
    """Return a `WanEncoder` and a `WanDecoder`."""
    rest = {"temporal": shape.temporal, "shortcuts": shortcuts}
    encoder = WanEncoder(
        shape.patch_channels, shape.hidden_channels, shape.encoder_widths, blocks=shape.encoder_blocks, **rest
    )
    decoder = WanDecoder(
        shape.latent_channels, shape.patch_channels, shape.decoder_widths, blocks=shape.decoder_blocks, **rest
    )
    return encoder, decoder


def check_wan(shape: NetworkShape, *, shortcuts: bool) -> None:
    """Raise VidgenError for patches of several frames, and for widths that cannot be halved."""
    if (shape.patch_t, shape.front_end) != (1, "patch"):
        raise VidgenError(
            f"backbone 'wan' with patch_t={shape.patch_t} and front_end {shape.front_end!r}: its first frame is a "
            "latent of its own; set patch_t=1 and front_end='patch', and halve time by `temporal`"
        )
    for name, widths in (("widths", shape.encoder_widths), ("decoder_widths", shape.decoder_widths)):
        if not shortcuts and any(width % 2 for width in widths[1:]):
            raise VidgenError(f"{name}={widths}: backbone 'wan' halves widths on the way up; make them even")


def accept(shape: NetworkShape, **settings: Any) -> None:
    """Take every shape: the check of a backbone that has nothing to check."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """One kind of encoder and decoder.

    `build(shape, **settings)` makes both, `check(shape, **settings)` raises VidgenError where that would fail.
    lone_first: a clip's first frame is a latent of its own, rather than repeated to fill a latent's frames.
    """

    build: Callable[..., Networks]
    check: Callable[..., None] = accept
    lone_first: bool = False

    @property
    def settings(self) -> set[str]:
        """The names of the settings that it takes beside the shape."""
        return set(inspect.signature(self.build).parameters) - {"shape"}


BACKBONES: dict[str, Backbone] = {
    "convolutional": Backbone(build=build_convolutional),
    "transformer": Backbone(build=build_transformer, check=check_transformer),
    "wan": Backbone(build=build_wan, check=check_wan, lone_first=True),
}
