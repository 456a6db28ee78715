"""VideoDiT: a transformer over space-time patches of latents, with a noise level per frame; text, labels of a clip, and
features patch by patch."""

from __future__ import annotations

from collections.abc import Generator

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.checkpoints.pretrained import Pretrained
from vidgen.errors import VidgenError
from vidgen.models.attention import find_attention
from vidgen.models.attention_patterns import Grid
from vidgen.models.dit.blocks import Block
from vidgen.models.dit.config import VideoDiTConfig
from vidgen.models.dit.label_embedding import LabelConditioning, LabelEmbedding
from vidgen.models.dit.mmdit_block import MMDiTBlock
from vidgen.models.feature_layers import FeatureInfo, FeatureMixin, block_feature_info
from vidgen.models.layers import Attention, modulate, settle, sinusoidal
from vidgen.models.rope import rotary_table
from vidgen.models.text.encoders import TextEncoding
from vidgen.models.text.prepared import PreparedText, TextHeads, TextTokens, fill, fill_once


def make_block(config: VideoDiTConfig, index: int) -> nn.Module:
    """The block of a VideoDiT at place `index`."""
    if config.text_attention == "joint":
        return MMDiTBlock(config, last=index + 1 == config.depth)
    return Block(config, index)


class VideoDiT(FeatureMixin, Pretrained):
    """Diffusion transformer over clips of latents (Peebles & Xie 2023), with 3-D rotary positions.

    The sines and cosines of the positions are also added to the patches: out of pure noise, rotary differences alone
    do not tell a patch at the border from one in the middle.

    `forward(x, t, text, features, labels)` maps noisy latents (b, c, t, h, w) at noise levels (b,) or (b, t) to a
    prediction of the same shape; what it predicts is the checkpoint's prediction_type, not the network's business. Text
    that serves many steps is best given as `prepare_text` makes it. Features (b, e, t, i, j), one vector a patch, are
    projected and added to the patches: what projecting both, concatenated, would give.
    """

    config_class = VideoDiTConfig

    def __init__(self, config: VideoDiTConfig) -> None:
        super().__init__(config)
        _, p, q = config.patch
        width, cells = config.width, config.latent_channels * p * q
        self.patch_in = nn.Linear(cells, width)
        if config.added_positions:
            self.position_in = nn.Linear(config.head_dim, width)
        self.level = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        if config.text_width and config.pooled_text:
            self.pooled_text = nn.Linear(config.text_width, width)
        self.joint = config.text_attention == "joint"
        if config.text_mlp:
            self.text_in = nn.Sequential(
                nn.Linear(config.text_width, width), nn.GELU(approximate="tanh"), nn.Linear(width, width)
            )
        elif self.joint:
            self.text_in = nn.Linear(config.text_width, width)
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList([make_block(config, i) for i in range(config.depth)])
        self.norm_out = nn.LayerNorm(width, eps=config.norm_eps, elementwise_affine=False)
        if config.final_table:
            self.table_out = nn.Parameter(torch.zeros(2, width))
        else:
            self.modulation_out = nn.Linear(width, 2 * width)
        self.patch_out = nn.Linear(width, cells)
        if config.feature_channels:
            self.features_in = nn.Linear(config.feature_channels, width)
        if config.labels:
            self.labels_in = LabelEmbedding(config)
        # Every block starts as the identity and the output as zero (adaLN-Zero).
        starts = [self.modulation, self.patch_out, *(layer for block in self.blocks for layer in block.ungated)]
        for layer in starts if config.final_table else [*starts, self.modulation_out]:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        x: Float[Tensor, "b c t h w"],
        t: Float[Tensor, b * f],
        text: TextEncoding | PreparedText | None = None,
        features: Float[Tensor, "b e t i j"] | None = None,
        labels: LabelConditioning | None = None,
    ) -> Float[Tensor, "b c t h w"]:
        for _, out in self.iter_features(x, t, text, features, labels):  # noqa: B007 (the last one is the output)
            pass
        return out

    def iter_features(
        self,
        x: Float[Tensor, "b c t h w"],
        t: Float[Tensor, b * f],
        text: TextEncoding | PreparedText | None = None,
        features: Float[Tensor, "b e t i j"] | None = None,
        labels: LabelConditioning | None = None,
    ) -> Generator[tuple[str, Tensor], Tensor | None, None]:
        """The embedded patches, "patches", and every block's output (b, t, h, w, d) under its layer's name, lazily; the
        last item is the prediction, "out".

        What is sent in answer to one of them stands for the last block's output, and the blocks between are left out.
        Raises ValueError for a condition that the model does not take or that it lacks.
        """
        c = self.config
        p, q = c.patch[1:]
        grid = frames, h, _ = x.shape[2], x.shape[3] // p, x.shape[4] // q
        if x.shape[3] % p or x.shape[4] % q:
            raise VidgenError(f"latents of {x.shape[3]}x{x.shape[4]} are not a multiple of the patch {p}x{q}")
        self.check_conditions(text, features, labels, grid)
        x = x.to(self.patch_in.weight.dtype)
        x = self.patch_in(rearrange(x, "b c t (h p) (w q) -> b t (h w) (c p q)", p=p, q=q))  # b t s d
        if features is not None:
            x = x + self.features_in(rearrange(features.to(x.dtype), "b e t i j -> b t (i j) e"))
        level = self.condition(t, text, labels)  # b f d
        cond = F.silu(level)
        modulation = rearrange(self.modulation(cond), "b f (k d) -> b f k d", k=6)
        # Long wavelengths are told apart by small differences, which half precision would lose.
        precision = torch.promote_types(x.dtype, torch.float32) if c.rope_theta else x.dtype
        rotary = rotary_table(grid, c.head_dim // 2, c.rope_theta, x.device, precision)
        if c.added_positions:
            place = torch.cat(rotary, dim=-1).to(x.dtype)  # (t*h*w) head_dim
            x = x + rearrange(self.position_in(place), "(t s) d -> t s d", t=frames)
        known = yield "patches", rearrange(x, "b t (h w) d -> b t h w d", h=h)
        carried = None  # the text, where blocks change it
        for i, (block, words) in enumerate(zip(self.blocks, self.text_of_blocks(text), strict=True)):
            if known is not None:
                break
            if self.joint:
                x, carried = block(x, modulation, carried or words, rotary)
            else:
                x = block(x, modulation, words, rotary, grid)
            known = yield f"blocks.{i}", rearrange(x, "b t (h w) d -> b t h w d", h=h)
        if known is not None:
            x = rearrange(known, "b t h w d -> b t (h w) d")
        if c.final_table:
            shift, scale = (level[:, :, None] + self.table_out)[:, :, :, None].unbind(2)
        else:
            shift, scale = self.modulation_out(cond)[:, :, None].chunk(2, dim=-1)
        x = self.patch_out(modulate(self.norm_out, x, shift, scale))
        yield "out", rearrange(x, "b t (h w) (c p q) -> b c t (h p) (w q)", h=h, p=p, q=q)

    def check_conditions(
        self,
        text: TextEncoding | PreparedText | None,
        features: Tensor | None,
        labels: LabelConditioning | None,
        grid: Grid,
    ) -> None:
        """Raises ValueError unless text, features of `grid` and labels are given exactly where the config has them."""
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
        if (given := labels.given() if labels else set()) != set(c.labels):
            raise ValueError(f"this model takes the labels {sorted(c.labels)}; it was given {sorted(given)}")

    def condition(
        self, t: Float[Tensor, b * f], text: TextEncoding | PreparedText | None, labels: LabelConditioning | None
    ) -> Float[Tensor, "b f d"]:
        """The embedded noise level plus what is known of the whole clip, one row a frame where levels are per frame."""
        angles = sinusoidal(t if t.ndim == 2 else t[:, None], 256)
        level = settle(self.level(angles.to(self.level[0].weight.dtype)), self.patch_in.weight)
        if text is not None and self.config.pooled_text:
            level = level + (text.pooled if isinstance(text, PreparedText) else self.pool(text))[:, None]
        return level if labels is None else level + self.labels_in(labels)[:, None]

    def pool(self, text: TextEncoding) -> Float[Tensor, "b d"]:
        return self.pooled_text(text.pooled().to(self.patch_in.weight.dtype))

    def text_of_blocks(self, text: TextEncoding | PreparedText | None) -> tuple[TextTokens | TextHeads | None, ...]:
        """What each block reads of the text; the first of them, where blocks hand on what they make of it."""
        if isinstance(text, PreparedText):
            return text.blocks
        if text is not None:
            filled = self.config.text_length
            text = self.embed_text(fill(text, filled) if filled else TextTokens(text.tokens, text.mask))
        return (text,) * len(self.blocks)

    def embed_text(self, text: TextTokens) -> TextTokens:
        """Tokens in the width and the precision that blocks read."""
        tokens = text.tokens.to(self.patch_in.weight.dtype)
        return TextTokens(self.text_in(tokens) if self.joint or self.config.text_mlp else tokens, text.mask)

    def prepare_text(self, text: TextEncoding) -> PreparedText:
        """All of the text that no noise level changes: forward takes it in place of the text, for any number of steps.

        It takes as much memory as the keys and values of every block, which is what it holds for cross-attention.
        """
        pooled = self.pool(text) if self.config.pooled_text else None
        if self.config.text_length:
            tokens = fill_once(text, self.config.text_length)
        else:
            tokens = TextTokens(text.tokens, None if text.mask.all() else text.mask)
        return PreparedText(blocks=self.read_text(tokens), pooled=pooled)

    def read_text(self, text: TextTokens) -> tuple[TextHeads | TextTokens, ...]:
        """Keys and values of every block; where text is joint, and changes with the patches, its embedded tokens."""
        text = self.embed_text(text)
        if self.joint:
            return (text,) * len(self.blocks)
        return tuple(TextHeads(*block.cross.keys_values(text.tokens), text.mask) for block in self.blocks)

    def set_attention(self, name: str) -> None:
        """Chooses the attention of every layer by a name of `ATTENTION`: "auto", "plain", "sdpa", "flash", ..."""
        find_attention(name)
        for layer in self.modules():
            if isinstance(layer, Attention):
                layer.backend = name

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """See `block_feature_info`."""
        return block_feature_info(self.config)
