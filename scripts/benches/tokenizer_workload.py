"""One clip through one half of a tokenizer, ours or a peer: the work that is timed, and run alone for its memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vidgen.data.frames import latent_frames
from vidgen.pipelines.loading import load_tokenizer
from vidgen.profiling.peak_memory import print_peak
from vidgen.scripts.benches.diffusers_autoencoders import (
    RATIO_T,
    ClipSize,
    PeerShape,
    Way,
    build_peer,
    decode_peer,
    encode_peer,
)
from vidgen.tokenizers.model import Encoded, VideoTokenizer
from vidgen.tokenizers.streaming.chunks import decode_stream, encode_stream

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last_3d": torch.channels_last_3d}


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One clip to encode or decode: by our tokenizer `model`, or by `peer`, which has it whole and in `layout`.

    streamed: ours takes frames from an iterator (latents, to decode, piece by piece) and lets go of all it makes.
    autocast: the peer keeps float32 weights and input, and computes in `dtype` where it can.
    """

    way: Way
    clip: ClipSize
    device: str
    dtype: str
    model: str = "default"
    streamed: bool = False
    peer: PeerShape | None = None
    layout: str = "contiguous"
    autocast: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)

    @staticmethod
    def from_json(values: dict[str, Any]) -> Workload:
        """Return the workload of `to_json`."""
        peer = None if values["peer"] is None else PeerShape(**values["peer"])
        return Workload(**{**values, "clip": ClipSize(**values["clip"]), "peer": peer})

    @property
    def precision(self) -> torch.dtype:
        """The dtype of weights and input."""
        return torch.float32 if self.autocast else getattr(torch, self.dtype)


def moving_frames(clip: ClipSize) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Yield a picture of noise that drifts to the right, frame by frame: only the picture is in memory."""
    picture = np.random.default_rng(0).integers(0, 256, (clip.height, clip.width, 3), np.uint8)
    for t in range(clip.frames):
        yield np.roll(picture, t, axis=1)


def build_network(work: Workload) -> nn.Module:
    """Return the model that does the work."""
    if work.peer is not None:
        network = build_peer(work.peer, device=work.device, dtype=work.precision)
        return in_layout(network, work.layout)
    return load_tokenizer(work.model, device=work.device, dtype=work.precision)


def in_layout(network: nn.Module, layout: str) -> nn.Module:
    """Return `network` with its kernels in `layout`; those of 2-D convolutions, which `Module.to` stumbles over, as
    fits."""
    flat = torch.contiguous_format if layout == "contiguous" else torch.channels_last
    for weight in network.parameters():
        if weight.ndim in (4, 5):
            weight.data = weight.data.contiguous(memory_format=LAYOUTS[layout] if weight.ndim == 5 else flat)
    return network


def make_video(work: Workload) -> Float[Tensor, "1 3 T H W"]:
    """Return noise (1, 3, T, H, W) in [-1, 1], made on its device and in its dtype: nothing wider is ever in memory."""
    clip = work.clip
    video = torch.empty(1, 3, clip.frames, clip.height, clip.width, device=work.device, dtype=work.precision)
    return video.uniform_(-1.0, 1.0).contiguous(memory_format=LAYOUTS[work.layout])


def make_latents(work: Workload, channels: int, size: tuple[int, int, int]) -> Float[Tensor, "1 c t h w"]:
    """Return noise in the place of latents."""
    latents = torch.empty(1, channels, *size, device=work.device, dtype=work.precision)
    return latents.normal_().contiguous(memory_format=LAYOUTS[work.layout])


def prepare(work: Workload, network: nn.Module) -> Callable[[], int]:
    """Make ready the work, with its input made, to be run any number of times. It returns the frames that come through.

    Fewer than went in mean a model that drops what does not fill a latent frame.
    """
    torch.manual_seed(0)
    if work.peer is not None:
        run = prepare_peer(work, network)
        if work.autocast:
            run = torch.autocast(torch.device(work.device).type, getattr(torch, work.dtype))(run)
    else:
        run = prepare_streamed(work, network) if work.streamed else prepare_whole(work, network)
    return torch.inference_mode()(run)


def prepare_peer(work: Workload, network: nn.Module) -> Callable[[], int]:
    """Make ready a peer's work: the whole clip as one tensor, whatever its length, as a pipeline of diffusers does."""
    frames = work.clip.frames
    if work.way == "encode":
        video = make_video(work)
        return lambda: min(frames, 1 + RATIO_T * (encode_peer(network, video).shape[2] - 1))
    latents = make_latents(work, work.peer.channels, work.clip.latents)
    return lambda: min(frames, decode_peer(network, latents).shape[2])


def latent_size(tokenizer: VideoTokenizer, clip: ClipSize) -> tuple[int, int, int]:
    """Return latent frames, rows and columns of a clip."""
    config = tokenizer.config
    ratio = config.spatial_compression_ratio
    t = latent_frames(clip.frames, config.temporal_compression_ratio)
    return t, -(-clip.height // ratio), -(-clip.width // ratio)


def prepare_whole(work: Workload, tokenizer: VideoTokenizer) -> Callable[[], int]:
    """Make ready our work on the whole clip as one tensor."""
    clip = work.clip
    if work.way == "encode":
        video = make_video(work)
        return lambda: tokenizer.encode(video).num_frames
    latents = make_latents(work, tokenizer.config.latent_channels, latent_size(tokenizer, clip))
    encoded = Encoded(latents=latents, num_frames=clip.frames, height=clip.height, width=clip.width)
    return lambda: tokenizer.decode(encoded).shape[2]


def prepare_streamed(work: Workload, tokenizer: VideoTokenizer) -> Callable[[], int]:
    """Make ready our work from an iterator of uint8 frames, or to float32 frames that are dropped as they come."""
    clip = work.clip
    if work.way == "encode":

        def encode() -> int:
            count = sum(z.shape[2] for z in encode_stream(tokenizer, moving_frames(clip)))
            return min(clip.frames, 1 + tokenizer.config.temporal_compression_ratio * (count - 1))

        return encode
    t, h, w = latent_size(tokenizer, clip)
    latents = make_latents(work, tokenizer.config.latent_channels, (1, h, w))  # the same one throughout: nothing grows
    size = {"num_frames": clip.frames, "height": clip.height, "width": clip.width}

    def read(first: int, stop: int) -> Float[Tensor, "1 c k h w"]:
        return latents.expand(-1, -1, min(stop, t) - first, -1, -1)

    return lambda: sum(x.shape[1] for x in decode_stream(tokenizer, read, **size))


def prepare_alone(**values: Any) -> Callable[[], int]:
    """Make ready the work of `Workload.to_json` with a model of its own, for a process that measures memory."""
    work = Workload.from_json(values)
    return prepare(work, build_network(work))


if __name__ == "__main__":
    print_peak(prepare_alone)
