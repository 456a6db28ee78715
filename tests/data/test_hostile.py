"""Awkward and broken files: those made here, and every row of the shared collection against what it expects."""

import csv
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vidgen.data import probe_video, read_video, validate_source
from vidgen.data.reading import open_source
from vidgen.errors import VideoError

COLLECTION = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "hostile.csv"


def load_rows() -> list[dict[str, str]]:
    if not COLLECTION.is_file():
        return []
    with COLLECTION.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


ROWS = load_rows()
# Rows whose numbers differ from a bare decoder's on purpose: FFmpeg has no animated WebP, Pillow has; a stream that
# changes its size is an error after the frames of the first size.
FRAMES = {"hostile/animated.webp": 24, "hostile/size_change.ts": 12}
SIZES = {
    "hostile/animated.webp": (144, 176),
    "hostile/size_change.ts": (144, 176),
    "hostile/rotation_90.mov": (568, 320),
    "hostile/rotation_90_one_frame.mp4": (100, 60),
}
DAMAGED = {"corrupted.mp4", "no_timescale.mp4", "truncated_tail.mp4", "bitflips.mp4", "size_change.ts"}


def one_line(error: pytest.ExceptionInfo, path: Path) -> bool:
    text = str(error.value)
    return "\n" not in text and text.startswith(str(path)) and ";" in text


@pytest.mark.slow
@pytest.mark.skipif(not ROWS, reason="the folder of awkward files is not beside this checkout")
@pytest.mark.parametrize("row", ROWS, ids=[Path(row["path"]).stem for row in ROWS])
def test_each_row_does_what_it_says(shared_data, row):
    path = shared_data / row["path"]
    expected = FRAMES.get(row["path"], int(row["frames"] or 0))
    if not expected:
        with pytest.raises(VideoError) as error:
            read_video(path, size=32)
        assert one_line(error, path)
        return
    damaged = path.name in DAMAGED
    if damaged:
        with pytest.raises(VideoError, match=r"damaged: \d+ frames? decoded|no frame decodes") as error:
            read_video(path, size=32)
        assert one_line(error, path)
    clip = read_video(path, size=32, allow_damaged=damaged)
    assert len(clip.frames) > expected // 2 if damaged else clip.frames.shape == (expected, 32, 32, 3)
    assert bool(clip.damage) == (clip.error is not None) == damaged
    assert clip.times[0] == 0 and (np.diff(clip.times) >= 0).all()
    first = read_video(path, num_frames=1, allow_damaged=damaged)
    info = probe_video(path, allow_damaged=damaged)
    size = SIZES.get(row["path"], (int(row["height"] or 0), int(row["width"] or 0)))
    assert first.frames.shape[1:3] == size == (info.height, info.width)
    if not damaged:
        with open_source(path) as source:
            np.testing.assert_allclose(source.timeline().times, clip.times, atol=1e-9)


@pytest.mark.slow
def test_seeking_equals_decoding_in_order(shared_data):
    for name in ("long_gop_bframes.mp4", "vfr.mp4", "late_start.ts", "edit_list_trim.mp4", "unordered_pts.mov"):
        path = shared_data / "hostile" / name
        whole = read_video(path)
        for index in range(0, len(whole.frames), 1 if len(whole.frames) < 9 else 7):
            clip = read_video(path, start=whole.times[index], num_frames=1)
            np.testing.assert_array_equal(clip.frames[0], whole.frames[index], err_msg=f"{name}, frame {index}")


def test_known_pictures(shared_data):
    hostile = shared_data / "hostile"
    assert (read_video(hostile / "black_120.mp4").frames <= 2).all()
    assert (read_video(hostile / "white_300.mp4", num_frames=30).frames >= 253).all()
    gray = read_video(hostile / "gray8.mkv", num_frames=8).frames.astype(int)
    deep = read_video(hostile / "gray16.mkv", num_frames=8).frames.astype(int)
    assert np.abs(gray - deep).max() <= 2 and gray.std() > 20


