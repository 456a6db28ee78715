"""Each layout against a small file in its form: what is good comes out, what is not is counted and named."""

import csv
import json
import runpy
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidgen.data.annotations.record import Annotation, Box, SpanError, parse_span, split_in_name
from vidgen.data.annotations.registry import LAYOUTS, guess_layout, read_annotations
from vidgen.data.annotations.report import HOPELESS, NAMED_SKIPS, ReadReport
from vidgen.errors import VidgenError

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"


class Case(NamedTuple):
    """A file in the form of a layout, and what must come of it."""

    file: str
    text: str
    good: list[tuple]
    skipped: int = 1
    bad_spans: int = 0
    first_skip: str = ""


FILES = [runpy.run_path(str(FIXTURES / f"annotations_of_{kind}.py")) for kind in ("spans", "actions")]
CASES = {layout: Case(**case) for names in FILES for layout, case in names["CASES"].items()}
lines = FILES[0]["lines"]


def write(folder: Path, case: Case) -> Path:
    file = folder / case.file
    file.write_text(case.text, encoding="utf-8")
    return file


def read(layout: str, file: Path) -> tuple[list[Annotation], ReadReport]:
    report = ReadReport()
    return list(read_annotations(layout, file, report)), report


def facts(annotation: Annotation) -> tuple:
    a = annotation
    return a.video, a.clip, a.captions, a.labels, a.start, a.end, a.split


def test_every_layout_has_a_case() -> None:
    assert set(CASES) == set(LAYOUTS)


@pytest.mark.parametrize("layout", CASES)
def test_a_layout_is_read_past_what_is_damaged(layout: str, tmp_path: Path) -> None:
    case = CASES[layout]
    annotations, report = read(layout, write(tmp_path, case))
    assert [facts(a) for a in annotations] == [
        (*good[:4], *(None if t is None else pytest.approx(t) for t in good[4:6]), good[6]) for good in case.good
    ]
    assert (report.read, report.skipped, report.bad_spans) == (len(case.good), case.skipped, case.bad_spans)
    assert " ".join(report.skips[0]).startswith(case.first_skip) and case.first_skip
    assert len(report.skips) == case.skipped


@pytest.mark.parametrize("layout", CASES)
def test_another_layouts_file_is_one_line_that_names_it(layout: str, tmp_path: Path) -> None:
    file = tmp_path / "VIDEO_annotations.json"
    file.write_text(json.dumps([{"vid": "a", "caption": "b"}]), encoding="utf-8")
    other = "vidgen_1m"
    if layout == other:
        file.write_text(json.dumps({"v_a": {"duration": 9, "timestamps": [[0, 1]], "sentences": ["x"]}}))
        other = "activitynet_captions"
    with pytest.raises(VidgenError, match=f"not of layout {layout} .*; it looks like {other}$"):
        read(layout, file)


def test_sound_files_are_told_by_their_form(tmp_path: Path) -> None:
    alike = {"msvd_indonesian": "msvd", "vidchapters": "activitynet_captions"}
    texts = {
        "msvd_indonesian": "a_1_2 x\n",
        "didemo": json.dumps([{"description": "x", "video": "v.mp4", "times": [[0, 1]], "num_segments": 6}]),
        "ava": "v,0902,0.1,0.1,0.2,0.2,80,1\n",
        "charades_sta": "A 0 1##x\n",
        "vidchapters": json.dumps({"a": {"duration": 9, "timestamps": [[0, 1]], "sentences": ["x"]}}),
        "mad": json.dumps({"1": {"movie": "m", "sentence": "x", "timestamps": [1, 2], "movie_duration": 9.5}}),
        "ucf101": "A/v_A_g01_c01.avi\n",
        "internvid": lines({"YoutubeID": "x", "Start_timestamp": "1", "End_timestamp": "2", "Caption": "c"}),
        "qvhighlights": lines({"query": "x", "vid": "v", "relevant_windows": [[0, 2]]}),
    }
    for layout, text in texts.items():
        file = tmp_path / f"{layout}.txt"
        file.write_text(text)
        assert guess_layout(file) == alike.get(layout, layout)
    file.write_text("nothing of the kind\n")
    assert guess_layout(file) is None


