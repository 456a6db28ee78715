"""Reading against clips whose every frame and time is known: picking by time, seeking, rotation, formats, errors."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidgen.data import iter_frames, probe_video, read_video
from vidgen.data.containers.opening import Container
from vidgen.errors import VideoError

LONG_GOPS = {"g": "12", "bf": "3", "crf": "12", "flags": "-cgop", "x264-params": "open-gop=1:scenecut=0"}


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9))


def test_whole_clip_comes_back(make_video, waves):
    frames = waves(12, 48, 64)
    clip = read_video(make_video(frames, fps=25, options={"crf": "4"}))
    assert clip.frames.shape == frames.shape and clip.frames.dtype == np.uint8 and clip.error is None
    assert psnr(clip.frames, frames) > 38
    np.testing.assert_allclose(clip.times, np.arange(12) / 25, atol=1e-6)
    assert clip.fps == 25


def test_frames_are_picked_by_presentation_time(make_video, numbered, numbers):
    stamps = [0, 40, 80, 400, 440, 480, 1000, 1040]
    path = make_video(numbered(8), "vfr.mkv", stamps=stamps)
    np.testing.assert_allclose(read_video(path).times, np.array(stamps) / 1000, atol=1e-6)
    clip = read_video(path, fps=10)
    on_screen = [max(i for i, stamp in enumerate(stamps) if stamp <= 100 * k) for k in range(11)]
    assert numbers(clip.frames) == on_screen
    np.testing.assert_allclose(clip.times, np.array(stamps)[on_screen] / 1000, atol=1e-6)
    assert numbers(read_video(path, start=0.39, duration=0.2).frames) == [3, 4, 5]
    assert numbers(read_video(path, start=0.39, duration=0.2, fps=20).frames) == [2, 4, 5, 5]


@pytest.mark.parametrize("fps", [25, 30000 / 1001, 24000 / 1001, 60, 10])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_sampling_at_the_native_rate_gives_every_frame_once(make_video, numbered, numbers, name, fps):
    path = make_video(numbered(20), name, fps=fps)
    assert numbers(read_video(path, fps=fps).frames) == list(range(20))
    assert numbers(read_video(path, fps=fps / 2).frames) == list(range(0, 20, 2))
    assert numbers(read_video(path, fps=fps * 2).frames) == [k // 2 for k in range(40)]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_frame_by_seeking_equals_frame_in_order(make_video, numbered, name):
    path = make_video(numbered(60), name, fps=24, options=LONG_GOPS)
    whole = read_video(path)
    for index in range(60):
        clip = read_video(path, start=whole.times[index], num_frames=1)
        assert clip.times[0] == pytest.approx(whole.times[index], abs=1e-6)
        np.testing.assert_array_equal(clip.frames[0], whole.frames[index])


def test_a_late_window_does_not_decode_what_lies_before(make_video, numbered, monkeypatch):
    path = make_video(numbered(120), fps=24, options=LONG_GOPS)
    packets = []
    plain = Container.packets

    def counting(self):
        for packet in plain(self):
            packets.append(packet.pts)
            yield packet

    monkeypatch.setattr(Container, "packets", counting)
    read_video(path, start=4.5, num_frames=2)
    assert 0 < len(packets) < 40  # of 120: from the key frame at 4 s, and what the decoder looks ahead


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_is_applied(make_video, waves, rotation):
    frames = waves(2, 32, 64)
    path = make_video(frames, "turned.mov", options={"crf": "4"}, rotation=rotation)
    upright = np.rot90(frames, rotation // 90, axes=(1, 2))  # both count counter-clockwise
    clip, info = read_video(path), probe_video(path)
    assert clip.frames.shape == upright.shape == (2, info.height, info.width, 3)
    assert abs(info.rotation) == abs(rotation)
    assert psnr(clip.frames, upright) > 35


@pytest.mark.parametrize(
    "pix_fmt, codec, name",
    [
        ("yuv420p10le", "libx264", "ten.mp4"),
        ("yuv444p", "libx264", "odd.mp4"),
        ("gbrp16le", "ffv1", "sixteen.mkv"),
        ("yuvj420p", "mjpeg", "full.avi"),
        ("bgra", "ffv1", "alpha.mkv"),
    ],
)
def test_pixel_formats_become_eight_bit_rgb(make_video, waves, pix_fmt, codec, name):
    frames = waves(3, 47, 63) if name == "odd.mp4" else waves(3, 48, 64)
    options = {"libx264": {"crf": "4"}, "mjpeg": {"q": "2"}}.get(codec)
    clip = read_video(make_video(frames, name, codec=codec, pix_fmt=pix_fmt, options=options))
    assert clip.frames.shape == frames.shape
    assert psnr(clip.frames, frames) > 33


@pytest.mark.parametrize("pix_fmt, levels", [("gray", 255), ("gray16le", 65535)])
def test_gray_is_scaled_not_cut(make_video, pix_fmt, levels):
    ramp = np.linspace(0, levels, 64).round().astype(np.uint8 if levels == 255 else np.uint16)
    frames = np.broadcast_to(ramp, (2, 16, 64))
    path = make_video(frames, "gray.mkv", codec="ffv1", pix_fmt=pix_fmt, source_format=pix_fmt)
    clip = read_video(path)
    assert clip.frames.shape == (2, 16, 64, 3)
    assert np.abs(clip.frames[0, 0, :, 1] - np.linspace(0, 255, 64)).max() <= 1.5


def test_opacity_is_composited_on_black(make_video):
    rgba = np.full((2, 16, 16, 4), 200, np.uint8)
    rgba[..., 3] = [0] * 8 + [255] * 8
    path = make_video(rgba, "alpha.mkv", codec="ffv1", pix_fmt="bgra", source_format="rgba")
    frame = read_video(path).frames[0]
    assert (frame[:, :8] == 0).all() and (frame[:, 8:] == 200).all()


def test_size_and_fit(make_video, waves):
    path = make_video(waves(3, 48, 96))
    assert read_video(path, size=16).frames.shape == (3, 16, 16, 3)
    assert read_video(path, size=(20, 30), fit="stretch").frames.shape == (3, 20, 30, 3)
    padded = read_video(path, size=(32, 32), fit="pad").frames
    assert (padded[:, :8] == 0).all() and (padded[:, 24:] == 0).all() and padded[:, 8:24].std() > 5


def test_windows_that_do_not_exist(make_video, numbered):
    path = make_video(numbered(10), fps=10)
    with pytest.raises(VideoError, match="no frame from 5 s on; its last one is at 0.900 s"):
        read_video(path, start=5)
    with pytest.raises(VideoError, match="10 frames from 0 s, 11 asked"):
        read_video(path, num_frames=11)
    assert len(read_video(path, num_frames=11, short="keep").frames) == 10
    held = read_video(path, num_frames=12, short="repeat")
    assert (held.frames[9:] == held.frames[9]).all()
    np.testing.assert_allclose(held.times, np.arange(12) / 10, atol=1e-6)
    for arguments in ({"start": -1}, {"duration": 0}, {"fps": 0}, {"num_frames": 0}, {"size": 0}, {"fit": "wrong"}):
        with pytest.raises(ValueError):
            read_video(path, **{"size": 8, **arguments})


def test_iterator_stops_where_the_reader_does(make_video, numbered, numbers):
    path = make_video(numbered(10), fps=10)
    pairs = list(iter_frames(path, start=0.3, duration=0.4))
    assert numbers(np.stack([frame for _, frame in pairs])) == [3, 4, 5, 6]
    np.testing.assert_allclose([time for time, _ in pairs], [0.3, 0.4, 0.5, 0.6], atol=1e-6)


def test_images_are_clips_of_one_frame(tmp_path):
    gray = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(gray).save(tmp_path / "deep.png")
    frame = read_video(tmp_path / "deep.png").frames[0]
    assert np.abs(frame[..., 0] - gray / 257).max() <= 1
    picture = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(2, 8, 3))
    exif = picture.getexif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show
    picture.save(tmp_path / "turned.png", exif=exif)
    clip = read_video(tmp_path / "turned.png", num_frames=1, fps=30)
    np.testing.assert_array_equal(clip.frames[0], np.rot90(np.asarray(picture), -1))
    with pytest.raises(VideoError, match="1 frames"):
        read_video(tmp_path / "turned.png", num_frames=2, fps=1000)


def test_a_folder_of_numbered_frames_is_one_clip(tmp_path, numbered, numbers):
    for index, frame in enumerate(numbered(12)):
        Image.fromarray(frame).save(tmp_path / f"frame-{index + 7}.png")  # 7 to 18: not in the order of the alphabet
    clip = read_video(tmp_path, native_fps=10)
    assert numbers(clip.frames) == list(range(12)) and clip.fps == 10
    assert numbers(read_video(tmp_path, native_fps=10, fps=5, start=0.2).frames) == [2, 4, 6, 8, 10]
    Image.fromarray(numbered(1, 16, 16)[0]).save(tmp_path / "frame-19.png")
    with pytest.raises(VideoError, match="frame-19.png.*16x16.*32x32"):
        read_video(tmp_path)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_animated_images(tmp_path, numbered, numbers, suffix):
    images = [Image.fromarray(frame) for frame in numbered(5)]
    path = tmp_path / f"moving{suffix}"
    images[0].save(path, save_all=True, append_images=images[1:], duration=[100, 100, 300, 100, 100], loop=0)
    clip = read_video(path)
    assert numbers(clip.frames) == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(clip.times, [0, 0.1, 0.2, 0.5, 0.6], atol=1e-3)
    assert numbers(read_video(path, fps=10).frames) == [0, 1, 2, 2, 2, 3, 4]


def test_nothing_stays_open(make_video, numbered):
    """A decoder's threads that outlive their reader hang the workers that a data loader forks."""
    threads = Path("/proc/self/task")
    if not threads.is_dir():
        pytest.skip("threads are counted in /proc")
    path = make_video(numbered(30), options=LONG_GOPS)
    before, errors = len(list(threads.iterdir())), []
    for arguments in ({}, {"start": 0.5}, {"num_frames": 2}, {"num_frames": 99}, {"start": 9}):
        try:
            read_video(path, **arguments)
        except VideoError as error:
            errors.append(error)
    assert len(errors) == 2 and len(list(threads.iterdir())) <= before
