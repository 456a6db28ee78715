"""Targets of masked prediction: what stands at every token of a clip."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.interfaces import Encoder
from vidgen.models.attention_patterns import Grid
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig, to_patches
from vidgen.models.feature_layers import channels_last
from vidgen.models.placement import device_of, dtype_of
from vidgen.pipelines.loading import load_feature_encoder, load_tokenizer
from vidgen.pipelines.video import VideoPipeline
from vidgen.representations.denoiser_encoder import DenoiserEncoder
from vidgen.representations.feature_keys import parse_key
from vidgen.train.config.self_supervised import TargetConfig

Target = Callable[[Float[Tensor, "b 3 T H W"]], Float[Tensor, "b n d"]]
HOG_BINS = 9
DENOISER_LEVEL = 0.1
SPREAD = 1e-6  # that is added to a patch's variance


def pixel_target(video: Float[Tensor, "b 3 T H W"], patch: Grid) -> Float[Tensor, "b n d"]:
    """Return the pixels of every patch."""
    return to_patches(video.float(), patch)


def normalized_target(video: Float[Tensor, "b 3 T H W"], patch: Grid) -> Float[Tensor, "b n d"]:
    """Return the pixels of every patch less their mean, over their spread (He et al. 2022, MAE, section 4.1)."""
    x = to_patches(video.float(), patch)
    variance, mean = torch.var_mean(x, dim=-1, keepdim=True)
    return (x - mean) / (variance + SPREAD).sqrt()


def hog_target(video: Float[Tensor, "b 3 T H W"], patch: Grid) -> Float[Tensor, "b n d"]:
    """Return histograms of oriented gradients of each channel and patch, of unit length (Dalal & Triggs 2005; as a
    target Wei et al. 2022, MaskFeat, section 3.2): `HOG_BINS` unsigned orientations, weighed by the gradient."""
    frames = rearrange(video.float(), "b c t h w -> (b t) c h w")
    padded = F.pad(frames, (1, 1, 1, 1), mode="replicate")
    dx = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    dy = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    angle = torch.atan2(dy, dx) / torch.pi % 1.0 * HOG_BINS
    first = angle.floor()
    share = angle - first
    length = (dx.square() + dy.square()).sqrt()
    bins = torch.zeros(HOG_BINS, *length.shape, device=length.device)
    bins.scatter_add_(0, (first.long() % HOG_BINS)[None], ((1.0 - share) * length)[None])
    bins.scatter_add_(0, ((first.long() + 1) % HOG_BINS)[None], (share * length)[None])
    maps = rearrange(bins, "k (b t) c h w -> b (k c) t h w", b=len(video))
    cells = F.avg_pool3d(maps, patch)
    rows = rearrange(cells, "b (k c) t h w -> b (t h w) c k", k=HOG_BINS)
    return F.normalize(rows, dim=-1, eps=1e-4).flatten(2)


def map_target(maps: Float[Tensor, "b c t h w"], grid: Grid) -> Float[Tensor, "b n c"]:
    """Return the map of another encoder at the places of a grid, averaged or interpolated, its channels normalized."""
    if tuple(maps.shape[2:]) != grid:
        maps = F.interpolate(maps.float(), size=grid, mode="trilinear", align_corners=False)
    rows = rearrange(maps.float(), "b c t h w -> b (t h w) c")
    return F.layer_norm(rows, rows.shape[-1:])


class LatentTarget:
    """The latents of a tokenizer."""

    def __init__(self, name: str, config: VideoViTConfig, device: str) -> None:
        self.tokenizer = load_tokenizer(name, device=device)
        self.patch = config.patch

    @torch.no_grad()
    def __call__(self, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b n d"]:
        """Return the target."""
        grid = tuple(n // p for n, p in zip(video.shape[2:], self.patch, strict=True))
        clips = video.to(device_of(self.tokenizer), dtype_of(self.tokenizer))
        return map_target(self.tokenizer.encode(clips).latents, grid).to(video.device)


class FeatureTarget:
    """A layer of a frozen encoder, "" for its last (EVA, SALT, VideoPrism); of a pipeline its denoiser's, read at
    `DENOISER_LEVEL`. Raises VidgenError for a layer that it does not have.

    Called, it returns the target of tokens of `patch` (frames, height, width).
    """

    def __init__(self, source: str, layer: str, device: str, patch: Grid = (1, 1, 1)) -> None:
        model = load_feature_encoder(source, device=device)
        self.encoder: Encoder = DenoiserEncoder(model, (DENOISER_LEVEL,)) if isinstance(model, VideoPipeline) else model
        layers = {parse_key(info.name)[0]: info for info in self.encoder.feature_info}
        if layer and layer not in layers:
            raise VidgenError(f"layer {layer!r} is not one of {source}'s: {', '.join(layers)}")
        self.info, self.patch = layers[layer or list(layers)[-1]], patch

    @torch.no_grad()
    def __call__(self, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b n d"]:
        """Return the target."""
        grid = tuple(n // p for n, p in zip(video.shape[2:], self.patch, strict=True))
        return map_target(self.maps(video), grid)

    @torch.no_grad()
    def maps(self, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b c t h w"]:
        """Return the layer's map of clips."""
        for name, features in self.encoder.iter_features(video.float()):
            if name == self.info.name:
                maps = rearrange(channels_last(features, self.info), "b t h w c -> b c t h w")
                return maps.float().to(video.device)
        raise AssertionError(f"the encoder yields no {self.info.name}")


PIXEL_TARGETS = {"pixels": pixel_target, "normalized_pixels": normalized_target, "hog": hog_target}


def fixed_target(config: TargetConfig, shape: VideoViTConfig, device: str) -> Target:
    """Return what makes targets that do not change in training: of pixels, latents, or a frozen encoder."""
    if config.target in PIXEL_TARGETS:
        return partial(PIXEL_TARGETS[config.target], patch=shape.patch)
    if config.target == "latents":
        return LatentTarget(config.tokenizer, shape, device)
    return FeatureTarget(config.source, config.layer, device, shape.patch)


def token_target(encoder: VideoViT, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b n d"]:
    """Return the encoder's own tokens of whole clips, each normalized (V-JEPA: without weights of their own)."""
    tokens = encoder(video).float()
    return F.layer_norm(tokens, tokens.shape[-1:])
