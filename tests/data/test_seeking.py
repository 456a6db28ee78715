"""A read from time k gives frame k: over containers, codecs and key-frame distances, each frame saying its number."""

import av
import numpy as np
import pytest
from PIL import Image

from vidgen.data import probe_video, read_video

COUNT = 40
X265 = "log-level=none:pools=none:frame-threads=1"
H264 = {"codec": "libx264", "sweep": ({"g": "250", "bf": "0"}, {"g": "12", "bf": "3"}, {"g": "1"})}
OPEN = {"codec": "libx264", "sweep": ({"g": "12", "bf": "3", "x264-params": "open-gop=1:scenecut=0"},)}
HEVC = {
    "codec": "libx265",
    "sweep": (
        {"x265-params": f"keyint=250:{X265}"},
        {"x265-params": f"keyint=12:min-keyint=12:bframes=4:open-gop=1:scenecut=0:{X265}"},
    ),
}
MPEG4 = {"codec": "mpeg4", "sweep": ({"g": "12", "bf": "2", "q": "2"}, {"g": "250", "q": "2"})}
MPEG2 = {"codec": "mpeg2video", "sweep": ({"g": "12", "bf": "2"}, {"g": "3", "bf": "0"})}
VP8 = {"codec": "libvpx", "sweep": ({"g": "15", "deadline": "realtime", "lag-in-frames": "10"},)}
VP9 = {"codec": "libvpx-vp9", "sweep": ({"g": "15", "deadline": "realtime"}, {"g": "1", "deadline": "realtime"})}
MJPEG = {"codec": "mjpeg", "pix_fmt": "yuvj420p", "sweep": ({"q": "2"},)}
FFV1 = {"codec": "ffv1", "pix_fmt": "bgr0", "sweep": ({},)}
WMV = {"codec": "wmv2", "sweep": ({"g": "12"},)}
FILES = {
    **dict.fromkeys(("h264.mp4", "h264.mov", "h264.mkv", "h264.ts", "h264.avi", "h264.flv", "h264.h264"), H264),
    **dict.fromkeys(("open.mp4", "open.mkv", "open.ts", "open.avi"), OPEN),
    **dict.fromkeys(("hevc.mp4", "hevc.mkv", "hevc.ts", "hevc.hevc"), HEVC),
    **dict.fromkeys(("mpeg4.mp4", "mpeg4.avi", "mpeg4.mkv"), MPEG4),
    **dict.fromkeys(("mpeg2.mpg", "mpeg2.vob", "mpeg2.ts", "mpeg2.mkv"), MPEG2),
    **dict.fromkeys(("vp8.webm", "vp8.mkv"), VP8),
    **dict.fromkeys(("vp9.webm", "vp9.mp4"), VP9),
    **dict.fromkeys(("mjpeg.avi", "mjpeg.mov"), MJPEG),
    "ffv1.mkv": FFV1,
    "wmv.wmv": WMV,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_read_from_the_time_of_a_frame_gives_that_frame(make_video, numbered, numbers, name):
    case = FILES[name]
    if case["codec"] not in av.codecs_available:
        pytest.skip(f"FFmpeg has no {case['codec']} here")
    for options in case["sweep"]:
        pix_fmt = case.get("pix_fmt", "yuv420p")
        path = make_video(
            numbered(COUNT, 64, 64), name, fps=30, codec=case["codec"], pix_fmt=pix_fmt, options=dict(options)
        )
        whole = read_video(path)
        assert numbers(whole.frames) == list(range(COUNT)), options
        np.testing.assert_allclose(whole.times, np.arange(COUNT) / 30, atol=1.1e-3, err_msg=str(options))
        for index in range(COUNT):
            clip = read_video(path, start=whole.times[index], num_frames=1)
            assert clip.times[0] == pytest.approx(whole.times[index], abs=1e-6), (options, index)
            np.testing.assert_array_equal(clip.frames[0], whole.frames[index], err_msg=f"{options}, frame {index}")


@pytest.mark.parametrize("name, codec", [("x.mkv", "libx264"), ("x.webm", "libvpx"), ("x.mp4", "libx264")])
def test_the_rate_of_a_recording_without_one_is_that_of_its_times(make_video, numbered, numbers, name, codec):
    stamps = np.cumsum([33 + 9 * (k % 3) for k in range(30)]).tolist()
    path = make_video(numbered(30), name, fps=1000, codec=codec, stamps=stamps)
    seconds = (stamps[-1] - stamps[0]) / 1000
    info = probe_video(path)
    assert info.num_frames == 30 and info.fps == pytest.approx(29 / seconds, rel=0.06)
    assert info.duration == pytest.approx(seconds, abs=0.06)
    clip = read_video(path)
    assert numbers(clip.frames) == list(range(30)) and clip.fps == pytest.approx(29 / seconds, rel=0.06)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_uneven_frames_are_counted_before_they_are_decoded(make_video, numbered, numbers, suffix):
    """A second at 10 frames a second and one at 50: the index says how many, whatever the rate on average."""
    stamps = [100 * i for i in range(10)] + [1000 + 20 * i for i in range(50)]
    codec = "libvpx" if suffix == ".webm" else "libx264"
    path = make_video(numbered(60), f"x{suffix}", fps=1000, codec=codec, stamps=stamps)
    info = probe_video(path)
    assert info.num_frames == 60 and info.fps == pytest.approx(60 / 1.98, rel=0.01)
    assert numbers(read_video(path).frames) == list(range(60))


@pytest.mark.parametrize("name, codec", [("x.h264", "libx264"), ("x.hevc", "libx265")])
@pytest.mark.parametrize("fps", [30, 12])
def test_a_raw_stream_has_its_rate_in_its_headers(make_video, numbered, name, codec, fps):
    options = {"x265-params": X265} if codec == "libx265" else {"bf": "2"}
    path = make_video(numbered(24, 64, 64), name, fps=fps, codec=codec, options=options)
    info = probe_video(path)
    assert info.fps == fps and info.num_frames == 24 and info.duration == pytest.approx(24 / fps)
    np.testing.assert_allclose(read_video(path).times, np.arange(24) / fps, atol=1e-6)


@pytest.mark.parametrize("name, codec, sound", [("x.mkv", "libx264", "aac"), ("x.webm", "libvpx", "libopus")])
@pytest.mark.parametrize("live", ["0", "1"])
def test_sound_that_is_longer_makes_no_frames(tmp_path, numbered, name, codec, sound, live):
    path = tmp_path / name
    with av.open(str(path), "w", options={"live": live}) as container:
        video = container.add_stream(codec, rate=30)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        audio = container.add_stream(sound, rate=48000, layout="mono")
        for k, frame in enumerate(numbered(20)):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts = k
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        for k in range(100):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.rate = 48000
            silence.pts = 1024 * k
            container.mux(audio.encode(silence))
        container.mux(audio.encode(None))
    info = probe_video(path)
    assert info.num_frames == 20 and info.duration == pytest.approx(20 / 30, abs=0.04)
    assert len(read_video(path, fps=30).frames) == 20


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".apng"])
@pytest.mark.parametrize("fps", [7, 12, 24, 29.97, 30, 50, 60])
def test_animations_read_at_their_own_rate_keep_every_frame(tmp_path, numbered, numbers, suffix, fps):
    from vidgen.data.writing import write_video

    path = tmp_path / f"x{suffix}"
    if suffix == ".apng":
        first, *others = [Image.fromarray(frame) for frame in numbered(60)]
        lengths = np.diff(np.round(np.arange(61) * 1000 / fps)).tolist()
        first.save(path, format="PNG", save_all=True, append_images=others, duration=lengths)
    else:
        write_video(numbered(60), path, fps=fps)
    info = probe_video(path)
    assert info.num_frames == 60 and info.fps == pytest.approx(fps, rel=0.02)
    for rate in (None, fps, info.fps):
        assert numbers(read_video(path, fps=rate).frames) == list(range(60))


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_equal_neighbours_of_an_animation_last_as_long_as_they_did(tmp_path, numbered, numbers, suffix):
    from vidgen.data.writing import write_video

    order = [0, 1, 1, 1, 2, 3, 3, 4]
    path = write_video(numbered(5)[order], tmp_path / f"x{suffix}", fps=8)
    assert numbers(read_video(path).frames) == [0, 1, 2, 3, 4]
    assert numbers(read_video(path, fps=8).frames) == order
