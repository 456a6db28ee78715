"""Manifests and folders as people have them: what was written comes back, or one line says why not."""

import csv
import io
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vidgen.data.manifests import ClipRecord, find_clips
from vidgen.data.reading import open_source
from vidgen.data.text_files import decode_text, readable
from vidgen.errors import VideoError, VidgenError
from vidgen.files.json_lines import json_line

ODD = "a\u2028b\x85c\x0bd\x1ce, \"f\" 'g';\n#日本"
# No surrogates and no NUL, which no file has; the first letter keeps a cell from being blank or a number.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12).map("x".__add__)
tables = st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=5)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def told(folder: Path) -> list[tuple]:
    return [(record.id, record.caption, record.label, record.split) for record in find_clips(folder)]


def as_csv(rows: list[tuple[str, ...]], delimiter: str = ",") -> str:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([("path", "caption", "note"), *rows])
    return text.getvalue()


@given(table=tables, form=st.sampled_from(["csv", "tsv", "jsonl", "json"]), mark=st.booleans())
@example(table=[("x.mp4", ODD, ODD)], form="csv", mark=True)
@example(table=[("x.mp4", ODD, ODD)], form="jsonl", mark=False)
def test_what_is_written_is_read(tmp_path, table, form, mark):
    rows = [dict(zip(("path", "caption", "note"), row, strict=True)) for row in table]
    text = {
        "csv": lambda: as_csv(table),
        "tsv": lambda: as_csv(table, "\t"),
        "jsonl": lambda: "".join(map(json_line, rows)),
        "json": lambda: json.dumps(rows, ensure_ascii=False),
    }[form]()
    file = tmp_path / f"m.{form}"
    file.write_bytes((b"\xef\xbb\xbf" if mark else b"") + text.encode())
    records = find_clips(file)
    assert [(r.caption, r.extra["note"]) for r in records] == [row[1:] for row in table]
    assert [r.path for r in records] == [tmp_path / row[0] for row in table]
    assert len({record.id for record in records}) == len(records)


SEEDS = [
    as_csv([("a.mp4", "one, two", "x"), ("b.mp4", 'the "best"', ""), ("c.mp4", "é\u2028", "3")]).encode(),
    b"path;start;end\r\na.mp4;0:01.5;2\r\nb.mp4;0;1\r\n",
    b'{"path": "a.mp4", "caption": "x", "start": 1, "duration": 2, "n": [1]}\n{"path": "b.mp4", "label": null}\n',
    b'[{"video": "a.mp4", "text": "\\ud83d\\ude00"}]',
    b"a.mp4 1\nb.mp4 2\n",
]
ODDITIES = [
    b"\0",
    b'"',
    b",",
    b"\n",
    b"\r",
    b"\xff\xfe",
    b"\xe2\x80\xa8",
    b"\\ud800",
    b"{",
    b"[" * 3000,
    b"x" * 140_000,
]
ODDITIES += [b"NaN", b"1e999", b"9" * 5000, b"-1", b"\xed\xa0\x80", b"../", b"true", b"{}"]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 0, 1, 2, 9])))
        data = data[:start] + draw(st.sampled_from([b"", *ODDITIES]) | st.binary(max_size=4)) + data[end:]
    return data


@given(data=mutated(), form=st.sampled_from(["csv", "jsonl", "json", "txt", "parquet"]))
@example(data=b'{"path": "a.mp4", "caption": "\\ud800"}', form="jsonl")
@example(data=b"path,caption\na\0.mp4,x\n", form="csv")
@example(data=b'path,caption\na.mp4,"never ends\nb.mp4,x\n', form="csv")
@example(data=b'{"path": "\\ud800.mp4"}', form="jsonl")
@example(data=b"x" * 300 + b".mp4\n", form="txt")
@example(data=b"x/" * 3000 + b".mp4\n", form="txt")
@example(data=b'{"path": ' + b"[" * 100_000, form="jsonl")
@example(data=b'{"path": "a.mp4", "start": ' + b"9" * 5000 + b"}", form="jsonl")
def test_damaged_manifests_give_rows_or_one_line(tmp_path, data, form):
    file = tmp_path / f"m.{form}"
    file.write_bytes(data)
    try:
        records = find_clips(file)
    except VidgenError as error:
        assert str(error).startswith(str(tmp_path)) and len(str(error)) < 1000
        return
    for record in records:
        texts = [record.id, record.caption, record.label, *record.extra, *record.extra.values()]
        assert all(isinstance(text, str) and text.encode() is not None for text in texts if text is not None)
        assert (
            "\0" not in str(record.path)
            and 0 <= record.start < 1e9
            and (record.duration is None or record.duration > 0)
        )
        record.path.exists()


