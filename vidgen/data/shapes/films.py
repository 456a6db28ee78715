"""Films: clips of the world one after the other, and captions with all the spans of time where they are true."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import UInt8

from vidgen.bounds import Range, check_fields
from vidgen.data.shapes.captions import describe
from vidgen.data.shapes.labels import ClipLabels, ShapeWorldConfig
from vidgen.data.shapes.render import render
from vidgen.data.shapes.truth import truth_matrix
from vidgen.data.shapes.world import ShapeWorld, clip_generator
from vidgen.data.writing import write_video

FILM_STREAM = 5  # of a clip's random generators; 0 draws labels, 1 wordings, 2 stories, 3 walks, 4 imitations


@dataclass(frozen=True, kw_only=True)
class FilmConfig:
    """What films a `FilmWorld` makes: `num_clips` clips of the world, each at its size and rate.

    A clip has from `world.num_frames` to `stretch` times as many frames, all lengths equally likely: a longer one shows
    the same, more slowly.
    """

    world: ShapeWorldConfig = field(default_factory=ShapeWorldConfig)
    num_clips: Annotated[int, Range(1, 100_000)] = 30
    stretch: Annotated[float, Range(1.0, 100.0)] = 1.5

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class FilmClip:
    """One clip of a film, from `start` to `end` in seconds, its frames `first` to `first + num_frames - 1`.

    captions: true ones; the first is the short wording, the second is in words drawn at random.
    """

    captions: tuple[str, ...]
    labels: ClipLabels
    first: int
    start: float
    end: float

    @property
    def num_frames(self) -> int:
        """Frames of the clip."""
        return self.labels.num_frames


@dataclass(frozen=True, kw_only=True)
class FilmQuery:
    """A caption, and all spans (start, end) in seconds where it is true, in order of time and apart from each other."""

    caption: str
    spans: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Film:
    """A film by the labels of its clips; frames are rendered when they are asked for, a clip at a time."""

    config: FilmConfig
    index: int
    clips: tuple[FilmClip, ...]

    @property
    def fps(self) -> float:
        """Frames a second."""
        return float(self.config.world.fps)

    @property
    def num_frames(self) -> int:
        """Frames of the film."""
        return self.clips[-1].first + self.clips[-1].num_frames

    @property
    def duration(self) -> float:
        """Seconds from the start of the first frame to the end of the last."""
        return self.clips[-1].end

    def iter_clips(self) -> Iterator[UInt8[np.ndarray, "t h w 3"]]:
        """Yield the frames of one clip after the other."""
        for clip in self.clips:
            yield render(clip.labels, replace(self.config.world, num_frames=clip.num_frames))

    def iter_frames(self) -> Iterator[tuple[float, UInt8[np.ndarray, "h w 3"]]]:
        """Yield (time in seconds, frame), as `vidgen.data.reading.iter_frames` does of a file, a clip in memory."""
        count = 0
        for frames in self.iter_clips():
            for frame in frames:
                yield count / self.fps, frame
                count += 1

    def write(self, path: str | Path, *, crf: int = 18) -> Path:
        """Write the film as a clip; see `write_video`. Memory does not grow with its length."""
        return write_video(self.iter_clips(), path, fps=self.fps, crf=crf)

    def list_queries(self, captions: Sequence[str] | None = None) -> list[FilmQuery]:
        """Return captions, by default the short ones of the clips, each once, with all spans where they are true.

        What is true of two clips in a row is one span. Captions that are true nowhere have no spans. Raises VidgenError
        for a caption that is not in the words of the world.
        """
        captions = list(dict.fromkeys(clip.captions[0] for clip in self.clips) if captions is None else captions)
        truths = truth_matrix(captions, [clip.labels for clip in self.clips])
        return [FilmQuery(caption=c, spans=self._true_spans(truth)) for c, truth in zip(captions, truths, strict=True)]

    def _true_spans(self, truth: Sequence[bool]) -> tuple[tuple[float, float], ...]:
        spans: list[tuple[float, float]] = []
        for clip, is_true in zip(self.clips, truth, strict=True):
            if is_true and spans and spans[-1][1] == clip.start:
                spans[-1] = (spans[-1][0], clip.end)
            elif is_true:
                spans.append((clip.start, clip.end))
        return tuple(spans)


class FilmWorld:
    """`films[index]` is the same film every time, a pure function of (seed, split, index), for any index >= 0.

    Film i shows the clips i * num_clips and following of the world. Raises IndexError for a negative index.
    """

    def __init__(self, config: FilmConfig | None = None):
        self.config = config or FilmConfig()

    def __getitem__(self, index: int) -> Film:
        world = self.config.world
        rng = clip_generator(world, index, FILM_STREAM)
        longest = max(world.num_frames, round(self.config.stretch * world.num_frames))
        lengths = rng.integers(world.num_frames, longest + 1, self.config.num_clips)
        clips, first = [], 0
        for number, length in enumerate(lengths.tolist()):
            drawn, labels = ShapeWorld(replace(world, num_frames=length)).sample_prompt(
                index * self.config.num_clips + number
            )
            start, end = first / world.fps, (first + length) / world.fps
            captions = (describe(labels), drawn)
            clips.append(FilmClip(captions=captions, labels=labels, first=first, start=start, end=end))
            first += length
        return Film(config=self.config, index=index, clips=tuple(clips))
