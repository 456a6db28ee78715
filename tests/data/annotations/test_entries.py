"""Entries out of files: JSON as json.loads has it, whatever is held at a time; lines and rows in any encoding."""

import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidgen.data.annotations import entries
from vidgen.data.annotations.entries import iter_json_lines, iter_lines, iter_list, iter_object, iter_table
from vidgen.data.annotations.report import ReadReport, WrongLayout
from vidgen.errors import VidgenError

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6)
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))


@pytest.fixture(params=[1, 3, 64, 2**20])
def chunk(request, monkeypatch) -> int:
    """Letters that are read at a time, few enough for every value to end between two of them."""
    monkeypatch.setattr(entries, "CHUNK", request.param)
    return request.param


@given(values=st.lists(VALUES, max_size=4), indent=st.sampled_from([None, 2]), ascii=st.booleans())
def test_a_list_is_what_json_reads(tmp_path: Path, chunk: int, values: list, indent: int | None, ascii: bool) -> None:
    file = tmp_path / "x.json"
    file.write_text(json.dumps(values, indent=indent, ensure_ascii=ascii) + "\n", encoding="utf-8", errors="replace")
    assert [value for _, value in iter_list(file)] == json.loads(file.read_text(encoding="utf-8"))


@given(table=st.dictionaries(st.text('ab"\\é\n', max_size=3), VALUES, max_size=4))
def test_an_object_is_what_json_reads(tmp_path: Path, chunk: int, table: dict) -> None:
    file = tmp_path / "x.json"
    file.write_text(json.dumps(table))
    assert {key: value for _, key, value in iter_object(file)} == table


@pytest.mark.parametrize(
    "text",
    ["[1, 2", "[1 2]", "[1,]", '["a', "[tru]", "[" * 9000, '[{"a": 1}, {"a" 1}]', "[1, 2,", "[nul", "[1]" + " " * 9],
)
def test_damage_is_one_line_after_what_is_sound(tmp_path: Path, chunk: int, text: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    try:
        sound = len(json.loads(text))
    except (ValueError, RecursionError):
        with pytest.raises(VidgenError, match=r"x\.json: not JSON \(.*\); download it again"):
            list(iter_list(file))
    else:
        assert len(list(iter_list(file))) == sound


def test_another_shape_is_another_layout(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    for text, read in (("{}", iter_list), ("[]", iter_object), ("", iter_list), ("3", iter_object)):
        file.write_text(text)
        with pytest.raises(WrongLayout, match="it is no"):
            list(read(file))
    file.write_text(json.dumps(dict.fromkeys("abc")))
    with pytest.raises(WrongLayout, match="over 2 keys"):
        list(iter_object(file, 2))


@pytest.mark.slow
def test_a_large_file_takes_the_memory_of_its_parts(tmp_path: Path) -> None:
    """One of 8 MB, whose values alone would be four times that, in what a chunk and its text take."""
    file = tmp_path / "x.json"
    value = {"start": list(range(200)), "text": ["words"] * 200}
    file.write_text(json.dumps({f"v{i}": value for i in range(3000)}))
    size = file.stat().st_size
    assert size > 6 * 2**20
    tracemalloc.start()
    try:
        count = sum(1 for _ in iter_object(file))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 3000 and peak < size


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_and_rows_in_any_encoding(tmp_path: Path, encoding: str, end: str) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(f'Name A,b{end}"é, x",1{end}{end}y,2{end}'.encode(encoding))
    report = ReadReport()
    rows = list(iter_table(file, report, "name_a"))
    assert rows == [("line 2", {"name_a": "é, x", "b": "1"}), ("line 4", {"name_a": "y", "b": "2"})]
    assert [where for where, _ in iter_lines(file)] == ["line 1", "line 2", "line 4"] and not report.skipped


def test_bytes_that_are_no_text_are_read_as_manifests_read_them(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(b"a\ncaf\xe9\n")
    assert list(iter_table(file, ReadReport(), "a")) == [("line 2", {"a": "café"})]


def test_rows_and_lines_that_are_none_are_counted(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(entries, "LONGEST_LINE", 40)
    file, report = tmp_path / "x.csv", ReadReport()
    file.write_text("a,b\n1\n1,2,3\n" + '"' + "x\n" * 30 + "1,2\n")
    assert [where for where, _ in iter_table(file, report, "a")][-1] == "line 34"
    assert (
        report.skips[0] == ("line 2", "1 cells where 2 belong") and "not a row of CSV" in dict(report.skips)["line 4"]
    )
    file.write_text('{"a": 1}\n[1]\n{"a"\n\n{"a": 2}\n')
    report = ReadReport()
    assert [cells["a"] for _, cells in iter_json_lines(file, report)] == [1, 2]
    assert [where for where, _ in report.skips] == ["line 2", "line 3"]
    file.write_text("x" * 41 + "\n")
    with pytest.raises(WrongLayout, match="longer than any entry"):
        list(iter_lines(file))
    with pytest.raises(WrongLayout, match="no column z"):
        list(iter_table(tmp_path / "x.csv", report, "z") if file.write_text("a\n") else [])


def test_what_is_no_file_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(VidgenError, match=str(tmp_path)):
            list(iter_lines(path))
