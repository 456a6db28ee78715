"""VideoViT: a transformer over the tubelets of a clip, its latents or its indices, of which some may be hidden."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.bounds import Choice, Depth, Expansion, NoOrCount, NoOrWidth, Range, Width, check_fields
from vidgen.checkpoints.config_fields import ConfigMapping
from vidgen.errors import VidgenError
from vidgen.models.attention import Heads, Mask, find_attention
from vidgen.models.attention_patterns import Grid, over_frames, over_time
from vidgen.models.dit.config import BlockConfig, check_heads
from vidgen.models.encoders.clip_encoder import ClipEncoder, Size, refuse_partial
from vidgen.models.encoders.frame_selector import FrameSelector, places_of_frames
from vidgen.models.encoders.mixers import LocalBlock, ScanBlock
from vidgen.models.encoders.token_learner import SCOPES, TokenLearner
from vidgen.models.encoders.token_stream import TokenStream
from vidgen.models.feature_layers import FeatureInfo
from vidgen.models.rope import Rotary, apply_rotary_emb, rotary_table
from vidgen.models.transformer_block import Attend, TransformerBlock

MIXERS = ("joint", "factorised", "local", "scan")
PARTIAL = ("joint", "scan")  # that tokens may be left out of


@dataclass(frozen=True, kw_only=True)
class VideoViTConfig(ConfigMapping):
    """Shape of a `VideoViT`; `patch` is (t, h, w) in frames and pixels, or in latent cells.

    mixer: what joins tokens. Attention "joint" over all of them (Tong et al. 2022, VideoMAE), or "factorised" over
        frames and over time alternately (Arnab et al. 2021, ViViT, model 3); "local": convolutions in the first half of
        the blocks, joint attention in the others (Li et al. 2022, UniFormer); "scan": a selective scan both ways (Li et
        al. 2024, VideoMamba).
    in_channels: of a pixel, or of a latent cell. codebook_size: of indices in place of channels, 0 for none.
    clip: frames, height and width, in pixels or latent cells, that it was trained at, and `fps`, frames a second.
    learner_tokens: that a `TokenLearner` makes of each frame of tubes, or of the clip (`learner_scope`), before block
        number `learner_block`; 0 for none. The blocks from there on have these alone, which know their time.
    selector_frames: of tubes that a `FrameSelector` chooses, and that alone are read; 0 for all.
    """

    patch: tuple[Size, Size, Size] = (2, 8, 8)
    in_channels: Width = 3
    codebook_size: NoOrWidth = 0
    mixer: Annotated[str, Choice(MIXERS)] = "joint"
    width: Width = 144
    depth: Depth = 6
    head_dim: Width = 48
    mlp_ratio: Expansion = 4
    clip: tuple[Size, Size, Size] = (16, 64, 64)
    fps: Annotated[float, Range(0.0, 1000.0, above=True)] = 8.0
    learner_tokens: NoOrCount = 0
    learner_scope: Annotated[str, Choice(SCOPES)] = "frame"
    learner_block: NoOrCount = 0
    selector_frames: NoOrCount = 0

    def __post_init__(self) -> None:
        check_fields(self)
        check_heads(self.width, self.head_dim)
        if not self.has_all_tokens and self.mixer not in PARTIAL:
            raise VidgenError(
                f"mixer {self.mixer} needs every token of the grid: choose {' or '.join(PARTIAL)}, or leave "
                "learner_tokens and selector_frames out"
            )
        if self.learner_block >= self.depth:
            raise VidgenError(f"learner_block={self.learner_block} is none of {self.depth} blocks, counted from 0")
        if self.selector_frames and self.codebook_size:
            raise VidgenError("selector_frames are chosen by pixels or latents, not by indices; leave it out")

    @property
    def has_all_tokens(self) -> bool:
        """Whether the output has a token for every place, or for every one that is not hidden."""
        return not (self.learner_tokens or self.selector_frames)

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


def attend_beside(
    q: Heads, k: Heads, v: Heads, *, rotary: Rotary | None, keys: Sequence[Heads], values: Sequence[Heads]
) -> Heads:
    """Return attention of tokens to each other, rotated by their places where they have some, and to other keys."""
    if rotary is not None:
        q, k = apply_rotary_emb(q, rotary), apply_rotary_emb(k, rotary)
    return find_attention("auto")(q, torch.cat([k, *keys], dim=2), torch.cat([v, *values], dim=2))


def take_rows(x: Float[Tensor, "b n d"], places: Int[Tensor, "b k"]) -> Float[Tensor, "b k d"]:
    """Return the tokens at these places."""
    return x.gather(1, places[..., None].expand(-1, -1, x.shape[-1]))


class VideoViT(ClipEncoder):
    """A pre-norm transformer over tubelets with 3-D rotary positions. Layers are "blocks.<i>", the residual stream.

    With `keep` the tokens of the other places are left out, and cost nothing (He et al. 2022, MAE, section 3).
    """

    config_class = VideoViTConfig
    config: VideoViTConfig

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
        if config.learner_tokens:
            self.learner = TokenLearner(width, config.learner_tokens)
        if config.selector_frames:
            self.selector = FrameSelector(config.in_channels, t)

    def forward(self, video: Tensor, keep: Int[Tensor, "b k"] | None = None) -> Float[Tensor, "b k d"]:
        """Return the normed tokens of the last block, of the places in `keep` or of all, (t, h, w) in order; those that
        are learned, where there is a TokenLearner, frame by frame.

        Raises VidgenError for clips that patches do not fill, and for hidden tokens of attention or a TokenLearner that
        needs a grid.

        Args:
            video: Clips (b, c, T, H, W), of indices (b, T, H, W) or (b, 1, T, H, W).
            keep: Places of the tokens that are seen, the same number of each clip, whatever a selector would choose.
        """
        *_, stream = self.iter_tokens(video, keep)
        return self.norm_out(stream.x)

    def iter_tokens(self, video: Tensor, keep: Int[Tensor, "b k"] | None = None) -> Iterator[TokenStream]:
        """Yield the stream before the first block and after each; the arguments are those of `forward`."""
        config = self.config
        if keep is not None:
            self.check_partial()
        elif config.selector_frames:
            keep = places_of_frames(self.selector.choose(video, config.selector_frames), self.grid_of(video))
        x, grid, rotary = self.begin(video, keep)
        shares = None
        yield TokenStream(x, keep)
        for i, block in enumerate(self.blocks):
            if config.learner_tokens and i == config.learner_block:
                x, shares, rotary = self.learn_tokens(x, keep, grid)
            if isinstance(block, LocalBlock):
                x = block(x, grid)
            elif isinstance(block, ScanBlock):
                x = block(x)
            else:
                x = block(x, self.attention_of(i, grid, rotary), None)
            yield TokenStream(x, keep, shares)

    def begin(
        self, video: Tensor, keep: Int[Tensor, "b k"] | None = None
    ) -> tuple[Float[Tensor, "b k d"], Grid, Rotary]:
        """Return the stream before the first block, the grid of all tokens, and the rotation of those in the stream."""
        grid = self.grid_of(video)
        place = self.place(grid, video)
        x = self.embed(video, keep) + (place if keep is None else place[keep])
        return x, grid, rotary_rows(grid, self.config.head_dim, x, keep)

    def attention_of(self, number: int, grid: Grid, rotary: Rotary) -> Attend:
        """Return how the tokens of a block attend to each other."""
        return partial(self.attend, rotary=rotary, grid=grid, odd=number % 2 == 1)

    def learn_tokens(
        self, x: Float[Tensor, "b k d"], places: Int[Tensor, "b k"] | None, grid: Grid
    ) -> tuple[Float[Tensor, "b m d"], Float[Tensor, "b f p s"], Rotary]:
        """Return the learned tokens of whole frames or of the clip, their shares in each place, and their rotary rows:
        those of the frame's time, or of the clip's begin, and of no place in it."""
        cells = grid[1] * grid[2]
        if places is None:
            places = torch.arange(x.shape[1], device=x.device)[None]
        count = x.shape[1] // cells if self.config.learner_scope == "frame" else 1
        tokens, shares = self.learner(rearrange(x, "b (f p) d -> b f p d", f=count))
        corners = places[:, :: places.shape[1] // count] // cells * cells
        rotary = rotary_rows(grid, self.config.head_dim, x, corners.repeat_interleave(tokens.shape[2], dim=1))
        return rearrange(tokens, "b f s d -> b (f s) d"), shares, rotary

    def check_partial(self) -> None:
        """Raise VidgenError for attention that needs a grid, and for learned tokens."""
        if self.config.mixer not in PARTIAL:
            refuse_partial(f"mixer {self.config.mixer}", PARTIAL)
        if self.config.learner_tokens:
            refuse_partial("a TokenLearner", ("an encoder without learner_tokens",))

    def check_dense(self) -> None:
        """Raise VidgenError where the tokens are not those of the places of the grid."""
        if not self.config.has_all_tokens:
            raise VidgenError("tokens are told place by place: leave encoder.learner_tokens and selector_frames out")

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

    def embed(self, video: Tensor, keep: Int[Tensor, "b k"] | None = None) -> Float[Tensor, "b k d"]:
        """Return the tokens of clips, of the places in `keep` or of all, without their places."""
        if self.config.codebook_size:
            codes = video.squeeze(1) if video.ndim == 5 else video
            video = rearrange(self.code_in(codes), "b t h w c -> b c t h w")
        patches = to_patches(video.to(self.patch_in.weight.dtype), self.config.patch)
        return self.patch_in(patches if keep is None else take_rows(patches, keep))

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """The blocks."""
        kind = {"num_chs": self.config.width, "reduction": self.config.patch, "module": "encoder", "causal": False}
        return [FeatureInfo(name=f"blocks.{i}", **kind) for i in range(self.config.depth)]

    def iter_features(self, video: Tensor) -> Iterator[tuple[str, Float[Tensor, "b c t h w"]]]:
        """Yield (name, map) of every block."""
        grid = self.grid_of(video)
        for i, stream in enumerate(self.iter_tokens(video)):
            if i:
                yield f"blocks.{i - 1}", stream.to_map(grid)

    @property
    def block_modules(self) -> dict[str, nn.Module]:
        """What makes each layer, by its name."""
        return {f"blocks.{i}": block for i, block in enumerate(self.blocks)}


def to_patches(video: Float[Tensor, "b c T H W"], patch: Grid) -> Float[Tensor, "b n p"]:
    """Return clips cut into patches (t, h, w), each a vector of its values, channels last."""
    t, h, w = patch
    return rearrange(video, "b c (t i) (h j) (w k) -> b (t h w) (i j k c)", i=t, j=h, k=w)
