"""VideoDiT: a transformer over space-time patches of latents, with a noise level per frame; text, labels of a clip, and
features patch by patch."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.models.attention_patterns import Grid
from vidgen.models.causal_attention import Chunks, FrameLayout
from vidgen.models.dit.blocks import Block, text_heads
from vidgen.models.dit.config import VideoDiTConfig
from vidgen.models.dit.label_embedding import LabelConditioning, LabelEmbedding
from vidgen.models.dit.mmdit_block import MMDiTBlock
from vidgen.models.dit.side_stream import SideLayers, SideStream, SideTokens, run_beside
from vidgen.models.dit.transformer import (
    DiffusionTransformer,
    FeatureIterator,
    last_features,
    make_level_embedding,
    start_as_zero,
)
from vidgen.models.text.encoders import TextEncoding
from vidgen.models.text.prepared import PreparedText, TextHeads, TextTokens


def make_block(config: VideoDiTConfig, index: int) -> Block | MMDiTBlock:
    """Return the block of a VideoDiT at place `index`."""
    if config.text_attention == "joint":
        return MMDiTBlock(config.block, last=index + 1 == config.depth)
    return Block(config.block, config.attention, config.window, odd=index % 2 == 1)


class VideoDiT(DiffusionTransformer):
    """Diffusion transformer over clips of latents (Peebles & Xie 2023), with 3-D rotary positions.

    The sines and cosines of the positions are also added to the patches: out of pure noise, rotary differences alone
    do not tell a patch at the border from one in the middle. The mean of the text tokens is added to the noise level.

    `forward(x, t, text, features, labels)` maps noisy latents (b, c, t, h, w) at noise levels (b,) or (b, t) to a
    prediction of the same shape; what it predicts is the checkpoint's prediction_type, not the network's business. Text
    that serves many steps is best given as `prepare_text` makes it. Features (b, e, t, i, j), one vector a patch, are
    projected and added to the patches: what projecting both, concatenated, would give.
    """

    config_class = VideoDiTConfig

    def __init__(self, config: VideoDiTConfig) -> None:
        super().__init__(config)
        _, p, q = config.patch
        width = config.width
        cells = config.latent_channels * p * q
        self.joint = config.text_attention == "joint"
        self.patch_in = nn.Linear(cells, width)
        self.position_in = nn.Linear(config.head_dim, width)
        self.level = make_level_embedding(width)
        if config.text_width:
            self.pooled_text = nn.Linear(config.text_width, width)
        if self.joint:
            self.text_in = nn.Linear(config.text_width, width)
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList([make_block(config, i) for i in range(config.depth)])
        self.norm_out = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation_out = nn.Linear(width, 2 * width)
        self.patch_out = nn.Linear(width, cells)
        if config.feature_channels:
            self.features_in = nn.Linear(config.feature_channels, width)
        if config.labels:
            self.labels_in = LabelEmbedding(config)
        if config.side_channels:
            self.side = SideLayers(config.side_channels, width)
        # Every block starts as the identity and the output as zero (adaLN-Zero).
        ungated = [layer for block in self.blocks for layer in block.ungated]
        start_as_zero([self.modulation, self.modulation_out, self.patch_out, *ungated])

    def forward(
        self,
        x: Float[Tensor, "b c t h w"],
        t: Float[Tensor, b * f],
        text: TextEncoding | PreparedText | None = None,
        features: Float[Tensor, "b e t i j"] | None = None,
        labels: LabelConditioning | None = None,
        layout: FrameLayout | None = None,
    ) -> Float[Tensor, "b c t h w"]:
        """Return the prediction, of clips without a side stream. Raises as `iter_features`."""
        return last_features(self.iter_features(x, t, text, features, labels, layout))

    def iter_features(
        self,
        x: Float[Tensor, "b c t h w"],
        t: Float[Tensor, b * f],
        text: TextEncoding | PreparedText | None = None,
        features: Float[Tensor, "b e t i j"] | None = None,
        labels: LabelConditioning | None = None,
        layout: FrameLayout | None = None,
        side: SideStream | None = None,
    ) -> FeatureIterator:
        """Yield "patches", the embedded patches, every block's output (b, t, h, w, d) by its layer's name, lazily, and
        last "out", the prediction; before it, with a `side` stream, "side", that of the stream (b, t, a).

        What is sent in answer to one of them stands for the last block's output, and the blocks between are left out:
        not with a side stream. `layout` says which frames see which, where it is not the config's `causal_chunks` that
        do. Raises VidgenError for latents that do not cut into patches, and ValueError for a condition that the model
        does not take or that it lacks.
        """
        grid = self.grid_of(x)
        self.check_conditions(text, features, labels, grid, side)
        x = self.embed_patches(x)  # b t s d
        if features is not None:
            x = x + self.features_in(rearrange(features.to(x.dtype), "b e t i j -> b t (i j) e"))
        cond = F.silu(self.condition(self.embed_level(t), text, labels))  # b f d
        modulation = rearrange(self.modulation(cond), "b f (k d) -> b f k d", k=6)
        layout = self.layout_of(grid, layout)
        rotary = self.rotary_of(grid, layout, 0.0, x)
        positions = rearrange(self.position_in(torch.cat(rotary, dim=-1)), "(t s) d -> t s d", s=x.shape[2])
        x = x + (positions if layout is None else positions[layout.positions])
        words = list(self.text_of_blocks(text))
        beside: SideTokens | None = None
        if side is not None:
            side_cond = F.silu(self.condition(self.side.embed_level(side.t), text, labels))
            beside = self.side.embed(side, self.modulation(side_cond), rotary, positions)

        def run(i: int, x: Tensor) -> Tensor:
            nonlocal beside
            if beside is not None:
                x, row = run_beside(self.blocks[i], x, modulation, words[i], beside)
                beside = replace(beside, x=row)
                return x
            if not self.joint:
                causal = None if layout is None else layout.pattern(i, grid, rotary)
                return self.blocks[i](x, modulation, words[i], rotary, grid, causal)
            x, words[0] = self.blocks[i](x, modulation, words[0], rotary)  # these blocks change the text
            return x

        x = yield from self.iter_blocks(run, x, grid)
        if beside is not None:
            shift, scale = self.modulation_out(side_cond)[:, :, None].chunk(2, dim=-1)
            yield "side", self.side.predict(beside, self.norm_out, shift, scale)
        shift, scale = self.modulation_out(cond)[:, :, None].chunk(2, dim=-1)
        yield "out", self.predict(x, shift, scale, grid[1])

    def with_chunks(self, chunks: Chunks) -> VideoDiT:
        """Return a copy of this model that is causal by `chunks` of latent frames, with the same weights."""
        causal = VideoDiT(replace(self.config, causal_chunks=chunks)).to(self.patch_in.weight)
        causal.load_state_dict(self.state_dict())
        return causal.train(self.training)

    def check_conditions(
        self,
        text: TextEncoding | PreparedText | None,
        features: Tensor | None,
        labels: LabelConditioning | None,
        grid: Grid,
        side: SideStream | None = None,
    ) -> None:
        """Raise ValueError unless text, features of `grid` and labels are there exactly where the config has them, and
        for a side stream where it has none."""
        c = self.config
        if side is not None and not c.side_channels:
            raise ValueError("this model has side_channels=0; it was given a side stream")
        if (text is not None, features is not None) != (c.text_width > 0, c.feature_channels > 0):
            raise ValueError(
                f"this model has text_width={c.text_width} and feature_channels={c.feature_channels}; it was given "
                f"{'text' if text is not None else 'no text'} and {'' if features is not None else 'no '}features"
            )
        if features is not None and tuple(features.shape[1:]) != (c.feature_channels, *grid):
            raise ValueError(
                f"features {tuple(features.shape)} are not {c.feature_channels} channels on {grid} patches"
            )
        if (names := labels.names() if labels else set()) != set(c.labels):
            raise ValueError(f"this model takes the labels {sorted(c.labels)}; it was given {sorted(names)}")

    def condition(
        self, level: Float[Tensor, "b f d"], text: TextEncoding | PreparedText | None, labels: LabelConditioning | None
    ) -> Float[Tensor, "b f d"]:
        """Return the embedded noise level plus the embeddings of text and labels, one row a frame where levels are per
        frame."""
        if text is not None:
            level = level + (text.pooled if isinstance(text, PreparedText) else self.pool(text))[:, None]
        return level if labels is None else level + self.labels_in(labels)[:, None]

    def pool(self, text: TextEncoding) -> Float[Tensor, "b d"]:
        """Return the text as one vector in the width of the noise level's embedding."""
        return self.pooled_text(text.pooled().to(self.patch_in.weight.dtype))

    def text_of_blocks(self, text: TextEncoding | PreparedText | None) -> tuple[TextTokens | TextHeads | None, ...]:
        """Return what each block reads of the text; the first of them, where blocks hand on what they make of it."""
        if isinstance(text, PreparedText):
            return text.blocks
        tokens = None if text is None else self.embed_text(TextTokens(text.tokens, text.mask))
        return (tokens,) * len(self.blocks)

    def embed_text(self, text: TextTokens) -> TextTokens:
        """Return tokens in the width and the precision that blocks read."""
        tokens = text.tokens.to(self.patch_in.weight.dtype)
        return TextTokens(self.text_in(tokens) if self.joint else tokens, text.mask)

    def prepare_text(self, text: TextEncoding) -> PreparedText:
        """Return all of the text that no noise level changes: forward takes it for the text, for any number of steps.

        It takes as much memory as the keys and values of every block, which is what it holds for cross-attention.
        """
        tokens = TextTokens(text.tokens, None if text.mask.all() else text.mask)
        return PreparedText(blocks=self.read_text(tokens), pooled=self.pool(text))

    def read_text(self, text: TextTokens) -> tuple[TextHeads | TextTokens, ...]:
        """Return keys and values of every block; where text is joint, and changes with the patches, its embedded
        tokens."""
        text = self.embed_text(text)
        return (text,) * len(self.blocks) if self.joint else text_heads(self.blocks, text)