@given(table=tables, data=st.data())
def test_a_cell_too_few_or_too_many_is_no_shift(tmp_path, table, data):
    plain = [[readable(cell).translate(str.maketrans(dict.fromkeys('",\r\n', "_"))) for cell in row] for row in table]
    number = data.draw(st.integers(0, len(plain) - 1))
    broken = plain[number][:-1] if data.draw(st.booleans()) else [*plain[number], "more"]
    lines = [",".join(row) for row in [["path", "caption", "note"], *plain[:number], broken, *plain[number + 1 :]]]
    (tmp_path / "m.csv").write_text("\n".join(lines), "utf-8", newline="\n")
    with pytest.raises(VidgenError, match=f"line {number + 2}: . cells"):
        find_clips(tmp_path / "m.csv")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_encodings(tmp_path, encoding):
    caption = "Ein Café, größer"
    touch(tmp_path, "a.mp4")
    (tmp_path / "a.txt").write_bytes(f"{caption}\r\n".encode(encoding))
    assert find_clips(tmp_path)[0].caption == caption
    (tmp_path / "m.csv").write_bytes(f'path,caption\r\na.mp4,"{caption}"\r\n'.encode(encoding))
    assert find_clips(tmp_path / "m.csv")[0].caption == caption


def test_one_bad_byte_spoils_one_letter():
    assert readable(decode_text("größe ".encode() + b"\xe9")) == "größe é"


def test_names_of_files_that_are_no_text(tmp_path, make_video, numbered):
    name = os.fsencode(tmp_path) + b"/clip\xff.mp4"
    os.rename(make_video(numbered(3), "a.mp4"), name)
    (record,) = find_clips(tmp_path)
    assert record.id == "clipÿ.mp4" and os.fsencode(record.path) == name
    with open_source(record.path) as source:
        assert source.info.num_frames == 3
    for text in (b"path,caption\nclip\xff.mp4,x\n", json_line({"path": os.fsdecode(b"clip\xff.mp4")}).encode()):
        file = tmp_path / ("m.csv" if text.startswith(b"path") else "m.jsonl")
        file.write_bytes(text)
        assert os.fsencode(find_clips(file)[0].path) == name


@pytest.mark.parametrize("caption", ["x.TXT", "x.Txt", "x.txt", "x.caption"])
@pytest.mark.parametrize("clip", ["x.mp4", "x.MP4"])
def test_captions_in_any_case(tmp_path, clip, caption):
    touch(tmp_path, clip, "y.mp4")
    (tmp_path / caption).write_text("of x")
    assert told(tmp_path) == [(clip, "of x", None, None), ("y.mp4", None, None, None)]


