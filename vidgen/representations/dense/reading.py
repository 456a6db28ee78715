"""Features of scenes, part by part, as every dense probe reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from vidgen.errors import VidgenError
from vidgen.representations.dense.grids import Batch, read_maps
from vidgen.representations.dense.referring_expressions import ExpressionBatch, express
from vidgen.representations.dense.scenes import Scenes
from vidgen.representations.extractor import FeatureExtractor


@dataclass(kw_only=True)
class Reader:
    """Reads features of scenes, and counts the clips.

    scenes: the clips. pairs: clips of two objects. extractors: of all layers, by the prefix of their keys. prompted: of
    those layers that a prompt conditions. total: clips that will be read, for `progress(clips, total)`.
    """

    scenes: Scenes
    pairs: Scenes
    extractors: Mapping[str, FeatureExtractor]
    prompted: Mapping[str, FeatureExtractor]
    total: int
    progress: Callable[[int, int], None] | None = None
    clips: int = 0

    def read_moving(self, part: str) -> Iterator[Batch]:
        """Yield features and labels of a part. Raises VidgenError for clips that are one frame of features."""
        for maps, labels in self._read(self.scenes, part):
            if min(one.x.shape[1] for one in maps.values()) < 2:
                raise VidgenError(
                    f"clips of {self.scenes.num_frames} frames are one frame of features: nothing moves; give "
                    "--num-frames"
                )
            yield maps, labels

    def read_pairs(self, part: str) -> Iterator[Batch]:
        """Yield features and labels of clips of two objects."""
        return self._read(self.pairs, part)

    def read_expressions(self, part: str) -> Iterator[ExpressionBatch]:
        """Yield clips of two objects, without a prompt and with the expression of either object."""
        for video, ids, labels in self.pairs.batches(part):
            plain = read_maps(self.extractors, video, ids)
            prompts = [[express(each.objects[role]) for each in labels] for role in range(2)]
            first, second = (plain | read_maps(self.prompted, video, ids, each) for each in prompts)
            yield ExpressionBatch(maps=(plain, first, second), labels=labels)
            self._count(len(ids))

    def _read(self, scenes: Scenes, part: str) -> Iterator[Batch]:
        for video, ids, labels in scenes.batches(part):
            yield read_maps(self.extractors, video, ids), labels
            self._count(len(ids))

    def _count(self, clips: int) -> None:
        self.clips += clips
        if self.progress is not None:
            self.progress(min(self.clips, self.total), self.total)
