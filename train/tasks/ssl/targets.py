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
from vidgen.interfaces import Encoder, TokenEncoder
from vidgen.models.attention_patterns import Grid
from vidgen.models.encoders.video_vit import VideoViTConfig, to_patches
from vidgen.models.feature_layers import channels_last
from vidgen.pipelines.loading import load_feature_encoder, load_tokenizer
from vidgen.pipelines.video import VideoPipeline
from vidgen.representations.denoiser_encoder import DenoiserEncoder
from vidgen.representations.feature_keys import parse_key
from vidgen.train.config.self_supervised import TargetConfig
from vidgen.train.tasks.ssl.resampling import cell_edges, has_first_frame, resample_map

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


def normalize_map(maps: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b n c"]:
    """Return the vectors of a map, each normalized over its channels."""
    rows = rearrange(maps.float(), "b c t h w -> b (t h w) c")
    return F.layer_norm(rows, rows.shape[-1:])


class FeatureTarget:
    """A layer of a frozen encoder, "" for its last (EVA, SALT, VideoPrism), or a tokenizer's latents; of a pipeline its
    denoiser's, read at `DENOISER_LEVEL`. Raises VidgenError for a layer that it does not have.

    Called, it returns the target of tokens of `patch` (frames, height, width).
    """

    def __init__(self, model: VideoPipeline | Encoder, layer: str, patch: Grid = (1, 1, 1)) -> None:
        self.encoder: Encoder = DenoiserEncoder(model, (DENOISER_LEVEL,)) if isinstance(model, VideoPipeline) else model
        layers = {parse_key(info.name)[0]: info for info in self.encoder.feature_info}
        if layer and layer not in layers:
            raise VidgenError(f"layer {layer!r} is not one of the source's: {', '.join(layers)}")
        self.info, self.patch = layers[layer or list(layers)[-1]], patch
        self.first_alone = has_first_frame(self.info, {info.module for info in layers.values()})

    @torch.no_grad()
    def __call__(self, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b n d"]:
        """Return the target."""
        grid = tuple(n // p for n, p in zip(video.shape[2:], self.patch, strict=True))
        return normalize_map(self.maps_at(video, grid, cell_edges(grid[0], self.patch[0], first_alone=False)))

    @torch.no_grad()
    def maps_at(
        self, video: Float[Tensor, "b 3 T H W"], grid: Grid, edges: Float[Tensor, "t two"]
    ) -> Float[Tensor, "b c t h w"]:
        """Return the layer's map of clips at the places of a grid, whose cells begin and end at these frames. The last
        frame is repeated where the encoder takes several at a time."""
        step = self.info.reduction[0]
        missing = 0 if self.first_alone else -video.shape[2] % step
        filled = torch.cat([video, video[:, :, -1:].expand(-1, -1, missing, -1, -1)], dim=2).float()
        for name, features in self.encoder.iter_features(filled):
            if name == self.info.name:
                maps = rearrange(channels_last(features, self.info), "b t h w c -> b c t h w")
                maps = maps.float().to(video.device)
                return resample_map(maps, grid, cell_edges(maps.shape[2], step, self.first_alone), edges)
        raise AssertionError(f"the encoder yields no {self.info.name}")


PIXEL_TARGETS = {"pixels": pixel_target, "normalized_pixels": normalized_target, "hog": hog_target}


def fixed_target(config: TargetConfig, shape: VideoViTConfig, device: str) -> Target:
    """Return what makes targets that do not change in training: of pixels, latents, or a frozen encoder."""
    if config.target in PIXEL_TARGETS:
        return partial(PIXEL_TARGETS[config.target], patch=shape.patch)
    if config.target == "latents":
        return FeatureTarget(load_tokenizer(config.tokenizer, device=device), "latents", shape.patch)
    return FeatureTarget(load_feature_encoder(config.source, device=device), config.layer, shape.patch)


def token_target(encoder: TokenEncoder, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b n d"]:
    """Return the encoder's own tokens of whole clips, each normalized (V-JEPA: without weights of their own)."""
    tokens = encoder(video).float()
    return F.layer_norm(tokens, tokens.shape[-1:])
