"""Writing: there and back again, for every format, size and value range; and nothing half-written stays."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from vidgen.data import contact_sheet, probe_video, read_video, to_tensor, to_uint8, write_video
from vidgen.data.frames import fit_frame
from vidgen.errors import VidgenError


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9))


def test_uint8_and_floats_are_never_scaled_twice():
    every = np.arange(256, dtype=np.uint8)
    frames = np.stack([every, every[::-1], np.roll(every, 9)], axis=-1).reshape(4, 8, 8, 3)
    np.testing.assert_array_equal(to_uint8(frames), frames)
    video = to_tensor(frames)
    assert video.shape == (3, 4, 8, 8) and video.min() == -1 and video.max() == 1 and video.is_contiguous()
    np.testing.assert_array_equal(to_uint8(video), frames)
    np.testing.assert_array_equal(to_uint8(video.double()), frames)
    np.testing.assert_array_equal(to_uint8((video + 1) / 2, value_range=(0, 1)), frames)
    np.testing.assert_array_equal(to_uint8(frames / 255.0, value_range=(0, 1)), frames)
    torch.testing.assert_close(to_tensor(frames / 255.0, value_range=(0, 1)), video)
    torch.testing.assert_close(to_tensor(frames / 127.5 - 1), video)
    assert np.abs(to_uint8(video.bfloat16()).astype(int) - frames).max() <= 1
    np.testing.assert_array_equal(to_uint8(torch.from_numpy(frames.transpose(3, 0, 1, 2).copy())), frames)


def test_the_same_frames_make_the_same_file_whatever_was_in_memory(tmp_path):
    rng = np.random.default_rng(0)
    clip = rng.integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    garbage, files = [], set()
    for _ in range(60):
        # memory as a program leaves it: blocks of all sizes, written and given back out of order
        garbage += [rng.integers(1, 256, size, dtype=np.uint8) for size in rng.integers(8, 200_000, 40)]
        rng.shuffle(garbage)
        del garbage[400:]
        files.add(write_video(clip, tmp_path / "a.mp4", fps=8).read_bytes())
    assert len(files) == 1


def test_values_outside_the_declared_range_are_refused():
    video = torch.zeros(3, 2, 4, 4)
    for value in (1.1, -1.1, float("nan"), float("inf")):
        video[1, 1, 2, 2] = value
        with pytest.raises(ValueError, match="outside the declared range -1 to 1"):
            to_uint8(video)
    video[1, 1, 2, 2] = 1.004  # rounding in half precision
    assert to_uint8(video).max() == 255
    with pytest.raises(ValueError, match="outside the declared range 0 to 1"):
        to_uint8(torch.full((3, 1, 2, 2), -0.5), value_range=(0, 1))
    with pytest.raises(ValueError, match="uint8 or floating point"):
        to_uint8(np.zeros((1, 2, 2, 3), np.int64))
    with pytest.raises(ValueError, match="shape"):
        to_uint8(torch.zeros(2, 4, 4, 3))
    with pytest.raises(ValueError, match="value_range"):
        to_uint8(torch.zeros(3, 1, 2, 2), value_range=(0, 255))


@pytest.mark.slow
@pytest.mark.parametrize("height, width", [(48, 64), (33, 51), (34, 51), (2, 2), (1, 1)])
@pytest.mark.parametrize("num_frames", [1, 9])
@pytest.mark.parametrize("name, least", [("a.mp4", 35), ("a.mov", 35), ("a.mkv", 99), ("a.webp", 32), ("a.gif", 27)])
def test_there_and_back(tmp_path, waves, name, least, num_frames, height, width):
    if height == 2 and least < 99:
        least = 0  # one chroma sample for the whole frame
    frames = waves(num_frames, height, width)
    path = write_video(frames, tmp_path / name, fps=12.5)
    clip = read_video(path, fps=12.5)
    assert clip.frames.shape == frames.shape
    assert psnr(clip.frames, frames) > least
    if num_frames > 1:
        np.testing.assert_allclose(clip.times, np.arange(num_frames) / 12.5, atol=1e-3)
        assert probe_video(path).fps == pytest.approx(12.5)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("fps", [24, 23.976, 29.97, 8, 0.5, 1000])
def test_frame_rates_survive(tmp_path, waves, fps):
    path = write_video(waves(4, 16, 16), tmp_path / "a.mp4", fps=fps)
    assert probe_video(path).fps == pytest.approx(fps, rel=1e-4)
    assert len(read_video(path, fps=fps).frames) == 4


def test_colours_keep_their_place(tmp_path):
    """Saturated primaries through BT.709 limited range: a wrong matrix or range moves them by 10 levels or more."""
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [90, 160, 200]], np.uint8)
    frames = np.broadcast_to(colours[:, None, None], (6, 32, 32, 3))
    clip = read_video(write_video(frames, tmp_path / "a.mp4", fps=6, crf=4))
    assert np.abs(clip.frames.astype(int) - frames).max() <= 4


def test_floats_tensors_and_pieces_write_the_same_file(tmp_path, waves):
    frames = waves(6, 32, 32)
    whole = write_video(frames, tmp_path / "a.mkv", fps=8)
    for index, form in enumerate((to_tensor(frames), iter([frames[:2], frames[2], to_tensor(frames[3:])]))):
        other = write_video(form, tmp_path / f"{index}.mkv", fps=8)
        np.testing.assert_array_equal(read_video(other).frames, read_video(whole).frames)


def test_png_frames(tmp_path, waves):
    frames = waves(3, 9, 7)
    np.testing.assert_array_equal(read_video(write_video(frames, tmp_path / "folder", fps=8)).frames, frames)
    assert sorted(os.listdir(tmp_path / "folder")) == ["00000.png", "00001.png", "00002.png"]
    write_video(frames, tmp_path / "f_%02d.png", fps=8)
    for index in range(3):
        np.testing.assert_array_equal(read_video(tmp_path / f"f_{index:02d}.png").frames[0], frames[index])
    write_video(frames[:1], tmp_path / "one.png", fps=8)
    assert len(read_video(write_video(frames[:1], tmp_path / "single", fps=8)).frames) == 1
    assert sorted(os.listdir(tmp_path)) == ["f_00.png", "f_01.png", "f_02.png", "folder", "one.png", "single"]


def test_nothing_half_written_stays(tmp_path, waves):
    frames = waves(4, 16, 16)
    write_video(frames, tmp_path / "kept.mp4", fps=8)
    before = (tmp_path / "kept.mp4").read_bytes()

    def breaking():
        yield frames[:2]
        raise RuntimeError("the model stopped")

    for name in ("kept.mp4", "new.mp4", "new.mkv", "new.gif", "folder", "f_%03d.png"):
        with pytest.raises(RuntimeError, match="stopped"):
            write_video(breaking(), tmp_path / name, fps=8)
    assert os.listdir(tmp_path) == ["kept.mp4"] and (tmp_path / "kept.mp4").read_bytes() == before


def test_places_that_cannot_be_written(tmp_path, waves):
    frames = waves(3, 16, 16)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thing").touch()
    (tmp_path / "dir.mp4").mkdir()
    (tmp_path / "file").touch()
    cases = {
        "absent/a.mp4": "does not exist",
        "full": "exists already",
        "dir.mp4": "is a folder",
        "file/a.mp4": "does not exist",
        "a.xyz": "no format",
        "a.png": "several frames",
    }
    for name, reason in cases.items():
        with pytest.raises(VidgenError, match=reason) as error:
            write_video(frames, tmp_path / name, fps=8)
        assert "\n" not in str(error.value) and ";" in str(error.value)
    assert sorted(os.listdir(tmp_path)) == ["dir.mp4", "file", "full"]


def test_frames_that_make_no_clip(tmp_path, waves):
    for frames in ([], np.zeros((0, 4, 4, 3), np.uint8), [waves(1, 8, 8), waves(1, 8, 6)]):
        with pytest.raises(ValueError):
            write_video(frames, tmp_path / "a.mp4", fps=8)
    for arguments in ({"fps": 0}, {"fps": 8, "crf": 60}):
        with pytest.raises(ValueError):
            write_video(waves(1, 8, 8), tmp_path / "a.mp4", **arguments)
    assert os.listdir(tmp_path) == []


def test_contact_sheet(tmp_path, waves):
    frames = waves(5, 10, 14)
    sheet = contact_sheet(frames, tmp_path / "sheet.png", columns=3)
    assert sheet.shape == (22, 46, 3)
    np.testing.assert_array_equal(sheet[12:22, 16:30], frames[4])
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "sheet.png")), sheet)


def test_fitting_a_frame():
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (32, 64, 3)).copy()
    cropped = fit_frame(ramp, (16, 16), "crop")  # the middle half, reduced by 2
    np.testing.assert_allclose(cropped[8, 2:14, 0], ramp[0, 16:48, 0].reshape(16, 2).mean(axis=1)[2:14], atol=1.5)
    assert fit_frame(ramp, (32, 64)) is ramp
    checker = ((np.indices((64, 64)).sum(axis=0) % 2) * 255).astype(np.uint8)[..., None].repeat(3, axis=-1)
    assert np.abs(fit_frame(checker, (16, 16), "stretch").astype(int) - 127).max() < 8  # antialiased: gray, no moire
