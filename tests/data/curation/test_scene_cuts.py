"""Cuts by PySceneDetect: what it is shown, by a stand-in for it, and the line where it is not there."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from vidgen.data.curation.curating import curate_clips
from vidgen.data.curation.filters import Filters
from vidgen.data.curation.scene_cuts import CutCounter, load_scenedetect
from vidgen.data.writing import write_video
from vidgen.errors import VidgenError


class Detector:
    """A cut wherever blue, the first channel of OpenCV's, leaps."""

    def __init__(self, min_scene_len: int) -> None:
        self.before = None

    def process_frame(self, timecode, frame):
        blue = float(frame[..., 0].mean())
        leaps = self.before is not None and abs(blue - self.before) > 100
        self.before = blue
        return [timecode] if leaps else []


@pytest.fixture
def stand_in(monkeypatch):
    module = SimpleNamespace(ContentDetector=Detector, FrameTimecode=lambda number, fps: number / fps)
    monkeypatch.setitem(sys.modules, "scenedetect", module)


def test_frames_are_shown_in_opencvs_order(stand_in):
    counter = CutCounter(8)
    for color in ((0, 0, 250), (250, 0, 250), (0, 0, 0), (0, 0, 250)):
        counter.add(np.full((4, 4, 3), color, np.uint8))
    assert counter.count == 2


def test_single_scenes_stay(stand_in, tmp_path):
    video = np.zeros((8, 32, 32, 3), np.uint8)
    write_video(video, tmp_path / "one.mkv", fps=8)
    video[4:] = 255
    write_video(video, tmp_path / "two.mkv", fps=8)
    report = curate_clips(tmp_path, tmp_path / "m.jsonl", Filters(single_scene=True))
    assert (report.kept, report.dropped) == (1, {"single_scene": 1})
    assert report.drops == [{"id": "two.mkv", "reason": "single_scene: 1 cuts"}]


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with pytest.raises(VidgenError, match="PySceneDetect is not installed; add it with"):
        load_scenedetect()
    with pytest.raises(VidgenError, match="leave out --single-scene"):
        curate_clips(tmp_path, tmp_path / "m.jsonl", Filters(single_scene=True))
