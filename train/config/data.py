"""What training data is: the clips of a recipe, and the sources that they come from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from vidgen.data.shapes import WORDS
from vidgen.errors import VidgenError


@dataclass
class SourceConfig:
    """Where clips come from: `kind` "shapes" (the synthetic world) or "clips" (files under `path`, see the data docs).

    `share` is this source's part of every batch. `include` names files to take (empty: all). Clips from files
    are held in memory at `short_side` pixels, at most `max_frames` each. `world_size` (height, width) renders shapes
    larger than the samples, which are then crops that hold an object: more of the object for the same work.
    `weights` draws colours, shapes, sizes and motions that are hard to learn more often: {star: 2} makes a clip of a
    star twice as likely as else; of several words the weights multiply (`circle` counts for the shape and the motion,
    `motion circle` for the motion alone). Validation keeps the world's own frequencies. Every `hold_out`-th file is
    kept for validation (0: none, and validation draws other windows of the same files), unless the data names splits.
    `num_frames` is this source's own clip length, 1 for images (0: that of the data); every batch is of one length, by
    the shares, and validation of the longest. Frames of files are picked by their time, `fps` a second (None: the
    data's), or with `fps` 0 by number, whatever their rate; windows take every k-th of them, k at random up to
    `max_stride` (0: 1, and by number 4). Damaged files are left out and named, unless `allow_damaged` takes what there
    is of them.
    """

    kind: str = "shapes"
    share: float = 1.0
    path: str = ""
    include: list[str] = field(default_factory=list)
    short_side: int = 128
    max_frames: int = 150
    max_objects: int = 1
    world_size: list[int] = field(default_factory=list)
    weights: dict[str, float] = field(default_factory=dict)
    hold_out: int = 6
    seed: int = 0
    num_frames: int = 0
    fps: float | None = None
    max_stride: int = 0
    allow_damaged: bool = False

    def rate(self, fps: float) -> float | None:
        """Return the rate at which frames of files are picked, `fps` being the data's; None: by number."""
        return (fps if self.fps is None else self.fps) or None

    def check(self, path: Path) -> None:
        """Raise VidgenError for a source that gives no clips."""
        if self.kind not in ("shapes", "clips"):
            raise VidgenError(f"{path}: source kind {self.kind!r}: choose 'shapes' or 'clips'")
        if self.kind == "clips" and not self.path:
            raise VidgenError(f"{path}: a source of kind 'clips' needs path=FOLDER, e.g. data.sources.0.path=my_clips")
        names = {name for kind, words in WORDS.items() for word in words for name in (word, f"{kind} {word}")}
        for word, weight in self.weights.items():
            if word not in names or not weight > 0:
                raise VidgenError(
                    f"{path}: weights.{word}={weight}: a number above 0 for one of the words {', '.join(sorted(names))}"
                )
        if self.num_frames < 0 or self.max_stride < 0:
            raise VidgenError(
                f"{path}: a source needs num_frames >= 0 and max_stride >= 0, got {self.num_frames} and "
                f"{self.max_stride}"
            )
        if self.fps is not None and not 0 <= self.fps < math.inf:
            raise VidgenError(
                f"{path}: a source has fps={self.fps}: a rate, 0 for frames by number, or null for data.fps"
            )
        if self.hold_out < 0 or self.hold_out == 1:
            raise VidgenError(
                f"{path}: hold_out={self.hold_out} leaves no file to train on; give 2 for every second, or 0 for none"
            )


@dataclass
class DataConfig:
    """Clips of `num_frames` frames of `size` (height, width), `fps` a second: frames of files are picked so, by their
    time, and a generated clip plays so."""

    sources: list[SourceConfig] = field(default_factory=lambda: [SourceConfig()])
    num_frames: int = 17
    size: tuple[int, int] = (64, 64)
    fps: float = 8.0
    workers: int = 0
    validation_clips: int = 64

    def check(self, path: Path) -> None:
        """Raise VidgenError for data without clips."""
        if not self.sources or sum(source.share for source in self.sources) <= 0:
            raise VidgenError(f"{path}: data.sources needs at least one source with a share above 0")
        for source in self.sources:
            source.check(path)