def test_links_lead_to_each_file_once(tmp_path):
    real = touch(tmp_path / "real", "b/1.mp4", "b/2.mp4")
    outside = touch(tmp_path / "outside", "3.mp4", "deep/4.mp4")
    (real / "again").symlink_to(".")
    (real / "b" / "up").symlink_to("..")
    (real / "a").symlink_to("b")  # comes first by its name, and is not what is named
    (real / "b" / "1 too.mp4").symlink_to("1.mp4")
    (real / "c").symlink_to(outside)
    (outside / "deep" / "back").symlink_to(real)
    (real / "self.mp4").symlink_to("self.mp4")
    assert [record.id for record in find_clips(real)] == ["b/1.mp4", "b/2.mp4", "c/3.mp4", "c/deep/4.mp4", "self.mp4"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_pipes_are_named(tmp_path):
    os.mkfifo(tmp_path / "live.mp4")
    os.mkfifo(tmp_path / "live.txt")
    for source in (tmp_path, tmp_path / "live.mp4"):
        (record,) = find_clips(source)
        with pytest.raises(VideoError, match="named pipe"), open_source(record.path):
            pass
    os.mkfifo(tmp_path / "m.csv")
    with pytest.raises(VideoError, match="named pipe"), open_source(find_clips(tmp_path / "m.csv")[0].path):
        pass


def test_split_folders_with_metadata(tmp_path):
    for folder in ("train", "validation", "test"):
        (touch(tmp_path, f"{folder}/1.mp4") / folder / "metadata.csv").write_text(
            f"file_name,text\n1.mp4,of {folder}\n"
        )
    assert told(tmp_path) == [(f"{n}/1.mp4", f"of {n}", None, n) for n in ("test", "train", "validation")]


def test_split_folders_of_classes(tmp_path):
    touch(tmp_path, "train/jump/1.mp4", "train/bend/1.mp4", "val/jump/2.mp4")
    labels = [
        ("train/bend/1.mp4", "bend", "train"),
        ("train/jump/1.mp4", "jump", "train"),
        ("val/jump/2.mp4", "jump", "validation"),
    ]
    assert [(id, label, split) for id, _, label, split in told(tmp_path)] == labels
    touch(tmp_path, "loose/3.mp4")
    assert {(label, split) for _, _, label, split in told(tmp_path)} == {(None, None)}


def test_lists_of_prompts_and_videos(tmp_path):
    touch(tmp_path, "videos/a b.mp4", "videos/b.mp4")
    (tmp_path / "videos.txt").write_text("videos/a b.mp4\nvideos/b.mp4\n")
    (tmp_path / "prompts.txt").write_bytes(b"one\xe2\x80\xa8line\r\n\r\n")
    with pytest.raises(VidgenError, match="1 lines, and videos.txt 2"):
        find_clips(tmp_path)
    (tmp_path / "prompts.txt").write_bytes(b"one\xe2\x80\xa8line\r\ntwo\r\n")
    for source in (tmp_path, tmp_path / "videos.txt"):
        assert told(source) == [("videos/a b.mp4", "one\u2028line", None, None), ("videos/b.mp4", "two", None, None)]
    (tmp_path / "list.txt").write_text("videos/a b.mp4 3\n")
    assert told(tmp_path / "list.txt") == [("videos/a b.mp4", None, "3", None)]


@pytest.mark.parametrize(
    "text, start, duration",
    [
        ("path,start,end\na.mp4,0.5,2\n", 0.5, 1.5),
        ("path,end\na.mp4,2\n", 0.0, 2.0),
        ("Path,START,Duration\na.mp4,00:01:01.5,0:02\n", 61.5, 2.0),
        ("path,start,end,duration\na.mp4,1,3,2\n", 1.0, 2.0),
    ],
)
def test_parts_of_a_clip(tmp_path, text, start, duration):
    (tmp_path / "m.csv").write_text(text)
    expected = ClipRecord(path=tmp_path / "a.mp4", id="a.mp4", start=start, duration=duration)
    assert find_clips(tmp_path / "m.csv") == [expected]


@pytest.mark.parametrize(
    "text, reason",
    [
        ("path,start,end\na.mp4,2,1\n", "ends at 1 s, and starts at 2 s"),
        ("path,start,end,duration\na.mp4,0,3,2\n", "make them agree"),
        ("path,fps\na.mp4,0:25\n", "fps is '0:25'"),
        ("path,start\na.mp4,nan\n", "start is 'nan'"),
        ("path,caption,caption\na.mp4,x,y\n", "header has 'caption' twice"),
        ("path,caption\n,x\n", "path is blank"),
    ],
)
def test_parts_that_cannot_be(tmp_path, text, reason):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(VidgenError, match=reason):
        find_clips(tmp_path / "m.csv")


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"file_name": ["a.mp4", "b.mp4"], "text": ["one", None]})
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "metadata.parquet")
    assert told(tmp_path) == [("a.mp4", "one", None, None), ("b.mp4", None, None, None)]


def test_parquet_without_its_library(tmp_path, monkeypatch):
    (touch(tmp_path, "a.mp4") / "metadata.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(VidgenError, match=r"pip install 'vidgen\[export\]'"):
        find_clips(tmp_path)


def test_too_long_a_caption_is_refused(tmp_path):
    touch(tmp_path, "a.mp4")
    with (tmp_path / "a.txt").open("wb") as file:
        file.truncate(2**33)  # sparse: takes no room
    with pytest.raises(VidgenError, match="more than 1 MB"):
        find_clips(tmp_path)


def test_lines_of_json_end_with_line_feeds_alone():
    assert json_line({"a": ODD, "b": "\udcff"}).isascii() and json.loads(json_line({"b": "\udcff"})) == {"b": "\udcff"}
    assert json_line({"a": "größe"}) == '{"a": "größe"}\n'
