"""What features have to beat: the pixels themselves, and the same model with random weights."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.diffusion.noise import sample_generator
from vidgen.interfaces import Encoder, Pipeline

# Before the keys of the same layers with random weights, of clips whose frames are in random order, and of clips that
# show their first frame all the time.
RANDOM, SHUFFLED, SINGLE = OF_NETWORKS = "random.", "shuffled.", "single."
GRID = 16  # rows and columns that clips are reduced to


def base_of(key: str) -> str:
    """Return a layer or key without the name of the bank it was joined from: of "wan/dit.blocks.3" "dit.blocks.3"."""
    return key.rpartition("/")[2]


def twin_of(key: str, prefix: str) -> str:
    """Return the key of the same feature with random weights, or of shuffled frames."""
    name, slash, base = key.rpartition("/")
    return f"{name}{slash}{prefix}{base}"


def raw_pixels(video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b T h w 3"]:
    """Return every frame, averaged down to 16x16."""
    return rearrange(F.adaptive_avg_pool3d(video, (video.shape[2], GRID, GRID)), "b c t h w -> b t h w c")


def single_frame(video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b h w 3"]:
    """Return the first frame, averaged down to 16x16: what a clip shows while nothing moves."""
    return raw_pixels(video[:, :, :1])[:, 0]


def frame_differences(video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b h w"]:
    """Return the mean absolute difference between neighboring frames, averaged down to 16x16; of one frame zero."""
    if video.shape[2] == 1:
        return video.new_zeros(len(video), GRID, GRID)
    return F.adaptive_avg_pool2d(video.diff(dim=2).abs().mean(dim=(1, 2)), (GRID, GRID))


PIXEL_BASELINES: dict[str, Callable[[Tensor], Tensor]] = {
    "raw_pixels": raw_pixels,
    "frame_differences": frame_differences,
    "single_frame": single_frame,
}


def shuffle_frames(
    video: Float[Tensor, "b c T H W"], ids: Sequence[int | str], seed: int = 0
) -> Float[Tensor, "b c T H W"]:
    """Return every clip's frames in an order that is a function of (seed, id) alone: what is left without order in
    time."""
    orders = [torch.randperm(video.shape[2], generator=sample_generator(seed, f"frames of {i}")) for i in ids]
    return torch.stack([clip[:, order] for clip, order in zip(video, orders, strict=True)])


def hold_frame(
    video: Float[Tensor, "b c T H W"], ids: Sequence[int | str], seed: int = 0
) -> Float[Tensor, "b c T H W"]:
    """Return every clip's first frame in the place of all: what a network sees while nothing moves."""
    return video[:, :, :1].expand_as(video)


@runtime_checkable
class Renewable(Protocol):
    """A network around another library's class, which knows how to build itself anew."""

    def fresh(self) -> nn.Module:
        """Return the same architecture with new random weights."""


def random_like(model: Pipeline | Encoder, seed: int = 0) -> Pipeline | Encoder:
    """Return a model of the same architecture with random weights; `model` is left as it is.

    Networks are built anew from their config, those around another library's class by their `fresh`. Weights that
    training would start at zero (the gates and output of adaLN-zero, without which every block is the identity) are
    drawn from N(0, 1 / fan_in), so that all layers act. A part without a config, such as a text encoder of another
    library, is shared with `model`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(model, nn.Module):
            return _renew(model)
        twin = copy.copy(model)
        for name in ("vae", "transformer", "text_encoder"):
            part = getattr(model, name)
            if dataclasses.is_dataclass(getattr(part, "config", None)):
                setattr(twin, name, _renew(part))
    return twin


def _renew(module: nn.Module) -> nn.Module:
    fresh = module.fresh() if isinstance(module, Renewable) else type(module)(module.config)
    for weight in fresh.parameters():
        if weight.ndim > 1 and not weight.any():
            nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
    return fresh.to(next(module.parameters())).eval().requires_grad_(False)
