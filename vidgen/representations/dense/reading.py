"""Features of scenes, part by part, as every dense probe reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from vidgen.data.shapes import ClipLabels
from vidgen.errors import VidgenError
from vidgen.representations.dense.grids import FeatureMaps, read_maps
from vidgen.representations.dense.referring_expressions import Told, name_object
from vidgen.representations.dense.scenes import Scenes
from vidgen.representations.extractor import FeatureExtractor


@dataclass(kw_only=True)
class Reader:
    """extractors, by what their keys begin with: of all layers. prompted: of those alone that hear a prompt. total: clips
    that will be read, of which `progress` hears."""

    extractors: Mapping[str, FeatureExtractor]
    prompted: Mapping[str, FeatureExtractor]
    total: int
    progress: Callable[[int, int], None] | None = None
    done: int = 0

    def read(self, scenes: Scenes, part: str) -> Iterator[tuple[dict[str, FeatureMaps], list[ClipLabels]]]:
        """With no prompt."""
        for video, ids, labels in scenes.batches(part):
            yield read_maps(self.extractors, video, ids), labels
            self._move(len(ids))

    def read_moving(self, scenes: Scenes, part: str) -> Iterator[tuple[dict[str, FeatureMaps], list[ClipLabels]]]:
        """As `read`. Raises VidgenError for clips that are one frame of features."""
        for maps, labels in self.read(scenes, part):
            if min(one.x.shape[1] for one in maps.values()) < 2:
                raise VidgenError(
                    f"clips of {scenes.num_frames} frames are one frame of features: nothing moves; give --num-frames"
                )
            yield maps, labels

    def read_told(self, scenes: Scenes, part: str) -> Iterator[Told]:
        """Clips of two objects, with no prompt and with what either object is called."""
        for video, ids, labels in scenes.batches(part):
            plain = read_maps(self.extractors, video, ids)
            names = [[name_object(each.objects[role]) for each in labels] for role in range(2)]
            first, second = (plain | read_maps(self.prompted, video, ids, said) for said in names)
            yield Told(maps=(plain, first, second), labels=labels)
            self._move(len(ids))

    def _move(self, clips: int) -> None:
        self.done += clips
        if self.progress is not None:
            self.progress(min(self.done, self.total), self.total)
