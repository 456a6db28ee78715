"""Targets of masked prediction: what stands at every token of a clip."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.interfaces import Encoder, TokenShape
from vidgen.models.attention_patterns import Grid
from vidgen.models.encoders.clip_encoder import ClipEncoderConfig
from vidgen.models.encoders.feature_predictor import normalized_tokens
from vidgen.models.encoders.video_vit import to_patches
from vidgen.models.feature_layers import channels_last
from vidgen.pipelines.loading import load_feature_encoder, load_tokenizer
from vidgen.pipelines.video import VideoPipeline
from vidgen.representations.denoiser_encoder import DenoiserEncoder
from vidgen.representations.feature_keys import parse_key
from vidgen.representations.latent_encoder import LatentEncoder, cell_size
from vidgen.train.config.self_supervised import (
    FIXED_TARGETS,
    IndexTermConfig,
    MaskedTermConfig,
    SSLRecipe,
    TargetConfig,
)
from vidgen.train.tasks.ssl.encoders import open_reader
from vidgen.train.tasks.ssl.resampling import cell_edges, has_first_frame, resample_map

Target = Callable[[Float[Tensor, "b c T H W"]], Float[Tensor, "b n d"]]
HOG_BINS = 9
DENOISER_LEVEL = 0.1
SPREAD = 1e-6  # that is added to a patch's variance


def pixel_target(video: Float[Tensor, "b c T H W"], patch: Grid) -> Float[Tensor, "b n d"]:
    """Return the pixels of every patch."""
    return to_patches(video.float(), patch)


def normalized_target(video: Float[Tensor, "b c T H W"], patch: Grid) -> Float[Tensor, "b n d"]:
    """Return the pixels of every patch less their mean, over their spread (He et al. 2022, MAE, section 4.1). Raises
    VidgenError for patches of one value, which have no spread."""
    x = to_patches(video.float(), patch)
    if x.shape[-1] < 2:
        raise VidgenError(f"patches of {patch} have one value, and no spread to be normalized by; give larger ones")
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
        modules = {info.module for info in layers.values()}
        over_cells = isinstance(model, LatentEncoder) and cell_size(model.tokenizer)[0] > 1
        self.first_alone = over_cells or has_first_frame(self.info, modules)

    @torch.no_grad()
    def __call__(self, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b n d"]:
        """Return the target."""
        grid = tuple(n // p for n, p in zip(video.shape[2:], self.patch, strict=True))
        return normalized_tokens(self.maps_at(video, grid, cell_edges(grid[0], self.patch[0], first_alone=False)))

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


class IndexTarget:
    """The indices of a tokenizer's codebook at tokens; `cells` is how many a token has.

    Of a token of pixels they are those of all cells within its square, or of the one that it lies in, at its last
    frame. Of a token of cells they are those of all of them. Raises VidgenError for pixels without the name of a
    tokenizer, for another tokenizer than that of the cells, and for squares that are no multiple of cells, nor cells of
    them.
    """

    def __init__(self, config: IndexTermConfig, shape: TokenShape, recipe: SSLRecipe) -> None:
        self.over_cells, self.patch = recipe.reads != "pixels", shape.patch
        if self.over_cells and config.tokenizer not in ("", recipe.tokenizer):
            raise VidgenError(f"the indices are those of tokenizer={recipe.tokenizer}; leave the term's tokenizer out")
        if not self.over_cells and not config.tokenizer:
            raise VidgenError("indices are of a tokenizer with a codebook; give tokenizer: FOLDER")
        self.reader = open_reader(recipe.tokenizer if self.over_cells else config.tokenizer, "indices", recipe)
        self.cell = cell_size(self.reader.tokenizer)
        sides = list(zip(self.patch[1:], self.cell[1:], strict=True))
        if not self.over_cells and any(p % c and c % p for p, c in sides):
            raise VidgenError(
                f"patches of {self.patch} pixels are no whole number of cells of {self.cell}, nor these of them"
            )
        self.cells = prod(self.patch) if self.over_cells else prod(max(1, p // c) for p, c in sides)

    def __call__(self, video: Float[Tensor, "b 3 T H W"]) -> Int[Tensor, "b n m"]:
        """Return the indices of clips of pixels."""
        indices = self.reader(video)
        if self.over_cells:
            return to_patches(indices, self.patch)
        t, h, w = (n // p for n, p in zip(video.shape[2:], self.patch, strict=True))
        last = torch.arange(1, t + 1, device=indices.device) * self.patch[0] - 1
        maps = indices[:, :, (last / self.cell[0]).ceil().long()]  # the first frame has a cell of its own
        inside = [max(1, p // c) for p, c in zip(self.patch[1:], self.cell[1:], strict=True)]
        for axis, (p, c) in enumerate(zip(self.patch[1:], self.cell[1:], strict=True), start=3):
            maps = maps.repeat_interleave(max(1, c // p), dim=axis)
        return to_patches(maps[..., : h * inside[0], : w * inside[1]], (1, *inside))


PIXEL_TARGETS = {"pixels": pixel_target, "normalized_pixels": normalized_target, "hog": hog_target}


# What can be told of what an encoder reads.
OWN_TARGETS = {"pixels": FIXED_TARGETS, "latents": ("pixels", "normalized_pixels"), "indices": ()}


def fixed_target(config: TargetConfig, shape: ClipEncoderConfig, recipe: SSLRecipe) -> Target:
    """Return what makes targets that do not change in training: of pixels, latents, or a frozen encoder. Raises
    VidgenError for targets that cannot be had of what the encoder reads."""
    if config.target not in OWN_TARGETS[recipe.reads]:
        learned = ("teacher", "self") if isinstance(config, MaskedTermConfig) else ()
        others = ", ".join((*OWN_TARGETS[recipe.reads], *learned))
        raise VidgenError(
            f"target {config.target} is made of pixels, and the encoder reads {recipe.reads}; choose one of {others}, "
            "where pixels are what it reads, or a term of kind indices"
        )
    device = recipe.device
    if config.target in PIXEL_TARGETS:
        return partial(PIXEL_TARGETS[config.target], patch=shape.patch)
    if config.target == "latents":
        return FeatureTarget(load_tokenizer(config.tokenizer, device=device), "latents", shape.patch)
    return FeatureTarget(load_feature_encoder(config.source, device=device), config.layer, shape.patch)
