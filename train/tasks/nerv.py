"""NeRV, a network for one clip: encoder and decoder learn its frames together, and a file keeps the decoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vidgen.bounds import Choice, Count, Rate, Seed, check_fields
from vidgen.data.frames import to_tensor
from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.metrics.fidelity import decibels
from vidgen.tokenizers.nerv.network import NeRVConfig, NeRVDecoder, NeRVEncoder, initialize
from vidgen.train.config.run import PRECISIONS
from vidgen.train.runtime.optimizers import warmup_cosine
from vidgen.train.tasks.task import autocast

WARMUP = 0.1  # of the steps, linearly (Chen et al. 2023, section 4.1)
GRADIENT_CLIP = 1.0


@dataclass(frozen=True, kw_only=True)
class FittingConfig:
    """`steps` of Adam on `batch_frames` frames each, at the rate `lr`, warmed up and then down to 0 by a cosine."""

    steps: Count = 2000
    batch_frames: Count = 4
    lr: Rate = 3e-3
    seed: Seed = 0
    device: str = "cpu"
    autocast: Annotated[str, Choice(PRECISIONS)] = "float32"

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class FittedClip:
    """The decoder and the embedding of every frame, before anything is quantized, and the PSNR of that in dB."""

    decoder: NeRVDecoder
    embeddings: Float[Tensor, "t e i j"]
    psnr: float


def fit_clip(
    frames: UInt8[np.ndarray, "t h w 3"],
    shape: NeRVConfig,
    fitting: FittingConfig,
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> FittedClip:
    """Train a network of `shape` to be the clip, by the squared error of its frames (HNeRV, Chen et al. 2023).

    Weights and the order of frames are functions of the seed. Raises ValueError for frames of another size than
    `shape` has, VidgenError where the loss is not finite.
    """
    if frames.shape[1:] != (shape.height, shape.width, 3):
        raise ValueError(f"frames {frames.shape} for {shape.height}x{shape.width}")
    encoder, decoder = build(shape, fitting)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=fitting.lr)
    generator = sample_generator(fitting.seed, "frames")
    order = torch.empty(0, dtype=torch.int64)
    warmup = max(1, round(WARMUP * fitting.steps))
    for step in range(fitting.steps):
        while len(order) < fitting.batch_frames:  # every frame once before any comes again
            order = torch.cat([order, torch.randperm(len(frames), generator=generator)])
        indices, order = order[: fitting.batch_frames], order[fitting.batch_frames :]
        batch = to_batch(frames[indices.numpy()], fitting.device)
        for group in optimizer.param_groups:
            group["lr"] = warmup_cosine(step, peak=fitting.lr, warmup=warmup, steps=fitting.steps)
        with autocast(fitting.device, fitting.autocast):
            decoded = decoder(encoder(batch))
        loss = F.mse_loss(decoded.float(), batch)
        if not math.isfinite(loss.item()):
            raise VidgenError(f"the fit broke down at step {step} of {fitting.steps}: loss {loss.item()}; lower --lr")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, GRADIENT_CLIP)
        optimizer.step()
        progress(step + 1)
    return finish(frames, encoder, decoder, fitting.device)


def build(shape: NeRVConfig, fitting: FittingConfig) -> tuple[NeRVEncoder, NeRVDecoder]:
    """Return both networks with fresh weights from the seed; the caller's random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fitting.seed)
        encoder, decoder = NeRVEncoder(shape), NeRVDecoder(shape)
        initialize(encoder, decoder)
    layout = {"device": fitting.device, "memory_format": torch.channels_last}
    return encoder.to(**layout).train(), decoder.to(**layout).train()


def to_batch(frames: UInt8[np.ndarray, "b h w 3"], device: str) -> Float[Tensor, "b 3 h w"]:
    """Return frames as images in [-1, 1]."""
    images = rearrange(to_tensor(frames), "c b h w -> b c h w")
    return images.to(device, memory_format=torch.channels_last)


@torch.no_grad()
def finish(frames: UInt8[np.ndarray, "t h w 3"], encoder: NeRVEncoder, decoder: NeRVDecoder, device: str) -> FittedClip:
    """Return the embedding of every frame, in float32, and what decoding those gives."""
    encoder.eval()
    decoder.eval()
    embeddings, errors = [], []
    for index in range(len(frames)):
        frame = to_batch(frames[index : index + 1], device)
        embeddings.append(encoder(frame))
        errors.append((decoder(embeddings[-1]).clamp(-1.0, 1.0) - frame).double().square().mean())
    psnr = decibels(torch.stack(errors).mean()).item()
    return FittedClip(decoder=decoder.cpu(), embeddings=torch.cat(embeddings).cpu(), psnr=psnr)
