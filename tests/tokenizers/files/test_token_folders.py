"""Paths that never collide, and an index that survives being cut off."""

import dataclasses
import os
from pathlib import Path

import pytest

from vidgen.data.manifests import ClipRecord
from vidgen.errors import VidgenError
from vidgen.tokenizers.files.token_folders import TokenIndex, TokenRow, hash_source, place, read_index

ROW = TokenRow(
    path="a.mp4.safetensors",
    source="in/a.mp4",
    frames=9,
    fps=8.0,
    height=24,
    width=32,
    bytes=3,
    bits=16,
    hash="h",
    tokenizer_hash="t",
)


def test_no_two_names_share_a_path() -> None:
    names = ["a.mp4", "a.mov", "b/a.mp4", "A.mp4", "a.mp4#2", "a.mp4-2", "../a.mp4", "/a.mp4", "a.mp4~2", ".."]
    paths = place(names, ".safetensors")
    assert len({path.casefold() for path in paths}) == len(names)
    assert paths[:3] == ["a.mp4.safetensors", "a.mov.safetensors", "b/a.mp4.safetensors"]
    assert not any(".." in Path(path).parts or Path(path).is_absolute() for path in paths)
    assert place(names[2:3], ".safetensors") == paths[2:3]  # whatever else is there


def test_an_index_cut_short_goes_on(tmp_path: Path) -> None:
    index = TokenIndex(tmp_path)
    rows = [dataclasses.replace(ROW, path=f"{name}.safetensors") for name in "abc"]
    for row in rows:
        (tmp_path / row.path).write_bytes(b"123")
        index.add(row)
    assert read_index(tmp_path) == rows
    index.file.write_bytes(index.file.read_bytes()[:-30])
    again = TokenIndex(tmp_path)
    assert again.holds("b.safetensors", "h") and not again.holds("c.safetensors", "h")
    again.add(rows[2])
    assert read_index(tmp_path) == rows
    again.add(dataclasses.replace(rows[0], frames=5))
    (tmp_path / "b.safetensors").unlink()
    again.save()
    assert [(row.path, row.frames) for row in read_index(tmp_path)] == [("a.safetensors", 5), ("c.safetensors", 9)]


def test_what_is_not_the_same_is_not_held(tmp_path: Path) -> None:
    index = TokenIndex(tmp_path)
    (tmp_path / ROW.path).write_bytes(b"123")
    index.add(ROW)
    assert index.holds(ROW.path, "h") and not index.holds(ROW.path, "other")
    (tmp_path / ROW.path).write_bytes(b"12")
    assert not index.holds(ROW.path, "h")


def test_damaged_or_missing_indices_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(VidgenError, match="no index.jsonl in this folder"):
        read_index(tmp_path)
    (tmp_path / "index.jsonl").write_text('{"path": 3}\n{}\n')
    with pytest.raises(VidgenError, match="line 1: not a row of an index"):
        read_index(tmp_path)
    (tmp_path / "index.jsonl").write_text("\n")
    with pytest.raises(VidgenError, match="lists no token files"):
        read_index(tmp_path)


def test_the_hash_is_of_all_that_tokens_depend_on(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"1")
    record = ClipRecord(path=path, id="a.mp4")
    hashes = [
        hash_source(record, "t", {"size": None}),
        hash_source(record, "u", {"size": None}),
        hash_source(record, "t", {"size": [8, 8]}),
        hash_source(dataclasses.replace(record, start=1.0), "t", {"size": None}),
    ]
    assert hash_source(record, "t", {"size": None}) == hashes[0]
    os.utime(path, (1, 1))
    hashes.append(hash_source(record, "t", {"size": None}))
    assert len(set(hashes)) == 5
    with pytest.raises(VidgenError, match="cannot be read"):
        hash_source(dataclasses.replace(record, path=tmp_path / "none"), "t", {})
