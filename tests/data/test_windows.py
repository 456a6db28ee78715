"""Windows cover a clip as they say, with the times of their frames, and hold no more of it than one of them."""

import weakref

import numpy as np
import pytest

from vidgen.data import ClipRecord
from vidgen.data.windows import clip_windows, sliding_windows
from vidgen.errors import VideoError


def numbered_frames(count):
    for i in range(count):
        yield i / 10, np.full((2, 2, 3), i, np.uint8)


@pytest.mark.parametrize(
    ("count", "length", "stride", "firsts"),
    [
        (12, 4, 4, [0, 4, 8]),
        (12, 4, 3, [0, 3, 6, 8]),  # the last one ends with the clip
        (13, 4, 4, [0, 4, 8, 9]),
        (12, 3, 5, [0, 5]),  # gaps are asked for
        (4, 4, 2, [0]),
        (3, 4, 2, []),
        (5, 1, 1, [0, 1, 2, 3, 4]),
    ],
)
def test_which_frames_are_in_which_window(count, length, stride, firsts):
    windows = list(sliding_windows(numbered_frames(count), length, stride))
    assert [window.first for window in windows] == firsts
    for window in windows:
        inside = range(window.first, window.first + length)
        assert window.frames[:, 0, 0, 0].tolist() == list(inside)
        np.testing.assert_allclose(window.times, [i / 10 for i in inside])
    if stride <= length and firsts:
        assert {i for first in firsts for i in range(first, first + length)} == set(range(count))


def test_no_more_than_a_window_is_held():
    alive: list[weakref.ref] = []

    class Frame(np.ndarray):
        pass

    def frames():
        for i in range(200):
            frame = np.zeros((2, 2, 3), np.uint8).view(Frame)
            alive.append(weakref.ref(frame))
            yield float(i), frame

    most = 0
    for _ in sliding_windows(frames(), 8, 4):
        most = max(most, sum(ref() is not None for ref in alive))
    assert len(alive) == 200 and most <= 9  # and the one that the generator has in hand


def test_windows_of_a_file_have_its_own_times(make_video, numbered, numbers):
    stamps = [0, 40, 100, 140, 260, 300, 340, 400, 500, 560]  # uneven, in milliseconds
    path = make_video(numbered(10), "uneven.mkv", stamps=stamps, codec="ffv1", pix_fmt="bgr0")
    record = ClipRecord(path=path, id="uneven.mkv", start=0.04, duration=0.5)
    windows = list(clip_windows(record, num_frames=4, stride=3, size=(32, 32), fps=None))
    assert [numbers(window.frames) for window in windows] == [[1, 2, 3, 4], [4, 5, 6, 7], [5, 6, 7, 8]]
    np.testing.assert_allclose(windows[1].times, [0.26, 0.3, 0.34, 0.4], atol=1e-3)


def test_damage_ends_a_clip_after_its_sound_windows(make_video):
    noise = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), np.uint8)  # so that frames weigh alike
    path = make_video(noise, "cut.mp4", fps=10, options={"g": "1"}, faststart=True)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    windows = clip_windows(ClipRecord(path=path, id="cut.mp4"), num_frames=4, stride=4, size=(32, 32), fps=None)
    seen = [next(windows), next(windows)]
    assert [window.first for window in seen] == [0, 4]
    with pytest.raises(VideoError, match="cut.mp4: damaged"):
        list(windows)


def test_a_clip_shorter_than_a_window_says_so(make_video, numbered):
    record = ClipRecord(path=make_video(numbered(3), fps=10), id="short")
    with pytest.raises(VideoError, match="3 frames, 4 needed"):
        list(clip_windows(record, num_frames=4, stride=4, size=(32, 32), fps=None))


@pytest.mark.parametrize("bad", [(0, 1), (1, 0)])
def test_windows_of_nothing(bad):
    with pytest.raises(ValueError, match="make no sense"):
        list(sliding_windows(numbered_frames(3), *bad))
