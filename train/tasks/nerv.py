"""Fitting one clip: encoder and decoder learn its frames together, and only what a file needs is kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vidgen.data.frames import levels_to_float
from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.metrics.fidelity import decibels
from vidgen.tokenizers.nerv.network import NeRVConfig, NeRVDecoder, NeRVEncoder, initialize
from vidgen.train.tasks.task import autocast

WARMUP = 0.1  # of the steps, linearly (Chen et al. 2023, section 4.1)
GRADIENT_CLIP = 1.0


@dataclass(frozen=True, kw_only=True)
class FittingConfig:
    """`steps` of Adam on `batch_frames` frames each, at the rate `lr`, warmed up and then down to 0 by a cosine."""

    steps: int = 2000
    batch_frames: int = 4
    lr: float = 3e-3
    seed: int = 0
    device: str = "cpu"
    autocast: str = "float32"


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
    """Trains a network of `shape` to be the clip, by the squared error of its frames (HNeRV, Chen et al. 2023).

    Weights and the order of frames are functions of the seed. Raises ValueError for frames of another size than
    `shape` has, VidgenError where the loss is not finite.
    """
    if frames.shape[1:] != (shape.height, shape.width, 3) or fitting.steps < 1 or fitting.batch_frames < 1:
        raise ValueError(f"frames {frames.shape} for {shape.height}x{shape.width}, {fitting.steps} steps")
    encoder, decoder = build(shape, fitting)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=fitting.lr)
    generator = sample_generator(fitting.seed, "frames")
    order = torch.empty(0, dtype=torch.int64)
    for step in range(fitting.steps):
        while len(order) < fitting.batch_frames:  # every frame once before any comes again
            order = torch.cat([order, torch.randperm(len(frames), generator=generator)])
        chosen, order = order[: fitting.batch_frames], order[fitting.batch_frames :]
        batch = to_batch(frames[chosen.numpy()], fitting.device)
        for group in optimizer.param_groups:
            group["lr"] = fitting.lr * rate_of(step, fitting.steps)
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
    """Both networks with fresh weights from the seed; the caller's random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fitting.seed)
        encoder, decoder = NeRVEncoder(shape), NeRVDecoder(shape)
        initialize(encoder, decoder)
    layout = {"device": fitting.device, "memory_format": torch.channels_last}
    return encoder.to(**layout).train(), decoder.to(**layout).train()


def rate_of(step: int, steps: int) -> float:
    """The part of the learning rate at a step: linear warm-up over a tenth, then a cosine to 0."""
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def to_batch(frames: UInt8[np.ndarray, "b h w 3"], device: str) -> Float[Tensor, "b 3 h w"]:
    """Pixels in [-1, 1]."""
    values = levels_to_float(torch.from_numpy(np.ascontiguousarray(frames)).to(device))
    return rearrange(values, "b h w c -> b c h w")


@torch.no_grad()
def finish(frames: UInt8[np.ndarray, "t h w 3"], encoder: NeRVEncoder, decoder: NeRVDecoder, device: str) -> FittedClip:
    """The embedding of every frame, in float32, and what decoding those gives."""
    encoder.eval(), decoder.eval()
    embeddings, errors = [], []
    for index in range(len(frames)):
        frame = to_batch(frames[index : index + 1], device)
        embeddings.append(encoder(frame))
        errors.append((decoder(embeddings[-1]).clamp(-1.0, 1.0) - frame).double().square().mean())
    found = decibels(torch.stack(errors).mean()).item()
    return FittedClip(decoder=decoder.cpu(), embeddings=torch.cat(embeddings).cpu(), psnr=found)
