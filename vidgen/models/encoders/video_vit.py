"""VideoViT: a transformer over the tubelets of a clip, its latents or its indices, of which some may be hidden."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.bounds import Choice, Depth, Expansion, NoOrWidth, Range, Width, check_fields
from vidgen.checkpoints.config_fields import ConfigMapping
from vidgen.checkpoints.pretrained import Pretrained
from vidgen.errors import VidgenError
from vidgen.models.attention import Heads, Mask, find_attention
from vidgen.models.attention_patterns import Grid, over_frames, over_time
from vidgen.models.dit.config import BlockConfig, check_heads
from vidgen.models.encoders.mixers import LocalBlock, ScanBlock
from vidgen.models.feature_layers import FeatureInfo, FeatureMixin
from vidgen.models.rope import Rotary, apply_rotary_emb, rotary_table
from vidgen.models.transformer_block import Attend, TransformerBlock

MIXERS = ("joint", "factorised", "local", "scan")
PARTIAL = ("joint", "scan")  # that tokens may be left out of
Size = Annotated[int, Range(1, 4096)]


@dataclass(frozen=True, kw_only=True)
class VideoViTConfig(ConfigMapping):
    """Shape of a `VideoViT`; `patch` is (t, h, w) in frames and pixels, or in latent cells.

    mixer: what joins tokens. Attention "joint" over all of them (Tong et al. 2022, VideoMAE), or "factorised" over
        frames and over time alternately (Arnab et al. 2021, ViViT, model 3); "local": convolutions in the first half of
        the blocks, joint attention in the others (Li et al. 2022, UniFormer); "scan": a selective scan both ways (Li et
        al. 2024, VideoMamba).
    in_channels: of a pixel, or of a latent cell. codebook_size: of indices in place of channels, 0 for none.
    clip: frames, height and width, in pixels or latent cells, that it was trained at, and `fps`, frames a second.
    """

    patch: tuple[Size, Size, Size] = (2, 8, 8)
    in_channels: Width = 3
    codebook_size: NoOrWidth = 0
    mixer: Annotated[str, Choice(MIXERS)] = "joint"
    width: Width = 192
    depth: Depth = 6
    head_dim: Width = 48
    mlp_ratio: Expansion = 4
    clip: tuple[Size, Size, Size] = (16, 64, 64)
    fps: Annotated[float, Range(0.0, 1000.0, above=True)] = 8.0

    def __post_init__(self) -> None:
        check_fields(self)
        check_heads(self.width, self.head_dim)

    @property
    def block(self) -> BlockConfig:
        """The shape of every block."""
        return BlockConfig(width=self.width, head_dim=self.head_dim, mlp_ratio=self.mlp_ratio)


class PlaceEmbedding(nn.Module):
    """What tells a token its place: rotary positions alone see differences, and no border."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.place_in = nn.Linear(head_dim, width)

    def forward(self, grid: Grid, like: Tensor) -> Float[Tensor, "n d"]:
        """Return a vector for each place of a grid."""
        table = rotary_table(grid, self.head_dim // 2, 0.0, like.device, torch.float32)
        return self.place_in(torch.cat(table, dim=-1).to(self.place_in.weight.dtype))


def rotary_rows(grid: Grid, head_dim: int, like: Tensor, places: Int[Tensor, "b k"] | None) -> Rotary:
    """Return the rotary table of the tokens at `places` of a grid, one for all clips where these are all of them."""
    table = rotary_table(grid, head_dim // 2, 0.0, like.device, like.dtype)
    return table if places is None else Rotary(table.cos[places][:, None], table.sin[places][:, None])


def attend_rotated(q: Heads, k: Heads, v: Heads, *, rotary: Rotary, mask: Mask | None = None) -> Heads:
    """Return attention of all tokens to all, queries and keys rotated by the rows of their places."""
    return find_attention("auto")(apply_rotary_emb(q, rotary), apply_rotary_emb(k, rotary), v, mask)


def take_rows(x: Float[Tensor, "b n d"], places: Int[Tensor, "b k"]) -> Float[Tensor, "b k d"]:
    """Return the tokens at these places."""
    return x.gather(1, places[..., None].expand(-1, -1, x.shape[-1]))


class VideoViT(FeatureMixin, Pretrained):
    """A pre-norm transformer over tubelets with 3-D rotary positions. Layers are "blocks.<i>", the residual stream.

    With `keep` the tokens of the other places are left out, and cost nothing (He et al. 2022, MAE, section 3).
    """

    config_class = VideoViTConfig
    dense = True  # every token stands for a patch

    def __init__(self, config: VideoViTConfig) -> None:
        super().__init__(config)
        width, (t, h, w) = config.width, config.patch
        if config.codebook_size:
            self.code_in = nn.Embedding(config.codebook_size, width)
            nn.init.normal_(self.code_in.weight, std=0.5)
        channels = width if config.codebook_size else config.in_channels
        self.patch_in = nn.Linear(channels * t * h * w, width)
        self.place = PlaceEmbedding(width, config.head_dim)
        self.blocks = nn.ModuleList([self.make_block(i) for i in range(config.depth)])
        self.norm_out = nn.LayerNorm(width)

    def forward(self, video: Tensor, keep: Int[Tensor, "b k"] | None = None) -> Float[Tensor, "b k d"]:
        """Return the normed tokens of the last block, of the places in `keep` or of all, (t, h, w) in order.

        Raises VidgenError for clips that patches do not fill, and for hidden tokens of attention that needs a grid.

        Args:
            video: Clips (b, c, T, H, W), of indices (b, T, H, W).
            keep: Places of the tokens that are seen, the same number of each clip.
        """
        *_, x = self.iter_tokens(video, keep)
        return self.norm_out(x)

    def iter_tokens(self, video: Tensor, keep: Int[Tensor, "b k"] | None = None) -> Iterator[Float[Tensor, "b k d"]]:
        """Yield the stream before the first block and after each; the arguments are those of `forward`."""
        x, grid, rotary = self.begin(video, keep)
        yield x
        for i, block in enumerate(self.blocks):
            if isinstance(block, LocalBlock):
                x = block(x, grid)
            elif isinstance(block, ScanBlock):
                x = block(x)
            else:
                x = block(x, self.attention_of(i, grid, rotary), None)
            yield x

    def begin(
        self, video: Tensor, keep: Int[Tensor, "b k"] | None = None
    ) -> tuple[Float[Tensor, "b k d"], Grid, Rotary]:
        """Return the stream before the first block, the grid of all tokens, and the rotation of those in the stream."""
        if keep is not None and not self.maskable:
            raise VidgenError(
                f"mixer {self.config.mixer} needs every token of the grid, and some are hidden; choose "
                f"{' or '.join(PARTIAL)}"
            )
        grid = self.grid_of(video)
        x = self.embed(video) + self.place(grid, video)
        if keep is not None:
            x = take_rows(x, keep)
        return x, grid, rotary_rows(grid, self.config.head_dim, x, keep)

    def attention_of(self, number: int, grid: Grid, rotary: Rotary) -> Attend:
        """Return how the tokens of a block attend to each other."""
        return partial(self.attend, rotary=rotary, grid=grid, odd=number % 2 == 1)

    @property
    def maskable(self) -> bool:
        """Whether tokens may be left out, as the mixer allows it."""
        return self.config.mixer in PARTIAL

    def make_block(self, number: int) -> nn.Module:
        """Return a block by the config's mixer."""
        config = self.config
        if config.mixer == "scan":
            return ScanBlock(config.width)
        if config.mixer == "local" and number < config.depth // 2:
            return LocalBlock(config.width, config.mlp_ratio)
        return TransformerBlock(config.block)

    def attend(self, q: Heads, k: Heads, v: Heads, *, rotary: Rotary, grid: Grid, odd: bool) -> Heads:
        """Return attention of all tokens, or of those of a frame or of a place in `odd` blocks."""
        if self.config.mixer != "factorised":
            return attend_rotated(q, k, v, rotary=rotary)
        q, k = apply_rotary_emb(q, rotary), apply_rotary_emb(k, rotary)
        return (over_time if odd else over_frames)(find_attention("auto"), q, k, v, grid=grid)

    def grid_of(self, video: Tensor) -> Grid:
        """Return the tokens (t, h, w) of clips. Raises VidgenError for clips that patches do not fill."""
        return patch_grid(tuple(video.shape[-3:]), self.config.patch)

    def embed(self, video: Tensor) -> Float[Tensor, "b n d"]:
        """Return the tokens of clips, without their places."""
        if self.config.codebook_size:
            video = rearrange(self.code_in(video), "b t h w c -> b c t h w")
        return self.patch_in(to_patches(video.to(self.patch_in.weight.dtype), self.config.patch))

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """The blocks."""
        kind = {"num_chs": self.config.width, "reduction": self.config.patch, "module": "encoder", "causal": False}
        return [FeatureInfo(name=f"blocks.{i}", **kind) for i in range(self.config.depth)]

    def iter_features(self, video: Tensor) -> Iterator[tuple[str, Float[Tensor, "b c t h w"]]]:
        """Yield (name, map) of every block."""
        t, h, _ = self.grid_of(video)
        for i, x in enumerate(self.iter_tokens(video)):
            if i:
                yield f"blocks.{i - 1}", rearrange(x, "b (t h w) c -> b c t h w", t=t, h=h)

    @property
    def block_modules(self) -> dict[str, nn.Module]:
        """What makes each layer, by its name."""
        return {f"blocks.{i}": block for i, block in enumerate(self.blocks)}

    @property
    def num_frames(self) -> int:
        """Of the clips of training."""
        return self.config.clip[0]

    @property
    def height(self) -> int:
        """Of the clips of training."""
        return self.config.clip[1]

    @property
    def width(self) -> int:
        """Of the clips of training."""
        return self.config.clip[2]

    @property
    def fps(self) -> float:
        """Of the clips of training."""
        return self.config.fps


def patch_grid(size: Grid, patch: Grid) -> Grid:
    """Return the patches (t, h, w) of clips of a size. Raises VidgenError for clips that patches do not fill."""
    if any(n % p for n, p in zip(size, patch, strict=True)):
        raise VidgenError(
            f"clips of {size} (frames, height, width) are no multiple of the encoder's patches {patch}; crop them"
        )
    return tuple(n // p for n, p in zip(size, patch, strict=True))


def to_patches(video: Float[Tensor, "b c T H W"], patch: Grid) -> Float[Tensor, "b n p"]:
    """Return clips cut into patches (t, h, w), each a vector of its values, channels last."""
    t, h, w = patch
    return rearrange(video, "b c (t i) (h j) (w k) -> b (t h w) (i j k c)", i=t, j=h, k=w)
