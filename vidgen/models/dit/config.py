"""The shape of a VideoDiT and of its blocks, and what in it does not go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from vidgen.bounds import Choice, Depth, Expansion, NoOrCount, NoOrWidth, Range, Width, check_fields
from vidgen.checkpoints.config_fields import ConfigMapping
from vidgen.errors import VidgenError

ATTENTION = ("full", "factorised", "divided", "swapped")
TEXT_ATTENTION = ("cross", "joint")


def check_heads(width: int, head_dim: int) -> None:
    """Raise VidgenError unless heads fill the width, and rotary positions a head."""
    if width % head_dim or head_dim % 8:
        raise VidgenError(f"width {width} must be a multiple of head_dim {head_dim}, and that of 8")


def check_chunks(chunks: tuple[int, int]) -> None:
    """Raise VidgenError unless both sizes of causal chunks are there, or neither."""
    if (chunks[0] > 0) != (chunks[1] > 0):
        raise VidgenError(f"causal_chunks {chunks}: give the frames of the first chunk and of the others, or (0, 0)")


@dataclass(frozen=True, kw_only=True)
class BlockConfig:
    """Shape of a transformer's block; the feed-forward's hidden width is `mlp_ratio` times `width`.

    `text_width` is the width of the text tokens that cross-attention reads, 0 for none. `qk_norm` normalizes queries
    and keys: "layer_norm" of each head, or "rms_norm_across_heads". `norm_eps` is what norms add to a variance. With
    `fused_qkv` queries, keys and values of self-attention come from one product, and their weights lie as one.
    """

    width: Width
    head_dim: Width
    mlp_ratio: Expansion = 4
    text_width: NoOrWidth = 0
    qk_norm: str = "layer_norm"
    norm_eps: Annotated[float, Range(0.0, 1.0)] = 1e-5
    fused_qkv: bool = False


@dataclass(frozen=True, kw_only=True)
class VideoDiTConfig(ConfigMapping):
    """Shape of a VideoDiT; `patch` is (t, h, w) in latent cells, the feed-forward's width `mlp_ratio` times `width`.

    Conditions, 0 or false for none: `text_width` is the width of text tokens, `feature_channels` that of one vector a
    patch; `classes`, `tasks`, `frame_rate` and `frame_size` are labels of a clip, see `LabelConditioning`. `task_names`
    are what the tasks are called, of models that were trained for several.

    attention: "full"; "factorised" over frames and over time alternately, block by block; "divided" over time and then
    over frames in every block; "swapped" within windows between the two, see `SwappedAttention`.
    window: cells (t, h, w) of windows of full and swapped attention, 0 being the whole axis.
    text_attention: "cross", or "joint" with the patches, where text tokens have weights of their own (MM-DiT).
    causal_chunks: latent frames of the first chunk and of each after it, where frames see none of later chunks; (0, 0):
    all frames see each other. See `vidgen.models.causal_attention`.
    side_channels: numbers a latent frame of a second stream that is denoised with the clip, such as actions; 0 for
    none. See `vidgen.models.dit.side_stream`.
    """

    # Settings that were fields once and that only published networks changed: saved configs may name these values.
    retired_fields: ClassVar[Mapping[str, Any]] = {
        "qk_norm": "layer_norm",
        "norm_eps": 1e-5,
        "fused_qkv": False,
        "rope_theta": 0.0,
        "added_positions": True,
        "pooled_text": True,
        "text_mlp": False,
        "text_length": 0,
        "final_table": False,
    }

    latent_channels: Width = 16
    patch: tuple[Width, Width, Width] = (1, 2, 2)
    width: Width = 256
    depth: Depth = 8
    head_dim: Width = 64
    mlp_ratio: Expansion = 4
    text_width: NoOrWidth = 192
    feature_channels: NoOrWidth = 0
    classes: NoOrCount = 0
    tasks: NoOrCount = 0
    task_names: tuple[str, ...] = ()
    frame_rate: bool = False
    frame_size: bool = False
    attention: Annotated[str, Choice(ATTENTION)] = "full"
    window: tuple[NoOrWidth, NoOrWidth, NoOrWidth] = (0, 0, 0)
    text_attention: Annotated[str, Choice(TEXT_ATTENTION)] = "cross"
    causal_chunks: tuple[NoOrCount, NoOrCount] = (0, 0)
    side_channels: NoOrWidth = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.task_names and (self.tasks != len(self.task_names) or len(set(self.task_names)) < self.tasks):
            raise VidgenError(f"task_names {list(self.task_names)} are not the names of {self.tasks} tasks")
        if self.task_names and any(self.causal_chunks):
            raise VidgenError("task_names are for models that see whole clips; one with causal_chunks has no tasks")
        check_heads(self.width, self.head_dim)
        if self.patch[0] != 1:
            raise VidgenError(f"patch {self.patch}: a noise level per latent frame needs patches of one frame")
        if any(self.window) and self.attention not in ("full", "swapped"):
            raise VidgenError(f"window {self.window} is for full and swapped attention, not for {self.attention}")
        if self.text_attention == "joint" and (self.attention != "full" or any(self.window)):
            raise VidgenError("joint text needs full attention without windows: text belongs to no frame and no place")
        if not self.text_width and self.text_attention == "joint":
            raise VidgenError("joint text_attention says how text is read, and text_width 0 is no text")
        check_chunks(self.causal_chunks)
        if any(self.causal_chunks) and (self.attention != "full" or any(self.window) or self.text_attention == "joint"):
            raise VidgenError(f"causal_chunks {self.causal_chunks} needs full attention, no window, and text by cross")
        whole = self.attention == "full" and not any(self.window) and not any(self.causal_chunks)
        if self.side_channels and not (whole and self.text_attention == "cross"):
            raise VidgenError(f"side_channels {self.side_channels} needs full attention, no chunks, and text by cross")

    @property
    def block(self) -> BlockConfig:
        """The shape of every block."""
        return BlockConfig(
            width=self.width, head_dim=self.head_dim, mlp_ratio=self.mlp_ratio, text_width=self.text_width
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels that the model takes."""
        labels = {"class_id": self.classes, "task_id": self.tasks}
        labels |= {"frame_rate": self.frame_rate, "frame_size": self.frame_size}
        return tuple(name for name, value in labels.items() if value)
