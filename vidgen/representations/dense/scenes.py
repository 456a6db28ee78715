"""Scenes: clips of the synthetic world that dense probes are fitted, chosen and reported on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice

import torch

from vidgen.data.frames import to_tensor
from vidgen.data.shapes import ClipLabels, ShapeWorld, ShapeWorldConfig
from vidgen.errors import VidgenError


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """Clips of the synthetic world in three parts that share none: to fit on, to choose on, and held out.

    keep: takes only clips whose labels it returns true for.
    """

    num_frames: int
    height: int
    width: int
    fps: int
    counts: Mapping[str, int]  # by part: "train", "validation", "test"
    max_objects: int = 2
    batch_size: int = 8
    keep: Callable[[ClipLabels], bool] | None = None

    def batches(self, part: str) -> Iterator[tuple[torch.Tensor, list[str], list[ClipLabels]]]:
        """Yield (clips (b, 3, T, H, W), ids, labels) of a part."""
        try:
            world = ShapeWorld(
                ShapeWorldConfig(
                    height=self.height, width=self.width, num_frames=self.num_frames, fps=self.fps,
                    max_objects=self.max_objects, split="held_out" if part == "test" else "train",
                )
            )  # fmt: skip
        except ValueError as error:
            raise VidgenError(f"no such world can be made: {error}") from None
        first = self.counts["train"] if part == "validation" else 0
        numbers = islice(self._numbers(world), first, first + self.counts[part])
        while batch := list(islice(numbers, self.batch_size)):
            clips = [world[i] for i in batch]
            video = torch.stack([to_tensor(clip.video) for clip in clips])
            yield video, [f"{part} {i}" for i in batch], [clip.labels for clip in clips]

    def _numbers(self, world: ShapeWorld) -> Iterator[int]:
        """Yield the numbers of clips that `keep` takes, endlessly."""
        yield from (i for i in count() if self.keep is None or self.keep(world.sample_labels(i)))
