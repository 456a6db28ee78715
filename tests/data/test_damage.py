"""Cut, flipped and hostile files: what is wrong is named and counted by every reader, and refused unless allowed."""

import os
import socket

import numpy as np
import pytest
from PIL import Image

from vidgen.data import VideoDataset, iter_frames, read_video, validate_source
from vidgen.data.containers.file_ends import find_cut, has_damaged_slice
from vidgen.data.damage import EvenSteps
from vidgen.errors import VideoError, VidgenError
from vidgen.train.config import DataConfig, SourceConfig
from vidgen.train.data.sources import ClipSource

X265 = {"x265-params": "keyint=10:log-level=none:pools=none:frame-threads=1"}
FILES = {
    "a.mp4": {"codec": "libx264", "options": {"crf": "10"}, "faststart": True},
    "a.mkv": {"codec": "libx264"},
    "hevc.mkv": {"codec": "libx265", "options": X265},
    "a.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime"}},
    "a.avi": {"codec": "mpeg4", "options": {"q": "2"}},
    "a.flv": {"codec": "libx264"},
    "a.mpg": {"codec": "mpeg2video"},
    "a.wmv": {"codec": "wmv2"},
    "ffv1.mkv": {"codec": "ffv1", "pix_fmt": "bgr0"},
    "a.y4m": {"codec": "rawvideo"},
    "a.gif": None,
    "a.webp": None,
    "a.apng": None,
}


@pytest.fixture
def make(tmp_path, make_video, waves):
    """`make(name, **settings)`: a sound file of 24 frames."""

    def write(name, **settings):
        frames = waves(24, 64, 64)
        if settings or FILES.get(name):
            return make_video(frames, name, **(settings or FILES[name]))
        images = [Image.fromarray(frame) for frame in frames]
        images[0].save(tmp_path / name, save_all=True, append_images=images[1:], duration=40, loop=0)
        return tmp_path / name

    return write


@pytest.mark.parametrize("name", FILES)
def test_cut_files_are_refused_and_counted(make, name):
    path = make(name)
    assert find_cut(path) is None and not read_video(path).damage
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.85)])
    assert find_cut(path) is not None
    with pytest.raises(VideoError):
        list(iter_frames(path))
    with pytest.raises(VideoError):
        read_video(path)
    for decode in ("full", "first"):
        report = validate_source(path, decode=decode)
        assert report["kept"] == 0 and len(report["dropped"]) == 1
    with pytest.raises(VidgenError, match="none of 1 clips"):
        VideoDataset(path, num_frames=2, size=16)
    if name == "a.webp":
        return  # Pillow reads a whole file or nothing
    clip = read_video(path, allow_damaged=True)
    assert 0 < len(clip.frames) <= 24 and clip.damage and "damaged: " in clip.error
    with pytest.warns(UserWarning, match="damaged: "):
        assert len(list(iter_frames(path, allow_damaged=True))) == len(clip.frames)
    report = validate_source(path, allow_damaged=True)
    assert report["kept"] == 1 and report["clips"][0]["damage"] and report["clips"][0]["warnings"]
    with pytest.warns(UserWarning, match="1 of 1 clips are damaged"):
        assert VideoDataset(path, num_frames=1, size=16, allow_damaged=True)[0]["video"].shape == (3, 1, 16, 16)


@pytest.mark.parametrize("name", ["a.mkv", "hevc.mkv", "ffv1.mkv"])
def test_matroska_with_checksums_hides_no_flipped_byte(make, name):
    """FFmpeg writes a checksum into every cluster and decodes without looking at it."""
    path = make(name)
    sound = path.read_bytes()
    start = sound.find(b"\x1f\x43\xb6\x75")
    for place in np.random.default_rng(0).integers(start + 20, sound.rfind(b"\x1c\x53\xbb\x6b"), 12):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 4]) + sound[place + 1 :])
        with pytest.raises(VideoError):
            read_video(path)


