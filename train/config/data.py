"""What training data is: the clips of a recipe, and the sources that they come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from vidgen.bounds import FPS, Choice, Count, Fps, Frames, Length, NoOrCount, Positive, Range, Seed, Side, Weight
from vidgen.data.shapes import WORDS
from vidgen.data.shapes.labels import ShapeSide
from vidgen.errors import VidgenError


@dataclass
class SourceConfig:
    """Where clips come from: `kind` "shapes" (the synthetic world), "walks" (one object at random, with its actions),
    "imitations" (an object's motion, and then another object that does the same) or "clips" (files under `path`, see
    the data docs; a source without a path is left out, if there are others).

    `share` is this source's part of every batch. `include` names files to take (empty: all). Clips from files
    are held in memory at `short_side` pixels, at most `max_frames` each. `world_size` (height, width) renders shapes
    larger than the samples, which are then crops that hold an object: more of the object for the same work.
    `weights` draws colours, shapes, sizes and motions that are hard to learn more often: {star: 2} makes a clip of a
    star twice as likely as else; of several words the weights multiply (`circle` counts for the shape and the motion,
    `motion circle` for the motion alone). Validation keeps the world's own frequencies. Every `hold_out`-th file is
    kept for validation (0: none, and validation draws other windows of the same files), unless the data names splits.
    `scenes` above 1 makes a clip a story of one object, which does so many things one after the other: its caption says
    the last of them, before which the earlier ones are the context.
    `num_frames` is this source's own clip length, 1 for images (0: that of the data); every batch is of one length, by
    the shares, and validation of the longest. Frames of files are picked by their time, `fps` a second (None: the
    data's), or with `fps` 0 by number, whatever their rate; windows take every k-th of them, k at random up to
    `max_stride` (0: 1, and by number 4). Damaged files are left out and named, unless `allow_damaged` takes what there
    is of them.
    """

    kind: Annotated[str, Choice(("shapes", "walks", "imitations", "clips"))] = "shapes"
    share: Weight = 1.0
    path: str = ""
    include: list[str] = field(default_factory=list)
    short_side: Side = 128
    max_frames: Frames = 150
    max_objects: Annotated[int, Range(1, 2)] = 1
    scenes: Count = 1
    world_size: Annotated[list[ShapeSide], Length(0, 2)] = field(default_factory=list)
    weights: dict[str, Positive] = field(default_factory=dict)
    hold_out: NoOrCount = 6
    seed: Seed = 0
    num_frames: Annotated[int, Range(0, 10**7)] = 0
    fps: Annotated[float, Range(0.0, FPS.high)] | None = None
    max_stride: NoOrCount = 0
    allow_damaged: bool = False

    def rate(self, fps: float) -> float | None:
        """Return the rate at which frames of files are picked, `fps` being the data's; None: by number."""
        return (fps if self.fps is None else self.fps) or None

    def check(self, path: Path) -> None:
        """Raise VidgenError for a source that gives no clips."""
        names = {name for kind, words in WORDS.items() for word in words for name in (word, f"{kind} {word}")}
        for word, weight in self.weights.items():
            if word not in names:
                raise VidgenError(
                    f"{path}: weights.{word}={weight}: a number above 0 for one of the words {', '.join(sorted(names))}"
                )
        if self.scenes > 1 and (self.kind != "shapes" or self.max_objects > 1):
            raise VidgenError(f"{path}: scenes={self.scenes} is for kind=shapes with max_objects=1")
        if self.kind in ("walks", "imitations") and (self.max_objects > 1 or self.world_size):
            raise VidgenError(
                f"{path}: kind={self.kind} is of one object in the whole frame: leave max_objects, world_size out"
            )
        if len(self.world_size) == 1:
            raise VidgenError(f"{path}: world_size={self.world_size}: give height and width, or nothing")
        if self.hold_out == 1:
            raise VidgenError(
                f"{path}: hold_out={self.hold_out} leaves no file to train on; give 2 for every second, or 0 for none"
            )


@dataclass
class DataConfig:
    """Clips of `num_frames` frames of `size` (height, width), `fps` a second: frames of files are picked so, by their
    time, and a generated clip plays so."""

    sources: Annotated[list[SourceConfig], Length(1, 1000)] = field(default_factory=lambda: [SourceConfig()])
    num_frames: Frames = 17
    size: tuple[Side, Side] = (64, 64)
    fps: Fps = 8.0
    workers: Annotated[int, Range(0, 1024)] = 0
    validation_clips: Count = 64

    def lengths(self) -> list[int]:
        """Return the lengths of clips that sources have, rising."""
        return sorted({source.num_frames or self.num_frames for source in self.sources if source.share > 0})

    def is_only(self, kind: str) -> bool:
        """Return whether all sources that have a share are of this kind."""
        return all(source.kind == kind for source in self.sources if source.share > 0)

    def scenes(self) -> int:
        """Return the most scenes that a source has."""
        return max(source.scenes for source in self.sources if source.share > 0)

    def check(self, path: Path) -> None:
        """Raise VidgenError for data without clips."""
        if sum(source.share for source in self.sources) <= 0:
            raise VidgenError(f"{path}: data.sources needs at least one source with a share above 0")
        scenes: dict[int, int] = {}  # by length
        for source in self.sources:
            source.check(path)
            frames = source.num_frames or self.num_frames
            if (frames - 1) % source.scenes:
                near = 1 + (frames - 1) // source.scenes * source.scenes
                raise VidgenError(
                    f"{path}: {source.scenes} scenes do not share {frames} frames equally: give num_frames={near}"
                )
            if scenes.setdefault(frames, source.scenes) != source.scenes:
                raise VidgenError(
                    f"{path}: clips of {frames} frames have {scenes[frames]} and {source.scenes} scenes; a batch is of "
                    "one kind, so give one of them another num_frames"
                )