def test_a_file_of_nothing_known_says_what_belongs_there(tmp_path: Path) -> None:
    file = tmp_path / "x.txt"
    file.write_text("a\nb\n")
    with pytest.raises(
        VidgenError, match=r"none of its 2 entries can be read; line 1: not VIDEO.*it needs charades_sta"
    ):
        read("charades_sta", file)
    file.write_text("x\n" * (HOPELESS + 5))
    with pytest.raises(VidgenError, match=f"none of its first {HOPELESS} entries"):
        read("ava", file)
    file.write_text("")
    for layout in LAYOUTS:
        with pytest.raises(VidgenError, match=f"x.txt: not of layout {layout} "):
            read(layout, file)
    with pytest.raises(VidgenError, match="nowhere.*cannot be read: No such file"):
        read("ava", tmp_path / "nowhere")
    with pytest.raises(VidgenError, match="layout 'avva' is unknown; choose one of msrvtt, "):
        read("avva", file)


def test_more_forms_of_one_layout(tmp_path: Path) -> None:
    def read_text(layout: str, name: str, text: str) -> list[tuple]:
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        annotations, report = read(layout, file)
        assert not report.skipped
        return [facts(a) for a in annotations]

    rows = "key,vid_key,video_id,sentence\nret0,msr9770,video9770,a person connects\n"
    assert read_text("msrvtt", "MSRVTT_JSFUSION_test.csv", rows)[0][:3] == ("video9770", None, ("a person connects",))
    rows = (
        "VideoID,Start,End,WorkerID,Source,AnnotationTime,Language,Description\n"
        "ab,5,15,1,clean,16,English,x\nab,5,15,1,clean,16,English,y\nab,5,15,2,clean,16,German,z\n"
    )
    assert [a[2] for a in read_text("msvd", "video_corpus.csv", rows)] == [("x", "y"), ("z",)]
    assert read_text("howto100m", "vid-1.csv", "start,end,text\n0.5,2,hello\n")[0][:6] == (
        "vid-1", None, ("hello",), (), 0.5, 2,
    )  # fmt: skip
    rows = "video_id,category_1,category_2,rank,task_id\nnVb,Cars,Motorcycles,27,52907\n"
    assert read_text("howto100m", "HowTo100M_v1.csv", rows)[0][3] == ("Cars", "Motorcycles")
    text = json.dumps({"a": {"start": [1], "end": [2], "text": [["one", "two"]]}})
    assert read_text("howto100m", "howtocaption.json", text)[0][2] == ("one", "two")
    assert read_text("something_something", "test.json", '[{"id": 1420}]')[0] == (
        "1420", None, (), (), None, None, "test",
    )  # fmt: skip
    assert read_text("ucf101", "testlist01.txt", "A/v_A_g01_c01.avi\r\n")[0][6] == "test"
    assert read_text("ava", "v.csv", "a,0902,0,0,1,1,80\n")[0][3] == ("80",)
    (tmp_path / "split.csv").write_text("imdbid,split\ntt1,val\n")
    rows = "videoid,imdbid,description\nx,tt1,d\ny,tt2,e\n"
    assert [a[6] for a in read_text("condensed_movies", "descriptions.csv", rows)] == ["validation", None]


