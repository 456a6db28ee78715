"""Settings of Wan's text-to-video transformers, 2.1 and 2.2, in the words of diffusers' class WanTransformer3DModel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from vidgen.bounds import Count, Depth, NoOrCount, Range, Width, annotations_of, check_fields, check_value
from vidgen.checkpoints.config_fields import ConfigMapping
from vidgen.errors import VidgenError
from vidgen.models.dit.config import BlockConfig, VideoDiTConfig, check_chunks

CLASS_NAME = "WanTransformer3DModel"
TEXT_LENGTH = 512  # tokens that its pipelines fill prompts up to; the config does not say it
ROPE_THETA = 10000.0  # base of the rotary wavelengths, as of `position_angles`
# Settings that all text-to-video models share, and that are not built otherwise here.
FIXED = {
    "patch_size": (1, 2, 2),
    "freq_dim": 256,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "image_dim": None,
    "added_kv_proj_dim": None,
    "pos_embed_seq_len": None,
}
# Earlier versions had this network as a VideoDiT with these settings.
FORMERLY = {
    "qk_norm": "rms_norm_across_heads",
    "rope_theta": ROPE_THETA,
    "added_positions": False,
    "pooled_text": False,
    "text_mlp": True,
    "text_length": TEXT_LENGTH,
    "final_table": True,
    "fused_qkv": True,
}


@dataclass(frozen=True, kw_only=True)
class WanTransformerConfig(ConfigMapping):
    """config.json of a WanTransformer3DModel, with the class's own names and defaults, which are Wan 2.1's 14B.

    `rope_max_seq_len` is not read: positions are made for any length. `causal_chunks`, as of a `VideoDiTConfig`, is not
    one of the class's: causal models made of Wan's have its tensors. The properties are the same in our words.
    """

    patch_size: tuple[Width, Width, Width] = (1, 2, 2)
    num_attention_heads: Width = 40
    attention_head_dim: Width = 128
    in_channels: Width = 16
    out_channels: Width | None = 16
    text_dim: Width = 4096
    freq_dim: Width = 256
    ffn_dim: Annotated[int, Range(1, 2**20)] = 13824
    num_layers: Depth = 40
    cross_attn_norm: bool = True
    qk_norm: str | None = "rms_norm_across_heads"
    eps: Annotated[float, Range(0.0, 1.0, above=True)] = 1e-6
    image_dim: Width | None = None
    added_kv_proj_dim: Width | None = None
    rope_max_seq_len: Count = 1024
    pos_embed_seq_len: Count | None = None
    causal_chunks: tuple[NoOrCount, NoOrCount] = (0, 0)

    def check(self, where: str) -> None:
        """Raise VidgenError, naming `where`, for settings that no text-to-video model has, and that are not built
        here."""
        check_fields(self, f"{where}: ")
        for name, value in FIXED.items():
            if getattr(self, name) != value:
                raise VidgenError(
                    f"{where}: {name}={getattr(self, name)!r} is not supported, only {value!r}; of Wan's transformers "
                    "those that make video from text are read"
                )
        check_chunks(self.causal_chunks)
        if self.attention_head_dim % 8:
            raise VidgenError(
                f"{where}: width {self.width} must be a multiple of head_dim {self.attention_head_dim}, and that of 8"
            )
        if (self.out_channels or self.in_channels) != self.in_channels:
            raise VidgenError(
                f"{where}: in_channels={self.in_channels} with out_channels={self.out_channels} is not supported, only "
                "equal ones: more channels in are an image's"
            )

    def published(self) -> dict[str, Any]:
        """Return the settings as the class has them: without `causal_chunks`, unless frames are causal."""
        settings = dict(self)
        if not any(self.causal_chunks):
            del settings["causal_chunks"]
        return settings

    @property
    def patch(self) -> tuple[int, int, int]:
        """Size (t, h, w) of a patch in latent cells."""
        return tuple(self.patch_size)

    @property
    def width(self) -> int:
        """Channels of a patch between the blocks."""
        return self.num_attention_heads * self.attention_head_dim

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return self.num_layers

    @property
    def latent_channels(self) -> int:
        """Channels of the latents that are predicted."""
        return self.out_channels or self.in_channels

    @property
    def text_width(self) -> int:
        """Channels of the text tokens."""
        return self.text_dim

    @property
    def block(self) -> BlockConfig:
        """The shape of every block; text tokens reach it in its own width."""
        return BlockConfig(
            width=self.width,
            head_dim=self.attention_head_dim,
            mlp_ratio=self.ffn_dim / self.width,
            text_width=self.width,
            qk_norm=self.qk_norm,
            norm_eps=self.eps,
            fused_qkv=True,
        )


# By name, the transformers of the published text-to-video models. 2.2's 14B is two of 2.1's, for high and low noise.
SIZES = {
    "wan2.1_t2v_1.3b": WanTransformerConfig(num_attention_heads=12, ffn_dim=8960, num_layers=30),
    "wan2.1_t2v_14b": WanTransformerConfig(),
    "wan2.2_ti2v_5b": WanTransformerConfig(
        num_attention_heads=24, ffn_dim=14336, num_layers=30, in_channels=48, out_channels=48
    ),
}


def former_settings(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the settings of a network that an earlier version saved as a VideoDiT. Raises VidgenError for another."""
    if any(values.get(name) != value for name, value in FORMERLY.items()):
        raise VidgenError(f"{where} is of a VideoDiT, not of a WanTransformer; load it as the former")
    for name in ("width", "head_dim", "latent_channels", "text_width", "mlp_ratio", "depth"):
        check_value(values.get(name), annotations_of(VideoDiTConfig)[name], name, f"{where}: ")
    return {
        "num_attention_heads": values["width"] // values["head_dim"],
        "attention_head_dim": values["head_dim"],
        "in_channels": values["latent_channels"],
        "out_channels": values["latent_channels"],
        "text_dim": values["text_width"],
        "ffn_dim": round(values["mlp_ratio"] * values["width"]),
        "num_layers": values["depth"],
        "eps": values.get("norm_eps"),
    }
