"""Protocols: which frames they take, and what they say of clips that are too short or too small."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vidgen.data.manifests import ClipRecord
from vidgen.errors import VideoError, VidgenError
from vidgen.tokenizers.evaluation.protocols import PROTOCOLS, ClipProtocol, find_protocol, open_windows


@pytest.fixture
def record(make_video: Callable, numbered: Callable) -> Callable[..., ClipRecord]:
    def make(num_frames: int, fps: float = 30, height: int = 32, width: int = 32) -> ClipRecord:
        path = make_video(numbered(num_frames, height, width), f"{num_frames}_{fps}.mp4", fps=fps, options={"crf": "8"})
        return ClipRecord(path=path, id=path.name)

    return make


def taken(record: ClipRecord, protocol: ClipProtocol, numbers: Callable) -> list[list[int]]:
    return [numbers(np.stack(list(window))) for window in open_windows(record, protocol).windows]


def test_the_names_of_published_tables_are_there() -> None:
    assert {"mcljcv-17x256@30fps", "webvid-33x256", "davis", "ucf101-17x128", "tokenbench"} <= set(PROTOCOLS)
    assert all(protocol.about for protocol in PROTOCOLS.values())
    for name, protocol in PROTOCOLS.items():
        if "x" in name:
            frames, side = name.split("-")[1].split("@")[0].split("x")
            assert (protocol.num_frames, protocol.size) == (int(frames), (int(side), int(side)))
    with pytest.raises(VidgenError, match="--protocol 'mcl' is unknown; choose one of mcljcv-17x256@30fps, webvid"):
        find_protocol("mcl")


def test_all_windows_one_behind_the_other_the_last_filled_up(record, numbers) -> None:
    protocol = ClipProtocol(num_frames=4, windows="all")
    wanted = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 9, 9]]
    assert taken(record(10), protocol, numbers) == wanted
    assert taken(record(8), protocol, numbers) == wanted[:2]


def test_the_head(record, numbers) -> None:
    assert taken(record(10), ClipProtocol(num_frames=4), numbers) == [[0, 1, 2, 3]]
    assert taken(record(6), ClipProtocol(), numbers) == [list(range(6))]
    assert taken(record(6), ClipProtocol(max_frames=2), numbers) == [[0, 1]]
    assert taken(record(30, fps=10), ClipProtocol(max_seconds=0.5), numbers) == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize(("fps", "step"), [(24, 1), (30, 1), (50, 2), (60, 2), (90, 3)])
def test_near_a_rate_no_frame_comes_twice(record, numbers, fps: float, step: int) -> None:
    clip, protocol = record(12, fps=fps), ClipProtocol(num_frames=3, near_fps=30)
    assert taken(clip, protocol, numbers) == [[0, step, 2 * step]]
    assert open_windows(clip, protocol).fps == pytest.approx(fps / step)


def test_by_time_frames_may_repeat_and_that_is_said(record, numbers) -> None:
    clip, protocol = record(6, fps=10), ClipProtocol(num_frames=6, fps=20)
    assert taken(clip, protocol, numbers) == [[0, 0, 1, 1, 2, 2]]
    assert open_windows(clip, protocol).notes == ["10 fps sampled at 20: frames repeat"]


def test_sizes(record) -> None:
    def shapes(protocol: ClipProtocol) -> set[tuple[int, ...]]:
        return {frame.shape for window in open_windows(clip, protocol).windows for frame in window}

    clip = record(3, height=40, width=64)
    assert shapes(ClipProtocol(size=(16, 16))) == {(16, 16, 3)}
    assert shapes(ClipProtocol(max_side=20)) == {(20, 32, 3)}
    assert shapes(ClipProtocol(max_side=41)) == {(40, 64, 3)}
    assert open_windows(clip, ClipProtocol(size=(16, 16))).notes == []
    assert open_windows(clip, ClipProtocol(size=(48, 48))).notes == ["enlarged from 40x64"]


def test_short_and_missing_clips(record, tmp_path: Path) -> None:
    (window,) = open_windows(record(5), ClipProtocol(num_frames=6)).windows
    with pytest.raises(VideoError, match="5 frames, 6 needed"):
        list(window)
    with pytest.raises(VideoError, match="no such file"):
        open_windows(ClipRecord(path=tmp_path / "none.mp4", id="none"), ClipProtocol())
