"""Frozen image towers that learn to read clips: attention over time after their blocks, patches inflated in time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.errors import VidgenError
from vidgen.models.adaptation.config import TemporalConfig
from vidgen.models.attention_patterns import Grid
from vidgen.models.encoders.clip_encoder import patch_grid, refuse_partial
from vidgen.models.encoders.external import ExternalEncoder
from vidgen.models.encoders.video_vit import VideoViT
from vidgen.models.feature_layers import FeatureInfo
from vidgen.models.layers import Attention
from vidgen.models.rope import rotary_table

ImageTower = VideoViT | ExternalEncoder


class TemporalLayer(nn.Module):
    """x + up attention(down norm(x)) over time at every place, the identity at first, for `up` starts as zero.

    Attention over time after a block that reads single frames is Bertasius et al. 2021 (TimeSformer, section 3.3,
    divided); frozen and narrow as here, Pan et al. 2022 (section 3.3). Time is told by rotary positions.
    """

    def __init__(self, channels: int, config: TemporalConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.down, self.up = nn.Linear(channels, config.width), nn.Linear(config.width, channels)
        self.attention = Attention(config.width, config.head_dim)
        for parameter in self.up.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Float[Tensor, "m t c"]) -> Float[Tensor, "m t c"]:
        """Return the output for sequences of frames, one a place."""
        rotary = rotary_table((x.shape[1], 1, 1), self.attention.head_dim // 2, 0.0, x.device, x.dtype)
        return x + self.up(self.attention(self.down(self.norm(x)), rotary=rotary))


def over_clips(layer: nn.Module, x: Tensor, clips: int) -> Tensor:
    """Return a layer over time of the frames of `clips`, as tokens (b t, l, c) or maps (b t, c, h, w)."""
    if x.ndim == 3:
        rows = rearrange(x, "(b t) l c -> (b l) t c", b=clips)
        return rearrange(layer(rows), "(b l) t c -> (b t) l c", b=clips)
    rows = rearrange(x, "(b t) c h w -> (b h w) t c", b=clips)
    return rearrange(layer(rows), "(b h w) t c -> (b t) c h w", b=clips, h=x.shape[2])


@contextmanager
def after_blocks(blocks: Mapping[str, nn.Module], layers: Mapping[str, nn.Module], clips: int) -> Iterator[None]:
    """Within the context, what a block of a tower gives passes through the layer of its name, over the frames of so
    many clips."""

    def change(layer: nn.Module, _block: nn.Module, _inputs: Any, out: Any) -> Any:
        return (over_clips(layer, out[0], clips), *out[1:]) if isinstance(out, tuple) else over_clips(layer, out, clips)

    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.enter_context(_removed(blocks[name].register_forward_hook(partial(change, layer))))
        yield


@contextmanager
def _removed(handle: torch.utils.hooks.RemovableHandle) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def inflate_patches(encoder: VideoViT, frames: int) -> nn.Linear:
    """Make an encoder of single frames one of tubelets of `frames`, and return its patches: their weights are repeated
    in time and divided (Carreira & Zisserman 2017, I3D, section 2.4.1), so that of a clip that stands still it gives
    what it gave of a frame.

    Raises VidgenError for an encoder whose patches are of several frames, or of indices.
    """
    shape, former = encoder.config, encoder.patch_in
    if shape.patch[0] != 1 or shape.codebook_size:
        raise VidgenError(f"inflate={frames} is for patches of one frame, and this encoder's are of {shape.patch[0]}")
    patches = nn.Linear(frames * former.in_features, former.out_features).to(former.weight)
    with torch.no_grad():  # a patch is its frames one after the other
        patches.weight.copy_(former.weight.repeat(1, frames) / frames)
        patches.bias.copy_(former.bias)
    encoder.patch_in = patches
    encoder.config = replace(shape, patch=(frames, *shape.patch[1:]), clip=(frames, *shape.clip[1:]))
    return patches


def check_tower(encoder: ImageTower) -> None:
    """Raise VidgenError for an encoder of clips."""
    if isinstance(encoder, VideoViT):
        if encoder.config.clip[0] != encoder.config.patch[0]:
            raise VidgenError(
                f"kind temporal needs an image tower, and this encoder is of clips of {encoder.config.clip[0]} frames "
                f"in patches of {encoder.config.patch[0]}; choose kind adapter, or train one of single frames"
            )
    elif encoder.num_frames is not None:
        raise VidgenError(f"kind temporal needs an image tower, and {encoder.config.model_type} reads clips itself")


class TemporalAdaptation(nn.Module):
    """Attention over time after the blocks of an image tower: a `VideoViT` of one frame (or one tubelet), or a model of
    timm or transformers that reads pictures.

    Raises VidgenError for a tower of clips, layers that it does not have, and patches that cannot be inflated.
    """

    def __init__(self, encoder: ImageTower, config: TemporalConfig) -> None:
        super().__init__()
        self.config = config
        check_tower(encoder)
        channels = {info.name: info.num_chs for info in encoder.feature_info if info.name in encoder.block_modules}
        if unknown := [name for name in config.layers if name not in channels]:
            raise VidgenError(f"layer {unknown[0]!r} is not one of the tower's: {', '.join(channels)}")
        names = config.layers or tuple(channels)
        self.names = tuple(name for name in channels if name in names)
        self.layers = nn.ModuleList([TemporalLayer(channels[name], config) for name in self.names])
        self.patch_in = None
        if config.inflate > 1 and not isinstance(encoder, VideoViT):
            raise VidgenError("only patches of a VideoViT are inflated, and this tower is none; leave inflate out")
        if config.inflate > 1:
            self.patch_in = inflate_patches(encoder, config.inflate)

    def tokens(
        self, encoder: ImageTower, video: Tensor, keep: Int[Tensor, "b k"] | None = None
    ) -> Float[Tensor, "b n d"]:
        """Return the tokens of the last layer, frame by frame."""
        *_, (_, last) = self.iter_features(encoder, video)
        rows = rearrange(last, "b c t h w -> b (t h w) c")
        return encoder.norm_out(rows) if isinstance(encoder, VideoViT) else rows

    def feature_info(self, encoder: ImageTower) -> list[FeatureInfo]:
        """Return the tower's layers, which now see all frames."""
        return [replace(info, causal=False) for info in encoder.feature_info]

    def iter_features(self, encoder: ImageTower, video: Tensor) -> Iterator[tuple[str, Float[Tensor, "b c t h w"]]]:
        """Yield (name, map) of every layer."""
        layers = dict(zip(self.names, self.layers, strict=True))
        clips = len(video)
        if isinstance(encoder, VideoViT):  # of which each tubelet is a clip of its own
            patch_grid(tuple(video.shape[-3:]), encoder.config.patch)
            video = rearrange(video, "b c (t i) h w -> (b t) c i h w", i=encoder.config.patch[0])
        with after_blocks(encoder.block_modules, layers, clips):
            for name, maps in encoder.iter_features(video):
                yield name, rearrange(maps, "(b i) c t h w -> b c (i t) h w", b=clips)

    def clip_shape(self, encoder: ImageTower) -> tuple[int, Grid]:
        """Return channels of a token, and the frames, height and width in pixels (as the tower sizes them) that it
        stands for."""
        if isinstance(encoder, VideoViT):
            return encoder.config.width, encoder.config.patch
        last = encoder.feature_info[-1]
        return last.num_chs, last.reduction

    def check_partial(self, encoder: ImageTower) -> None:
        """Raise VidgenError: tokens attend to those at their place in other frames."""
        refuse_partial("attention over time", ("another adaptation", "a term without masks"))

    def check_dense(self, encoder: ImageTower) -> None:
        """Raise VidgenError for towers of other libraries, which crop and size frames themselves."""
        if not isinstance(encoder, VideoViT):
            raise VidgenError("tokens of this tower stand for no patches of clips; take another term")