@pytest.mark.slow
def test_a_damaged_collection_is_counted_and_named(shared_data):
    report = validate_source(shared_data / "hostile")
    names = {Path(drop["path"]).name for drop in report["dropped"]}
    broken = {Path(row["path"]).name for row in ROWS if not FRAMES.get(row["path"], int(row["frames"] or 0))}
    assert names == (broken | DAMAGED) - {"audio_only.mp3"}  # no suffix of a clip: it is not looked at
    assert report["kept"] == len(report["clips"]) == 45 - len(names)


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "git lfs pull"),
        (b"This is not a video, it is a note.\n" * 40, "plain text"),
        (bytes(range(256)) * 16, "cannot be read as video"),
        (b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2\x00\x00\x10\x00mdat" + bytes(2000), "moov"),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webp", ".png"])
def test_files_that_are_no_video(tmp_path, content, reason, suffix):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=reason) as error:
        read_video(path)
    assert one_line(error, path)


def test_paths_that_are_no_file(tmp_path):
    for path, reason in ((tmp_path / "absent.mp4", "no such file"), (tmp_path, "a folder, but not of numbered frames")):
        with pytest.raises(VideoError, match=reason) as error:
            read_video(path)
        assert one_line(error, path)


def test_names_that_look_like_protocols_or_patterns(make_video, numbered):
    path = make_video(numbered(4))
    for name in ("a:b.mp4", "50%d done.mp4", "späce ünd.mp4", "concat:x|y.mp4"):
        path = path.rename(path.with_name(name))
        assert len(read_video(path).frames) == 4


def test_truncated_file_says_how_much_there_is(make_video, waves):
    path = make_video(waves(40, 96, 128), options={"crf": "10"}, faststart=True)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    with pytest.raises(VideoError, match=r"damaged: \d+ frames? decoded .*cut short.*--allow-damaged"):
        read_video(path)
    clip = read_video(path, allow_damaged=True)
    assert 5 < len(clip.frames) < 40 and "cut short" in clip.error and clip.damage.missing
    with pytest.warns(FutureWarning, match="allow_damaged"):
        assert read_video(path, strict=False).damage == clip.damage
    assert len(read_video(path, num_frames=4).frames) == 4  # damage behind the window does not matter


PIX_FMTS = {"ffv1": "bgr0", "mjpeg": "yuvj420p", "gif": "rgb8"}
CODECS = {
    **{
        "x.mp4": "libx264",
        "x.mkv": "ffv1",
        "x.avi": "mjpeg",
        "x.ts": "libx264",
        "x.webm": "libvpx",
        "x.flv": "libx264",
    },
    **{"x.mpg": "mpeg2video", "x.wmv": "wmv2", "x.y4m": "rawvideo", "x.gif": "gif", "hevc.mp4": "libx265"},
    **dict.fromkeys(("x.png", "x.apng", "x.webp", "x.jpg", "x.tif", "x.bmp")),  # Pillow's
}


@pytest.fixture(params=CODECS)
def sound(request, make_video, numbered, tmp_path) -> Path:
    """A file of each format: of eight frames, where it may have several."""
    name, codec = request.param, CODECS[request.param]
    if codec is not None:
        options = {"x265-params": "log-level=none:pools=none:frame-threads=1"} if codec == "libx265" else None
        return make_video(numbered(8), name, codec=codec, pix_fmt=PIX_FMTS.get(codec, "yuv420p"), options=options)
    first, *others = (Image.fromarray(frame) for frame in numbered(8))
    several = {"save_all": True, "append_images": others, "duration": 40} if name in ("x.apng", "x.webp") else {}
    first.save(tmp_path / name, **several)
    return tmp_path / name


@given(seed=st.integers(0, 2**32))
def test_changed_bytes_end_in_frames_or_one_line(sound, fuzzing, seed):
    path = sound.with_name(f"changed{sound.suffix}")
    path.write_bytes(fuzzing["change_file"](sound.read_bytes(), random.Random(seed)))
    refused = None
    try:
        read_video(path)
    except VideoError as error:
        refused = str(error)
        assert "\n" not in refused and str(path) in refused
    try:
        clip = read_video(path, allow_damaged=True, size=32)
        assert clip.frames.shape == (len(clip.times), 32, 32, 3)
        assert bool(clip.damage) == (refused is not None) or CODECS[sound.name] not in ("libx264", "ffv1")
    except VideoError as error:
        assert refused is not None and "\n" not in str(error)
    validate_source(path)
    validate_source(path, decode="first")
