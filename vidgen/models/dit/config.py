"""The shape of a VideoDiT, and what in it does not go together."""

from __future__ import annotations

from dataclasses import dataclass

from vidgen.errors import VidgenError

# What a field of names may be.
CHOICES = {
    "attention": ("full", "factorised", "divided", "swapped"),
    "text_attention": ("cross", "joint"),
    "qk_norm": ("layer_norm", "rms_norm_across_heads"),
}


@dataclass(frozen=True, kw_only=True)
class VideoDiTConfig:
    """Shape of a VideoDiT; `patch` is (t, h, w) in latent cells, the feed-forward's width `mlp_ratio` times `width`.

    Conditions, 0 or false for none: `text_width` is the width of text tokens, `feature_channels` that of one vector a
    patch; `classes`, `tasks`, `frame_rate` and `frame_size` are labels of a clip, see `ClipLabels`.

    attention: "full"; "factorised" over frames and over time in turns, block by block; "divided" over time and then
    over frames in every block; "swapped" within windows between the two, see `SwappedAttention`.
    window: cells (t, h, w) of windows of full and swapped attention, 0 being the whole axis.
    text_attention: "cross", or "joint" with the patches, where text tokens have weights of their own (MM-DiT).

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
    classes: int = 0
    tasks: int = 0
    frame_rate: bool = False
    frame_size: bool = False
    attention: str = "full"
    window: tuple[int, int, int] = (0, 0, 0)
    text_attention: str = "cross"
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
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise VidgenError(f"{name} {getattr(self, name)!r} is unknown; choose one of {', '.join(known)}")
        if len(self.window) != 3 or min(self.window) < 0:
            raise VidgenError(f"window {self.window} is not three sizes (t, h, w) in patches, 0 for a whole axis")
        if any(self.window) and self.attention not in ("full", "swapped"):
            raise VidgenError(f"window {self.window} is for full and swapped attention, not for {self.attention}")
        if self.text_attention == "joint" and (self.attention != "full" or any(self.window)):
            raise VidgenError("joint text needs full attention without windows: text belongs to no frame and no place")
        if self.rope_theta and self.rope_theta <= 1.0:
            raise VidgenError(f"rope_theta {self.rope_theta} is not above 1; 10000 is usual, 0 is our own wavelengths")
        if not self.text_width and (self.text_mlp or self.text_length or self.text_attention == "joint"):
            raise VidgenError(
                "text_mlp, text_length and joint text_attention say how text is read, and text_width 0 is no text"
            )
        if min(self.text_length, self.classes, self.tasks) < 0:
            raise VidgenError(
                f"text_length {self.text_length}, classes {self.classes}, tasks {self.tasks}: 0 or more, 0 for none"
            )

    @property
    def mlp_width(self) -> int:
        """Width between the two layers of a feed-forward."""
        return round(self.mlp_ratio * self.width)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels that the model takes."""
        has = {"class_id": self.classes, "task_id": self.tasks}
        has |= {"frame_rate": self.frame_rate, "frame_size": self.frame_size}
        return tuple(name for name, value in has.items() if value)
