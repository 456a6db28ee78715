"""Autoencoders of diffusers beside ours: of the same compression, and as wide as the same FLOPs allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.data.frames import latent_frames
from vidgen.errors import VidgenError
from vidgen.profiling.flops import count_gflops
from vidgen.scripts.benches.flop_matching import count_bytes, count_long, match_width
from vidgen.tokenizers.model import VideoTokenizer

Way = Literal["encode", "decode"]
RATIO_T, RATIO = 4, 8  # temporal and spatial compression of every peer
LENGTHS_FOR_BYTES = (33, 65)


@dataclass(frozen=True, kw_only=True)
class ClipSize:
    """A clip's frames, height and width, and its latents' size at the compression of the peers."""

    frames: int
    height: int
    width: int

    @property
    def latents(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns."""
        return latent_frames(self.frames, RATIO_T), -(-self.height // RATIO), -(-self.width // RATIO)

    def __str__(self) -> str:
        return f"{self.frames}x{self.height}x{self.width}"


@dataclass(frozen=True, kw_only=True)
class PeerShape:
    """A peer of diffusers: its name in `PEERS`, the channels of its latents, the base widths of its two halves."""

    name: str
    channels: int
    encoder: int
    decoder: int

    def __str__(self) -> str:
        return f"{PEERS[self.name].title}, {self.encoder} wide to encode, {self.decoder} to decode"


def wan_settings(channels: int, encoder: int, decoder: int) -> dict[str, Any]:
    """Return the settings of Wan 2.1's autoencoder, with `encoder` and `decoder` in the place of its 96."""
    return {"base_dim": encoder, "decoder_base_dim": decoder, "z_dim": channels}


def cosmos_settings(channels: int, encoder: int, decoder: int) -> dict[str, Any]:
    """Return the settings of Cosmos' autoencoder at 4x8x8: Haar patches and factorized convolutions, as ours; published
    with 128."""
    return {
        "latent_channels": channels,
        "encoder_block_out_channels": tuple(encoder * k for k in (1, 2, 4, 4)),
        "decode_block_out_channels": tuple(decoder * k for k in (2, 4, 4, 4)),
        "spatial_compression_ratio": RATIO,
        "temporal_compression_ratio": RATIO_T,
    }


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A class of diffusers, and its settings by latent channels and the base widths of its two halves."""

    title: str
    settings: Callable[[int, int, int], dict[str, Any]]


PEERS: dict[str, Peer] = {
    "cosmos": Peer(title="AutoencoderKLCosmos", settings=cosmos_settings),
    "wan": Peer(title="AutoencoderKLWan", settings=wan_settings),
}


def build_peer(shape: PeerShape, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return the peer with random weights, the same at every call: its speed does not depend on them."""
    import diffusers

    peer = PEERS[shape.name]
    cls = getattr(diffusers, peer.title)  # imported out here: its module makes tensors that belong on no device of ours
    torch.manual_seed(0)
    with torch.device(device):
        network = cls(**peer.settings(shape.channels, shape.encoder, shape.decoder))
    # The device again: some buffers are copies of those tensors. Module's own `to`: that of diffusers warns.
    return nn.Module.to(network, device, dtype).eval().requires_grad_(False)


def save_random(title: str, settings: dict[str, Any], folder: Path, dtype: str) -> None:
    """Write a class of diffusers with random weights: speed does not depend on them."""
    import diffusers

    torch.manual_seed(0)
    network = getattr(diffusers, title)(**settings)
    nn.Module.to(network, getattr(torch, dtype)).save_pretrained(folder)


def encode_peer(network: nn.Module, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b c t h w"]:
    """Return the latents of a clip, the way a pipeline of diffusers takes them."""
    return network.encode(video).latent_dist.mode()


def decode_peer(network: nn.Module, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 3 T H W"]:
    """Return the clip of latents."""
    return network.decode(latents).sample


@torch.no_grad()
def measure_peer(
    shape: PeerShape,
    way: Way,
    clip: ClipSize,
    *,
    count: Callable[[Callable[[], object]], Any] = count_gflops,
    dtype: torch.dtype = torch.float32,
) -> Any:
    """Return what `count` says of a whole clip, its input included, without computing it."""
    network = build_peer(shape, device="meta", dtype=dtype)
    placement = {"device": "meta", "dtype": dtype}
    if way == "encode":
        return count(lambda: encode_peer(network, torch.empty(1, 3, clip.frames, clip.height, clip.width, **placement)))
    return count(lambda: decode_peer(network, torch.empty(1, shape.channels, *clip.latents, **placement)))


@torch.no_grad()
def tokenizer_gflops(tokenizer: VideoTokenizer, way: Way, clip: ClipSize) -> float:
    """Count the GFLOP of a whole clip through our tokenizer without computing it; any split into chunks has as many."""
    with torch.device("meta"):
        shadow = type(tokenizer)(tokenizer.config).eval()
    if way == "encode":
        video = torch.empty(1, 3, clip.frames, clip.height, clip.width, device="meta")
        return count_gflops(lambda: shadow.encode_hidden(video, None, last=True))
    latents = torch.empty(1, tokenizer.config.latent_channels, *clip.latents, device="meta")
    return count_gflops(lambda: shadow.decode_chunk(latents))


def peer_gflops(shape: PeerShape, way: Way, clip: ClipSize) -> float:
    """Return the GFLOP of all latent frames of a clip of any length."""

    def count(latents: int) -> float:
        return measure_peer(shape, way, replace(clip, frames=1 + RATIO_T * (latents - 1)))

    return count_long(count, clip.latents[0])


def peer_bytes(shape: PeerShape, way: Way, clip: ClipSize, dtype: torch.dtype) -> float:
    """Estimate the most bytes of tensors that a whole clip takes, by the straight line through two shorter ones."""
    low, high = LENGTHS_FOR_BYTES
    if clip.frames <= high:
        return measure_peer(shape, way, clip, count=count_bytes, dtype=dtype)
    below, above = (
        measure_peer(shape, way, replace(clip, frames=n), count=count_bytes, dtype=dtype) for n in (low, high)
    )
    return above + (above - below) / (high - low) * (clip.frames - high)


def check_compression(tokenizer: VideoTokenizer) -> None:
    """Raise VidgenError for a tokenizer of another compression than the peers'."""
    config = tokenizer.config
    if (config.temporal_compression_ratio, config.spatial_compression_ratio) != (RATIO_T, RATIO):
        raise VidgenError(
            f"--peers: {config.name} does not compress {RATIO_T}x{RATIO}x{RATIO} as the peers do; give --peers none"
        )


def fit_peer(name: str, tokenizer: VideoTokenizer, clip: ClipSize) -> PeerShape:
    """Return the peer with as many FLOPs as our tokenizer needs for `clip`, in encoding and in decoding each.

    It depends on the clip's length: a first frame alone costs a peer less than a latent frame, and ours as much.
    """
    channels = tokenizer.config.latent_channels

    def work(way: Way, width: int) -> float:
        return peer_gflops(PeerShape(name=name, channels=channels, encoder=width, decoder=width), way, clip)

    encoder, decoder = (
        match_width(partial(work, way), tokenizer_gflops(tokenizer, way, clip)) for way in ("encode", "decode")
    )
    return PeerShape(name=name, channels=channels, encoder=encoder, decoder=decoder)
