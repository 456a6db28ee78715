"""VideoDiT: a transformer over space-time patches of latents, a noise level per frame, text by cross-attention, and
features of a clip patch by patch."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.errors import VidgenError
from vidgen.models.attention import find_attention
from vidgen.models.layers import Attention, FeedForward, position_angles, sinusoidal
from vidgen.models.taps import TapInfo
from vidgen.models.text import TextEncoding
from vidgen.pretrained import Pretrained


@dataclass(frozen=True, kw_only=True)
class VideoDiTConfig:
    """Shape of a VideoDiT; `patch` is (t, h, w) in latent cells.

    Conditions, 0 for none: `text_width` is the width of text tokens, `feature_channels` that of one vector a patch.
    """

    latent_channels: int = 16
    patch: tuple[int, int, int] = (1, 2, 2)
    width: int = 256
    depth: int = 8
    head_dim: int = 64
    mlp_ratio: int = 4
    text_width: int = 192
    feature_channels: int = 0

    def __post_init__(self) -> None:
        if self.width % self.head_dim or self.head_dim % 8:
            raise VidgenError(f"width {self.width} must be a multiple of head_dim {self.head_dim}, and that of 8")
        if self.patch[0] != 1:
            raise VidgenError(f"patch {self.patch}: a noise level per latent frame needs patches of one frame")


class Block(nn.Module):
    """Self-attention, text cross-attention (where there is text) and feed-forward, modulated by adaLN-single.

    The six shifts, scales and gates come from one projection shared by all blocks plus a table of this block's own
    (Chen et al. 2024, PixArt-alpha, section 2.3), from adaLN-Zero (Peebles & Xie 2023, section 3.2).
    """

    def __init__(self, config: VideoDiTConfig) -> None:
        super().__init__()
        width = config.width
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = Attention(width, config.head_dim)
        if config.text_width:
            self.norm_text = nn.LayerNorm(width)
            self.cross = Attention(width, config.head_dim, config.text_width)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
        self.mlp = FeedForward(width, config.mlp_ratio)
        self.table = nn.Parameter(torch.zeros(6, width))

    def forward(
        self, x: Float[Tensor, "b t s d"], cond: Float[Tensor, "b f six d"], text: TextEncoding | None, angles: Tensor
    ) -> Float[Tensor, "b t s d"]:
        t = x.shape[1]
        # Each of the six is (b, f, 1, d), f being 1 or t: it holds for all positions of a frame.
        shift1, scale1, gate1, shift2, scale2, gate2 = (cond + self.table)[:, :, :, None].unbind(2)
        y = rearrange(self.norm1(x) * (1.0 + scale1) + shift1, "b t s d -> b (t s) d")
        x = x + gate1 * rearrange(self.attention(y, angles=angles), "b (t s) d -> b t s d", t=t)
        if text is not None:
            y = rearrange(self.norm_text(x), "b t s d -> b (t s) d")
            x = x + rearrange(self.cross(y, text.tokens, text.mask), "b (t s) d -> b t s d", t=t)
        return x + gate2 * self.mlp(self.norm2(x) * (1.0 + scale2) + shift2)


class VideoDiT(Pretrained):
    """Diffusion transformer over clips of latents (Peebles & Xie 2023): full attention, 3-D rotary positions.

    The sines and cosines of the positions are also added to the patches: out of pure noise, rotary differences alone
    do not tell a patch at the border from one in the middle.

    `forward(x, t, text, features)` maps noisy latents (b, c, t, h, w) at noise levels (b,) or (b, t) to a prediction of
    the same shape; what it predicts is the checkpoint's parametrisation, not the network's business. Features
    (b, e, t, i, j), one vector a patch, are projected and added to the patches: what projecting both, concatenated,
    would give.
    """

    config_class = VideoDiTConfig

    def __init__(self, config: VideoDiTConfig) -> None:
        super().__init__(config)
        _, p, q = config.patch
        width, cells = config.width, config.latent_channels * p * q
        self.patch_in = nn.Linear(cells, width)
        self.position_in = nn.Linear(config.head_dim, width)
        self.level = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        if config.text_width:
            self.pooled_text = nn.Linear(config.text_width, width)
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.depth)])
        self.norm_out = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation_out = nn.Linear(width, 2 * width)
        self.patch_out = nn.Linear(width, cells)
        if config.feature_channels:
            self.features_in = nn.Linear(config.feature_channels, width)
        # Every block starts as the identity and the output as zero (adaLN-Zero).
        crossed = [block.cross.out for block in self.blocks] if config.text_width else []
        for layer in (self.modulation, self.modulation_out, self.patch_out, *crossed):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        x: Float[Tensor, "b c t h w"],
        t: Float[Tensor, b * f],
        text: TextEncoding | None = None,
        features: Float[Tensor, "b e t i j"] | None = None,
    ) -> Float[Tensor, "b c t h w"]:
        for _, out in self.walk(x, t, text, features):  # noqa: B007 (the last one is the output)
            pass
        return out

    def walk(
        self,
        x: Float[Tensor, "b c t h w"],
        t: Float[Tensor, b * f],
        text: TextEncoding | None = None,
        features: Float[Tensor, "b e t i j"] | None = None,
    ) -> Generator[tuple[str, Tensor], Tensor | None, None]:
        """The embedded patches, "patches", and every block's output (b, t, h, w, d) under its tap's name, lazily; the
        last item is the prediction, "out".

        What is sent in answer to one of them stands for the last block's output, and the blocks between are left out.
        Raises ValueError for a condition that the model does not take or that it lacks.
        """
        p, q = self.config.patch[1:]
        frames, h, w = x.shape[2], x.shape[3] // p, x.shape[4] // q
        if x.shape[3] % p or x.shape[4] % q:
            raise VidgenError(f"latents of {x.shape[3]}x{x.shape[4]} are not a multiple of the patch {p}x{q}")
        self.check_conditions(text, features, (frames, h, w))
        x = x.to(self.patch_in.weight.dtype)
        x = self.patch_in(rearrange(x, "b c t (h p) (w q) -> b t (h w) (c p q)", p=p, q=q))  # b t s d
        if features is not None:
            x = x + self.features_in(rearrange(features.to(x.dtype), "b e t i j -> b t (i j) e"))
        cond = self.condition(t, text)  # b f d
        modulation = rearrange(self.modulation(cond), "b f (k d) -> b f k d", k=6)
        angles = position_angles((frames, h, w), self.config.head_dim // 2, x.device)
        place = torch.cat([angles.cos(), angles.sin()], dim=-1).to(x.dtype)  # (t*h*w) head_dim
        x = x + rearrange(self.position_in(place), "(t s) d -> t s d", t=frames)
        known = yield "patches", rearrange(x, "b t (h w) d -> b t h w d", h=h)
        for i, block in enumerate(self.blocks):
            if known is not None:
                break
            x = block(x, modulation, text, angles)
            known = yield f"blocks.{i}", rearrange(x, "b t (h w) d -> b t h w d", h=h)
        if known is not None:
            x = rearrange(known, "b t h w d -> b t (h w) d")
        shift, scale = self.modulation_out(cond)[:, :, None].chunk(2, dim=-1)
        x = self.patch_out(self.norm_out(x) * (1.0 + scale) + shift)
        yield "out", rearrange(x, "b t (h w) (c p q) -> b c t (h p) (w q)", h=h, p=p, q=q)

    def check_conditions(self, text: TextEncoding | None, features: Tensor | None, grid: tuple[int, int, int]) -> None:
        """Raises ValueError unless there is text, and features of `grid`, exactly where the config has them."""
        c = self.config
        if (text is not None, features is not None) != (c.text_width > 0, c.feature_channels > 0):
            raise ValueError(
                f"this model has text_width={c.text_width} and feature_channels={c.feature_channels}; it was given "
                f"{'text' if text is not None else 'no text'} and {'' if features is not None else 'no '}features"
            )
        if features is not None and tuple(features.shape[1:]) != (c.feature_channels, *grid):
            raise ValueError(
                f"features {tuple(features.shape)} are not {c.feature_channels} channels on {grid} patches"
            )

    def condition(self, t: Float[Tensor, b * f], text: TextEncoding | None) -> Float[Tensor, "b f d"]:
        """SiLU of the embedded noise level plus the pooled text, one row a frame where levels are per frame."""
        dtype = self.patch_in.weight.dtype
        level = self.level(sinusoidal(t if t.ndim == 2 else t[:, None], 256).to(dtype))
        return F.silu(level if text is None else level + self.pooled_text(text.pooled().to(dtype))[:, None])

    def set_attention(self, name: str) -> None:
        """Chooses the attention of every layer: "auto", "plain", "sdpa" or "xformers"."""
        find_attention(name)
        for layer in self.modules():
            if isinstance(layer, Attention):
                layer.backend = name

    @property
    def feature_info(self) -> list[TapInfo]:
        """One tap a block; strides are in latent cells, not pixels."""
        c = self.config
        return [
            TapInfo(name=f"blocks.{i}", width=c.width, stride=c.patch, space="denoiser", causal=False)
            for i in range(c.depth)
        ]