def test_details_that_readers_keep(tmp_path: Path) -> None:
    didemo, _ = read("didemo", write(tmp_path, CASES["didemo"]))
    assert didemo[0].extra["times"] == [(15, 20), (5, 25), (5, 25), (0, 5)] and didemo[0].extra["annotation_id"] == 7
    ava, _ = read("ava", write(tmp_path, CASES["ava"]))
    box = Box(time=902, x1=0.077, y1=0.151, x2=0.283, y2=0.811, label="80", person="1")
    assert ava[0].boxes[0] == box and ava[0].extra == {"keyframe": 902}
    panda, _ = read("panda_70m", write(tmp_path, CASES["panda_70m"]))
    assert panda[0].extra == {"matching_score": 0.43, "desirable_filtering": "desirable"}
    ucf, _ = read("ucf101", write(tmp_path, CASES["ucf101"]))
    assert ucf[0].extra == {"group": "ApplyEyeMakeup_g08", "fold": "01"}
    assert read("activitynet_captions", write(tmp_path, CASES["activitynet_captions"]))[0][0].aliases == ("aaa",)
    charades, _ = read("charades", write(tmp_path, CASES["charades"]))
    assert charades[0].extra["objects"] == "food;stove" and charades[1].extra == {"part": "action"}
    fine, _ = read("finevideo", write(tmp_path, CASES["finevideo"]))
    assert fine[0].aliases == ("sample_0",) and [a.extra["part"] for a in fine] == ["video", "scene", "activity"]
    lsmdc, _ = read("lsmdc", write(tmp_path, CASES["lsmdc"]))
    assert lsmdc[0].extra["aligned_start"] == pytest.approx(5149.077)


def test_skips_are_counted_beyond_those_that_are_named(tmp_path: Path) -> None:
    file = tmp_path / "charades_sta_test.txt"
    file.write_text("A 0 1##x\n" + "A 2 1##x\n" * 50)
    _, report = read("charades_sta", file)
    assert (report.read, report.skipped, report.bad_spans, len(report.skips)) == (1, 50, 50, NAMED_SKIPS)
    assert report.skips[0][0] == "line 2"


def test_the_cell_limit_of_csv_is_as_before(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    spans = [["0:00:01", "0:00:02"]] * 9000
    file = tmp_path / "long.csv"
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([("videoID", "timestamp", "caption"), ("v", spans, ["c"] * 9000)])
    assert len(file.read_text()) > 131072 and len(read("panda_70m", file)[0]) == 9000
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("span", "seconds"),
    [((0, 1), (0, 1)), (("1:02.5", "1:00:00"), (62.5, 3600)), ((5, 9.9, 9.5), (5, 9.5)), ((5, 9, ""), (5, 9))],
)
def test_spans_in_any_form(span: tuple, seconds: tuple) -> None:
    assert parse_span(*span) == seconds


@pytest.mark.parametrize("span", [(2, 1), (1, 1), (-1, 2), ("-1", "2"), (0, 0), (5, 12, 9), (9, 9.5, 9)])
def test_spans_that_are_none(span: tuple) -> None:
    with pytest.raises(SpanError):
        parse_span(*span)


@pytest.mark.parametrize("span", [("a", 1), (None, 1), (0, [1]), (0, float("nan")), (True, 2), ("1:99", 100)])
def test_times_that_are_none_are_no_bad_spans(span: tuple) -> None:
    with pytest.raises(VidgenError) as caught:
        parse_span(*span)
    assert isinstance(caught.value, SpanError) == isinstance(span[1], float)  # NaN is a number, of no time


def test_splits_that_names_speak_of() -> None:
    names = {
        "train_data.json": "train",
        "val_1.json": "validation",
        "trainlist01.txt": "train",
        "x-v2-validation.json": "validation",
        "train_val_videodatainfo.json": None,
        "descriptions.csv": None,
        "LSMDC16_annos_training.csv": "train",
    }
    assert {name: split_in_name(Path(name)) for name in names} == names


WORDS = st.sampled_from([",", '"', "[", "]", "{", "}", "\n", "\t", "0", "-1", "null", "1e999", "\\", "\0", "é", ""])


@pytest.mark.fuzz
@given(layout=st.sampled_from(sorted(CASES)), data=st.data())
def test_damaged_files_are_annotations_or_one_line(tmp_path: Path, layout: str, data: st.DataObject) -> None:
    case = CASES[layout]
    text = case.text
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(WORDS) + text[at + data.draw(st.integers(0, 9)) :]
    file = tmp_path / case.file
    file.write_text(text, encoding="utf-8", newline="")
    try:
        annotations, report = read(layout, file)
    except VidgenError as error:
        assert str(error).startswith(str(file)) and "\n" not in str(error)
    else:
        assert annotations and report.read == len(annotations)
        assert all(a.start is None or 0 <= a.start < a.end for a in annotations)
