"""The check, before clips are read, that a training step can fit in the memory that is free."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vidgen.checkpoints.memory import check_bytes, free_bytes
from vidgen.data.frames import latent_frames
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.models.pass_memory import pass_bytes
from vidgen.profiling.live_memory import meta_peak
from vidgen.tokenizers.encoded import latent_size
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.train.config import LoopConfig
from vidgen.train.runtime.distributed import world_size

ADVICE = "lower batch_size, data.num_frames or data.size"
PER_PIXEL = 8000  # bytes of a step, of each pixel of its clips; where so much is free, nothing is counted
PER_TOKEN = 256  # the same of each cell of latents, by width and depth of the network


def process_batch(config: LoopConfig) -> int:
    """Return how many clips of a batch one process has at most."""
    return -(-config.batch_size // world_size())


def check_clips(config: LoopConfig, count: int | None = None) -> None:
    """Raise VidgenError where `count` clips (those of a process's batch) are more than is free: as drawn, and stacked.

    What a network makes of them comes on top of it.
    """
    data = config.data
    clips = count or process_batch(config)
    size = "x".join(map(str, (data.num_frames, *data.size)))
    needed = 2 * 4 * 3 * clips * data.num_frames * math.prod(data.size)
    check_bytes(needed, f"a batch of {clips} clips of {size}", ADVICE)


def check_tokenizer_step(config: LoopConfig, model: VideoTokenizer) -> None:
    """Raise VidgenError where a batch, or what gradients of encoder and decoder need of it, is more than is free."""
    check_clips(config)
    data = config.data
    shape = (process_batch(config), 3, data.num_frames, *data.size)

    def reconstruct(model: VideoTokenizer, video: Tensor) -> tuple[Tensor, Tensor]:
        hidden, _ = model.encode_hidden(video, None)
        latents = hidden[:, :1].expand(-1, model.config.latent_channels, -1, -1, -1)  # as good as any
        return hidden, model.decode_chunk(latents, None)[0]

    video = torch.empty(shape, device="meta")
    plenty = PER_PIXEL * math.prod(shape) // 3
    _check_step(config, plenty, lambda: meta_peak(model, reconstruct, video, partial=True))


def check_denoising_step(config: LoopConfig, tokenizer: VideoTokenizer, network: torch.nn.Module) -> None:
    """Raise VidgenError where what the gradients of a batch of latents need is more than is free."""
    if not (isinstance(network, VideoDiT) and isinstance(tokenizer, VideoTokenizer)):
        return
    data, ratios = config.data, tokenizer.config
    frames = latent_frames(min(data.lengths()), ratios.temporal_compression_ratio)  # of the shortest clips
    shape = (ratios.latent_channels, frames, *latent_size(*data.size, ratios.spatial_compression_ratio))
    clips = process_batch(config)
    plenty = PER_TOKEN * network.config.width * network.config.depth * clips * math.prod(shape[1:])
    _check_step(config, plenty, lambda: pass_bytes(network, shape, clips, text_tokens=1, gradients=True))


def _check_step(config: LoopConfig, plenty: int, count: Callable[[], int]) -> None:
    free = free_bytes(config.device)
    if free is None or plenty <= free:
        return
    try:
        needed = count()
    except (NotImplementedError, RuntimeError):  # a branch on numbers, of which there are none here
        return
    if config.autocast == "bfloat16":
        needed //= 2
    size = "x".join(map(str, (config.data.num_frames, *config.data.size)))
    check_bytes(needed, f"a training step of {process_batch(config)} clips of {size}", ADVICE, config.device)
