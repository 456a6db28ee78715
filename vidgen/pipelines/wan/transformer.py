"""Wan's text-to-video transformers, 2.1 and 2.2: a network of our own with the result of diffusers' class
WanTransformer3DModel, read from its checkpoints and written as one.

They predict the velocity of the flow path (`flow_prediction`, from the clean latents to the noise), at levels that
diffusers counts in thousandths. Latents are those of the autoencoder of the same version, normalized.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.checkpoints.checkpoint import find_checkpoint
from vidgen.checkpoints.conversion import NetworkDraft, draft_network, write_checkpoint
from vidgen.checkpoints.empty_weights import init_empty_weights
from vidgen.checkpoints.key_maps import Key
from vidgen.checkpoints.pretrained import CONFIG_NAME, config_from_dict, read_config
from vidgen.errors import VidgenError, explained
from vidgen.models.causal_attention import FrameLayout
from vidgen.models.dit.blocks import Block, text_heads
from vidgen.models.dit.transformer import (
    DiffusionTransformer,
    FeatureIterator,
    last_features,
    make_level_embedding,
    start_as_zero,
)
from vidgen.models.text.encoders import TextEncoding
from vidgen.models.text.prepared import PreparedText, TextHeads, TextTokens, fill, fill_once
from vidgen.pipelines.wan.transformer_config import (
    CLASS_NAME,
    ROPE_THETA,
    TEXT_LENGTH,
    WanTransformerConfig,
    former_settings,
)
from vidgen.pipelines.wan.transformer_keys import match_transformer_keys


class WanTransformer(DiffusionTransformer):
    """A diffusion transformer with the tensors and the result of WanTransformer3DModel (Wan Team 2025, section 4.2).

    Like `VideoDiT` it reads text by cross-attention and has 3-D rotary positions. Text tokens go through two layers
    first; texts are filled up to `TEXT_LENGTH` tokens with zeros, which are visible; the last shift and scale are the
    level's embedding plus a table (PixArt-alpha).
    """

    config_class = WanTransformerConfig
    former_names = ("VideoDiT",)
    published_class = CLASS_NAME

    def __init__(self, config: WanTransformerConfig) -> None:
        super().__init__(config)
        _, p, q = config.patch
        width = config.width
        cells = config.latent_channels * p * q
        self.patch_in = nn.Linear(cells, width)
        self.level = make_level_embedding(width)
        gelu = nn.GELU(approximate="tanh")
        self.text_in = nn.Sequential(nn.Linear(config.text_dim, width), gelu, nn.Linear(width, width))
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList([Block(config.block) for _ in range(config.depth)])
        self.norm_out = nn.LayerNorm(width, eps=config.eps, elementwise_affine=False)
        self.table_out = nn.Parameter(torch.zeros(2, width))
        self.patch_out = nn.Linear(width, cells)
        ungated = [layer for block in self.blocks for layer in block.ungated]
        start_as_zero([self.modulation, self.patch_out, *ungated])

    def forward(
        self,
        x: Float[Tensor, "b c t h w"],
        t: Float[Tensor, b * f],
        text: TextEncoding | PreparedText,
        layout: FrameLayout | None = None,
    ) -> Float[Tensor, "b c t h w"]:
        """Return the prediction for noisy latents at noise levels (b,), or (b, t) of frames."""
        return last_features(self.iter_features(x, t, text, layout))

    def iter_features(
        self,
        x: Float[Tensor, "b c t h w"],
        t: Float[Tensor, b * f],
        text: TextEncoding | PreparedText,
        layout: FrameLayout | None = None,
    ) -> FeatureIterator:
        """Yield the layers, and last the prediction, as `VideoDiT.iter_features`.

        Raises VidgenError for latents that do not cut into patches, and for a text of over `TEXT_LENGTH` tokens.
        """
        grid = self.grid_of(x)
        x = self.embed_patches(x)  # b t s d
        level = self.embed_level(t)  # b f d
        modulation = rearrange(self.modulation(F.silu(level)), "b f (k d) -> b f k d", k=6)
        # Long wavelengths are told apart by small differences, which half precision would lose.
        layout = self.layout_of(grid, layout)
        rotary = self.rotary_of(
            grid, layout, ROPE_THETA, x.new_empty(0, dtype=torch.promote_types(x.dtype, torch.float32))
        )
        words = self.text_of_blocks(text)

        def run(i: int, x: Tensor) -> Tensor:
            causal = None if layout is None else layout.pattern(i, grid, rotary)
            return self.blocks[i](x, modulation, words[i], rotary, grid, causal)

        x = yield from self.iter_blocks(run, x, grid)
        shift, scale = (level[:, :, None] + self.table_out)[:, :, :, None].unbind(2)
        yield "out", self.predict(x, shift, scale, grid[1])

    def text_of_blocks(self, text: TextEncoding | PreparedText) -> tuple[TextTokens | TextHeads, ...]:
        """Return what each block reads of the text."""
        if isinstance(text, PreparedText):
            return text.blocks
        return (self.embed_text(fill(text, TEXT_LENGTH)),) * len(self.blocks)

    def embed_text(self, text: TextTokens) -> TextTokens:
        """Return tokens in the width and the precision that blocks read."""
        return TextTokens(self.text_in(text.tokens.to(self.patch_in.weight.dtype)), text.mask)

    def prepare_text(self, text: TextEncoding) -> PreparedText:
        """Return keys and values of every block: forward takes them for the text, for any number of steps.

        Raises VidgenError for a text of over `TEXT_LENGTH` tokens.
        """
        tokens = self.embed_text(fill_once(text, TEXT_LENGTH))
        return PreparedText(blocks=text_heads(self.blocks, tokens), pooled=None)

    def published_keys(self) -> list[Key]:
        """Return the tensors of a WanTransformer3DModel, each with its place in this network."""
        return match_transformer_keys(self)

    @classmethod
    def parse_config(cls, values: Mapping[str, Any], where: str) -> WanTransformerConfig:
        """Return the config of a saved model. Raises VidgenError for settings that are not this network's.

        Earlier versions saved it as a VideoDiT with the settings of `FORMERLY`.
        """
        if values.get("_class_name") == "VideoDiT":
            values = former_settings(values, where)
        config = super().parse_config(values, where)
        config.check(where)
        return config


def is_native(values: Mapping[str, Any]) -> bool:
    """Return whether a config is of a text-to-video transformer that is read into a WanTransformer."""
    try:
        config_from_dict(WanTransformerConfig, values, CONFIG_NAME).check(CONFIG_NAME)
    except VidgenError:
        return False
    return values.get("_class_name") in (None, CLASS_NAME)


def draft_wan_transformer(folder: Path) -> NetworkDraft:
    """Return the network of a WanTransformer3DModel in a folder or a single file, before its weights are read.

    Raises VidgenError if a setting is not supported or a tensor is missing, unexpected or of another shape.
    """
    values = read_config(folder)
    if values.get("_class_name") not in (None, CLASS_NAME):
        raise VidgenError(f"{folder} holds a {values['_class_name']}, not a {CLASS_NAME}")
    config = config_from_dict(WanTransformerConfig, values, str(folder))
    config.check(str(folder))
    checkpoint = find_checkpoint(folder)
    with explained(str(folder)), init_empty_weights(len(checkpoint.homes)):
        network = WanTransformer(config)
    return draft_network(network, checkpoint, match_transformer_keys(network))


def read_wan_transformer(
    folder: str | os.PathLike, *, dtype: torch.dtype | None = None, device: str = "cpu"
) -> WanTransformer:
    """Return the network of a WanTransformer3DModel in a folder or a single file, in evaluation mode without gradients.

    In half precision the noise level's embedding and the tables of modulations stay in float32, as diffusers keeps
    them. Raises VidgenError, before a tensor is read, as `draft_wan_transformer`, and if memory is short.
    """
    draft = draft_wan_transformer(Path(folder))
    draft.checkpoint.check_memory(dtype, device)
    return draft.fill(dtype=dtype, device=device)


def write_wan_transformer(
    model: WanTransformer, folder: str | os.PathLike, *, dtype: torch.dtype | None = None
) -> None:
    """Write the network as a WanTransformer3DModel that diffusers reads, in `dtype` if given, all or nothing.

    Raises VidgenError for any other network.
    """
    if not isinstance(model, WanTransformer):
        raise VidgenError(f"a {type(model).__name__} cannot be written as {CLASS_NAME}, only a WanTransformer")
    config = model.config.published()
    write_checkpoint(model, match_transformer_keys(model), folder, class_name=CLASS_NAME, config=config, dtype=dtype)
