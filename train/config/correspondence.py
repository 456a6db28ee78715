"""What terms of task ssl are told that find what belongs together: over time, in another stream, among segments, at
several layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from vidgen.bounds import Choice, Count, NoOrCount, Positive, Range, check_fields
from vidgen.errors import VidgenError
from vidgen.train.config.self_supervised import JointTermConfig
from vidgen.train.views.segment_pretexts import SEGMENT_PRETEXTS


@dataclass(frozen=True, kw_only=True)
class CycleTermConfig:
    """From a segment of `frames` frames (0: a patch), encoded alone, to the nearest of a batch's clips and back.

    `view` are fields of `ViewConfig`, `projector` of `ProjectorConfig`, one of segments and one of clips.
    """

    weight: Positive = 1.0
    temperature: Positive = 0.1
    frames: NoOrCount = 0
    view: dict[str, Any] = field(default_factory=dict)
    projector: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class WalkTermConfig:
    """A random walk over nodes, squares of `node` patches a side at half that distance, each encoded alone, goes
    forward in time and back. `dropout` is the share of edges that is left out; `projector` are fields of
    `ProjectorConfig`."""

    weight: Positive = 1.0
    temperature: Positive = 0.07
    dropout: Annotated[float, Range(0.0, 0.99)] = 0.1
    node: Count = 2
    projector: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class CoTrainingTermConfig:
    """Pixels and differences of frames, each with an encoder, are positives of each other's neighbours: the `positives`
    nearest of the last `queue` clips in one stream, after `mine_after` steps without.

    `views` are fields of `ViewConfig`, two of them; `projector` of `ProjectorConfig`, `teacher` of `TeacherConfig`.
    """

    weight: Positive = 1.0
    temperature: Positive = 0.1
    queue: Count = 1024
    positives: Count = 5
    mine_after: NoOrCount = 300
    views: tuple[dict[str, Any], ...] = ({}, {})
    projector: dict[str, Any] = field(default_factory=dict)
    teacher: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        if len(self.views) != 2:
            raise VidgenError(f"{len(self.views)} views: co-training compares two; give views, two of them")
        if self.positives > self.queue:
            raise VidgenError(f"positives={self.positives} are more than the queue={self.queue} has")


@dataclass(frozen=True, kw_only=True)
class HierarchicalTermConfig(JointTermConfig):
    """Embeddings of views agree at each of some `layers` of the encoder, as "blocks.2", by a joint term's other keys,
    but for a teacher."""

    layers: tuple[str, ...] = ("blocks.3", "blocks.5")  # the middle and the end of the default shape

    def __post_init__(self) -> None:
        if self.teacher or self.agreement == "dino":
            raise VidgenError("layers have no teacher, which dino needs: leave it out, with another agreement")
        super().__post_init__()
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise VidgenError(f"layers={list(self.layers)}: give one or more, as [blocks.2, blocks.5], each once")


@dataclass(frozen=True, kw_only=True)
class SegmentsTermConfig:
    """Segments of a clip are encoded one by one, and `pretext`, of vidgen.train.views.segment_pretexts, is told of
    them together."""

    weight: Positive = 1.0
    pretext: Annotated[str, Choice(tuple(SEGMENT_PRETEXTS))] = "odd_one_out"

    def __post_init__(self) -> None:
        check_fields(self)
