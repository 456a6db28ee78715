"""The shape of a VideoDiT, and what in it does not go together."""

from __future__ import annotations

from dataclasses import dataclass

from vidgen.errors import VidgenError

QK_NORMS = ("layer_norm", "rms_norm_across_heads")


@dataclass(frozen=True, kw_only=True)
class VideoDiTConfig:
    """Shape of a VideoDiT; `patch` is (t, h, w) in latent cells, the feed-forward's width `mlp_ratio` times `width`.

    Conditions, 0 for none: `text_width` is the width of text tokens, `feature_channels` that of one vector a patch.

    Where published networks differ:
    qk_norm: of queries and keys, "layer_norm" of each head, or "rms_norm_across_heads".
    norm_eps: what norms in blocks add to a variance.
    fused_qkv: queries, keys and values of self-attention come from one product; the weights lie as one.
    rope_theta: base of the rotary wavelengths, as of `position_angles`; 0 is wavelengths of 4 to 256 cells.
    added_positions: sines and cosines of the positions are also added to the patches.
    pooled_text: the mean of the text tokens is added to the noise level's embedding.
    text_mlp: text tokens go through two layers to `width` before attention reads them (PixArt-alpha).
    text_length: texts are filled up with zeros to so many tokens, and the zeros are seen; 0 hides what is filled.
    final_table: the last shift and scale are the level's embedding plus a table (PixArt-alpha), not a layer of it.
    """

    latent_channels: int = 16
    patch: tuple[int, int, int] = (1, 2, 2)
    width: int = 256
    depth: int = 8
    head_dim: int = 64
    mlp_ratio: float = 4
    text_width: int = 192
    feature_channels: int = 0
    qk_norm: str = "layer_norm"
    norm_eps: float = 1e-5
    fused_qkv: bool = False
    rope_theta: float = 0.0
    added_positions: bool = True
    pooled_text: bool = True
    text_mlp: bool = False
    text_length: int = 0
    final_table: bool = False

    def __post_init__(self) -> None:
        if self.width % self.head_dim or self.head_dim % 8:
            raise VidgenError(f"width {self.width} must be a multiple of head_dim {self.head_dim}, and that of 8")
        if self.patch[0] != 1:
            raise VidgenError(f"patch {self.patch}: a noise level per latent frame needs patches of one frame")
        if self.qk_norm not in QK_NORMS:
            raise VidgenError(f"qk_norm {self.qk_norm!r} is unknown; choose one of {', '.join(QK_NORMS)}")
        if self.rope_theta and self.rope_theta <= 1.0:
            raise VidgenError(f"rope_theta {self.rope_theta} is not above 1; 10000 is usual, 0 is our own wavelengths")
        if (self.text_mlp or self.text_length) and not self.text_width:
            raise VidgenError("text_mlp and text_length say how text is read, and text_width 0 is a model without text")
        if self.text_length < 0:
            raise VidgenError(f"text_length {self.text_length} is below 0; 0 hides what texts are filled up with")

    @property
    def mlp_width(self) -> int:
        """Width between the two layers of a feed-forward."""
        return round(self.mlp_ratio * self.width)
