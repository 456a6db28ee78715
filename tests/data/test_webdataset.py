"""Clips in tars are the clips that went in, with all that is said of them, and damage costs what it damages."""

import io
import json
import random
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidgen.data import VideoDataset, find_clips, read_video, validate_source, write_video
from vidgen.data.webdataset import archive_of, list_samples, open_bytes
from vidgen.errors import VideoError, VidgenError


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("clip")
    frames = np.random.default_rng(0).integers(0, 256, (6, 16, 24, 3), np.uint8)
    return write_video(frames, folder / "x.mkv", fps=10).read_bytes()


@pytest.fixture
def archive(tmp_path, clip):
    """Three samples, of which the second has no clip, and a picture."""
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        add(tar, "x/00.mkv", clip)
        add(tar, "x/00.txt", b"a red\ncircle")
        add(tar, "x/00.json", json.dumps({"split": "test", "subject": 7, "duration": 0.35}).encode())
        add(tar, "x/01.txt", b"of nothing")
        add(tar, "02.left.mkv", clip)
        add(tar, "02.cls", b"3")
        add(tar, "broken.mp4", b"this is plain text")
    return path


def test_clips_are_read_where_they_lie(archive, clip, tmp_path):
    records = find_clips(archive)
    assert [record.id for record in records] == ["x/00.mkv", "02.left.mkv", "broken.mp4"]
    first, second, _ = records
    assert (first.caption, first.duration, first.extra) == ("a red circle", 0.35, {"split": "test", "subject": "7"})
    assert second.label == "3" and second.caption is None
    (tmp_path / "x.mkv").write_bytes(clip)
    truth = read_video(tmp_path / "x.mkv")
    for start in (0.0, 0.3):
        one = read_video(second.path, start=start)
        later = truth.times >= start
        np.testing.assert_array_equal(one.frames, truth.frames[later])
        np.testing.assert_allclose(one.times, truth.times[later])
    with open_bytes(first.path) as file:
        assert file.read() == clip and file.seek(-4, io.SEEK_END) == len(clip) - 4 and file.read(9) == clip[-4:]
    assert archive_of(first.path) == archive and archive_of(archive) is None and archive_of(tmp_path / "y") is None


def test_one_bad_clip_is_one_line(archive):
    found = validate_source(archive, num_frames=3)
    assert [row["frames"] for row in found["clips"]] == [4, 6]
    (drop,) = found["dropped"]
    assert drop["path"].endswith("a.tar/broken.mp4") and "plain text" in drop["reason"]


def test_a_tar_that_is_cut_short_gives_what_it_has(archive, clip):
    whole = archive.read_bytes()
    archive.write_bytes(whole[: whole.index(b"02.left.mkv") + 512 + len(clip) // 2])
    with pytest.warns(UserWarning, match="damaged after 4 files: it is cut short; copy it again"):
        dataset = VideoDataset(archive, num_frames=3, size=16)
    assert [record.id for record in dataset.records] == ["x/00.mkv"] and len(dataset.dropped) == 1


def test_a_folder_of_tars_holds_what_they_hold(archive, tmp_path):
    (tmp_path / "b.tar").write_bytes(archive.read_bytes())
    ids = [record.id for record in find_clips(tmp_path)]
    assert ids[:3] == ["a.tar/x/00.mkv", "a.tar/02.left.mkv", "a.tar/broken.mp4"] and ids[3] == "b.tar/x/00.mkv"


def test_what_is_not_there_is_one_line(archive, tmp_path):
    with pytest.raises(VideoError, match="nothing.mp4: no such file in this archive"):
        read_video(archive / "nothing.mp4")
    with tarfile.open(tmp_path / "empty.tar", "w") as tar:
        add(tar, "a.txt", b"words")
        add(tar, "._a.mp4", b"of another system")
    with pytest.raises(VidgenError, match="no clips in its tars"):
        find_clips(tmp_path / "empty.tar")
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        add(tar, "a.mp4", b"")
        add(tar, "a.json", b"{")
    with pytest.raises(VidgenError, match="bad.tar/a.json: not JSON"):
        find_clips(tmp_path / "bad.tar")
    (tmp_path / "no.tar").write_bytes(b"z" * 2000)
    assert [key for key, _ in list_samples(tmp_path / "no.tar")] == ["the rest"]


@given(seed=st.integers(0, 2**32))
def test_changed_tars_give_clips_or_one_line(archive, fuzzing, tmp_path, seed):
    path = tmp_path / "changed.tar"
    path.write_bytes(fuzzing["change_file"](archive.read_bytes(), random.Random(seed)))
    try:
        for record in find_clips(path):
            assert all(text is None or text.encode() for text in (record.id, record.caption or None, record.label))
            try:
                read_video(record.path)
            except VideoError as error:
                assert "\n" not in str(error)
    except VidgenError as error:
        assert "\n" not in str(error) and str(path) in str(error)
