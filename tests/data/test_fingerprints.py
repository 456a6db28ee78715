"""A clip that has changed is told from one that has not: by size and time, and by its contents where these differ."""

import os
import tarfile

import pytest

from vidgen.data.fingerprints import HASHED_BYTES, Fingerprint, describe_source, is_current
from vidgen.data.manifests import ClipRecord, find_clips


def clip(tmp_path, data: bytes = b"first") -> ClipRecord:
    (tmp_path / "a.mp4").write_bytes(data)
    return ClipRecord(path=tmp_path / "a.mp4", id="a.mp4")


def test_another_time_alone_is_no_change(tmp_path):
    record = clip(tmp_path)
    before = describe_source(record)
    assert is_current(before, record)
    os.utime(record.path, (1, 1))
    assert is_current(before, record)


@pytest.mark.parametrize("data", [b"other", b"longer than first", b""])
def test_other_contents_are_a_change_whatever_the_time_says(tmp_path, data):
    record = clip(tmp_path)
    before = describe_source(record)
    stat = record.path.stat()
    record.path.write_bytes(data)
    os.utime(record.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not is_current(before, record)


def test_another_part_or_caption_is_a_change(tmp_path):
    record = clip(tmp_path)
    before = describe_source(record, "caption")
    assert is_current(before, record, "caption") and not is_current(before, record, "other")
    assert not is_current(before, ClipRecord(path=record.path, id="a.mp4", start=1.0), "caption")
    assert not is_current({}, record, "caption")


def test_a_file_that_is_gone_is_no_change(tmp_path):
    record = clip(tmp_path)
    before = describe_source(record)
    record.path.unlink()
    assert is_current(before, record)


def test_large_files_go_by_their_time(tmp_path):
    record = clip(tmp_path)
    with record.path.open("wb") as file:
        file.truncate(HASHED_BYTES + 1)
    before = Fingerprint.of(record.path)
    assert before.hash == "" and before.fits(record.path)
    os.utime(record.path)
    assert not before.fits(record.path)


def test_clips_in_archives_and_folders_of_frames(tmp_path):
    def pack(*contents: bytes) -> None:
        with tarfile.open(tmp_path / "x.tar", "w") as tar:
            for name, data in zip("ab", contents, strict=True):
                (tmp_path / name).write_bytes(data)
                tar.add(tmp_path / name, f"{name}.mp4")

    pack(b"one", b"two")
    a, b = find_clips(tmp_path / "x.tar")
    before = [describe_source(a), describe_source(b)]
    pack(b"one", b"new")
    assert is_current(before[0], a) and not is_current(before[1], b)
    frames = ClipRecord(path=tmp_path / "frames", id="frames")
    frames.path.mkdir()
    (frames.path / "1.png").write_bytes(b"1")
    before = describe_source(frames)
    (frames.path / "1.png").write_bytes(b"2")
    assert not is_current(before, frames)