def test_flags_of_the_decoder_are_heeded(make):
    path = make("a.mp4", codec="libx264", options={"g": "8", "crf": "4"})
    sound = path.read_bytes()
    damaged = bytearray(sound)
    damaged[len(sound) // 2 : len(sound) // 2 + 300] = np.random.default_rng(0).bytes(300)
    path.write_bytes(damaged)
    with pytest.raises(VideoError, match=r"damaged: \d+ frames? decoded"):
        read_video(path)
    clip = read_video(path, allow_damaged=True)
    assert clip.damage.frames >= 1 and len(clip.frames) > 12
    assert len(read_video(path, num_frames=4).frames) == 4  # what lies behind the window does not matter


def test_training_leaves_damaged_files_out_unless_it_may_not(make, tmp_path):
    make("b.mp4", codec="libx264", faststart=True)
    path = make("a.mp4")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.9)])
    data = DataConfig(size=[16, 16], num_frames=3)
    settings = {"kind": "clips", "path": str(tmp_path), "short_side": 16, "hold_out": 0}
    with pytest.warns(UserWarning, match="1 clips left out: a.mp4"):
        assert len(ClipSource(SourceConfig(**settings), data, "train").clips) == 1
    with pytest.warns(UserWarning, match="a.mp4: damaged"):
        assert len(ClipSource(SourceConfig(**settings, allow_damaged=True), data, "train").clips) == 2


def test_a_slice_of_ffv1_is_held_against_its_checksum():
    body = bytes(range(50))
    # a packet of one slice whose checksum was computed bit by bit (RFC 9043, 4.9.3)
    footed = body + len(body).to_bytes(3, "big") + b"\0"
    crc = 0
    for byte in footed:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    packet = footed + crc.to_bytes(4, "big")
    assert not has_damaged_slice(packet)
    assert all(has_damaged_slice(packet[:k] + bytes([packet[k] ^ 1]) + packet[k + 1 :]) for k in range(50))


def test_gaps_are_lacking_frames_in_even_streams_alone():
    def missing(times, lengths=0.04, rate=25):
        steps = EvenSteps(rate, 1e-3)
        for time, length in zip(times, np.broadcast_to(lengths, len(times)), strict=True):
            steps.add(time, time + length)
        return steps.missing

    even = np.arange(60) / 25
    assert missing(even) == 0 and missing(np.round(even, 3)) == 0
    assert missing(np.delete(even, [20, 21])) == 2
    assert missing(np.delete(even, [20]), np.where(np.arange(59) == 19, 0.08, 0.04)) == 0  # it says that it lasts
    assert missing(np.cumsum(np.random.default_rng(0).integers(1, 4, 60)) / 25) == 0
    assert missing(np.delete(even, [20]), rate=1000) == 0


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile 'sound.mp4'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsound.mp4\n#EXT-X-ENDLIST\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>sound.mp4</BaseURL></MPD>',
        "[playlist]\nFile1=sound.mp4\n",
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\n",
    ],
)
@pytest.mark.parametrize("name", ["script.mp4", "script.mkv", "script.gif", "script.m3u8"])
def test_scripts_open_no_other_file(make, tmp_path, text, name):
    make("sound.mp4", codec="libx264")
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(VideoError, match="plain text, not video|cannot be read as video"):
        read_video(path)
    assert validate_source(path)["kept"] == 0


def test_pipes_sockets_and_devices_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket.mp4"))
    (tmp_path / "device.mp4").symlink_to("/dev/zero")
    for path in tmp_path.iterdir():
        with pytest.raises(VideoError, match="not a file"):
            read_video(path)
    assert len(validate_source(tmp_path)["dropped"]) == 4


@pytest.mark.parametrize("trc, name", [(16, "PQ"), (18, "HLG")])
def test_hdr_says_so_once(tmp_path, waves, trc, name):
    import av

    path = tmp_path / "hdr.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.color_trc = trc
        for frame in waves(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    with pytest.warns(UserWarning, match=name) as warned:
        read_video(path)
    assert len(warned) == 1
    with pytest.warns(UserWarning, match=name):
        assert any(name in warning for warning in validate_source(path)["clips"][0]["warnings"])


@pytest.mark.parametrize("height, weights", [(480, (0.299, 0.587, 0.114)), (720, (0.2126, 0.7152, 0.0722))])
def test_a_file_that_names_no_matrix_has_that_of_its_size(make_video, height, weights):
    """`make_video` encodes in BT.601: it is given the colour that BT.601 has for the other matrix's numbers."""

    def matrix(red, green, blue):
        luma = np.array([red, green, blue])
        return np.stack([luma, (np.eye(3)[2] - luma) / (1 - blue), (np.eye(3)[0] - luma) / (1 - red)])

    colour = np.array([150, 90, 110])
    stored = np.linalg.solve(matrix(0.299, 0.587, 0.114), matrix(*weights) @ colour)
    frames = np.broadcast_to(stored.round().astype(np.uint8), (2, height, 64, 3))
    path = make_video(frames, "x.mkv", pix_fmt="yuv444p", options={"crf": "1"})
    assert np.abs(read_video(path).frames[0, height // 2, 32].astype(int) - colour).max() <= 3
