"""Manifests of annotations: what they say is what `find_clips` reads, of the videos that are there."""

import json
from pathlib import Path

import pytest

from vidgen.data.annotations.importing import VideoFolder, import_annotations
from vidgen.data.manifests import find_clips
from vidgen.errors import VidgenError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def write(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    return file


def rows_of(manifest: Path) -> list[dict]:
    return [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]


def test_videos_are_found_by_any_name(tmp_path: Path) -> None:
    names = ("a/v_x.WEBM", "b/3011_M_01.11.23.496-01.11.25.853.avi", "v.1.mp4", "c/A/clip.avi", ".hidden.mp4", "n.txt")
    folder = VideoFolder(touch(tmp_path, *names))
    names_and_paths = {
        "v_x": "a/v_x.WEBM",
        "v_x.mp4": "a/v_x.WEBM",
        "3011_M_01.11.23.496-01.11.25.853": "b/3011_M_01.11.23.496-01.11.25.853.avi",
        "v.1": "v.1.mp4",
        "A/clip.avi": "c/A/clip.avi",
        "c/A/clip": "c/A/clip.avi",
    }
    assert {name: folder.find(name) for name in names_and_paths} == {
        name: tmp_path / path for name, path in names_and_paths.items()
    }
    assert not [name for name in ("v", "n", ".hidden", "3011_M_01.11.23") if folder.find(name)]
    with pytest.raises(VidgenError, match="no videos in it"):
        VideoFolder(touch(tmp_path / "none", "x.txt"))
    with pytest.raises(VidgenError, match="no such folder"):
        VideoFolder(tmp_path / "nowhere")


def test_spans_are_read_as_windows_of_their_videos(tmp_path: Path) -> None:
    file = write(tmp_path / "val_1.json", json.dumps({
        "v_a": {"duration": 20, "timestamps": [[0, 5], [5, 20.4], [9, 3]], "sentences": ["one", "two", "no"]},
        "v_b": {"duration": 20, "timestamps": [[0, 5]], "sentences": ["b"]},
    }))  # fmt: skip
    touch(tmp_path / "videos", "sub/a.mkv")
    manifest = tmp_path / "m.jsonl"
    report = import_annotations("activitynet_captions", [file], manifest, videos=tmp_path / "videos")
    records = find_clips(manifest)
    assert [(r.path, r.caption, r.start, r.duration, r.split) for r in records] == [
        (tmp_path / "videos/sub/a.mkv", "one", 0, 5, "validation"),
        (tmp_path / "videos/sub/a.mkv", "two", 5, 15, "validation"),
    ]
    assert (report.annotations, report.rows, report.videos, report.skipped, report.bad_spans) == (3, 2, 1, 1, 1)
    assert (report.missing_rows, report.missing_videos, report.missing) == (1, 1, ["v_b"])
    assert report.skips == [
        {"file": str(file), "where": "entry 1 (v_a)", "reason": "its span from 9 to 3 s is reversed"}
    ]


def test_clips_that_are_cut_already_are_whole(tmp_path: Path) -> None:
    text = "label,youtube_id,time_start,time_end,split\nrun,aaa,5,15,train\nrun,bbb,5,15,train\n"
    file = write(tmp_path / "train.csv", text)
    touch(tmp_path / "videos", "run/aaa_000005_000015.mp4", "bbb.mp4")
    manifest = tmp_path / "m.jsonl"
    import_annotations("kinetics", [file], manifest, videos=tmp_path / "videos")
    cut, whole = find_clips(manifest)
    assert (cut.path.name, cut.start, cut.duration, cut.label) == ("aaa_000005_000015.mp4", 0, None, "run")
    assert (whole.path.name, whole.start, whole.duration) == ("bbb.mp4", 5, 10)
    assert cut.extra["source_start"] == "5.0" and cut.extra["video_id"] == "aaa"


def test_columns_that_manifests_read_otherwise_get_another_name(tmp_path: Path) -> None:
    line = {"qid": 3, "query": "x", "vid": "v_0.0_150.0", "duration": 150, "relevant_windows": [[10, 20]]}
    manifest = tmp_path / "m.jsonl"
    import_annotations("qvhighlights", [write(tmp_path / "q.jsonl", json.dumps(line))], manifest)
    (record,) = find_clips(manifest)
    assert (record.path.name, record.start, record.duration) == ("v_0.0_150.0.mp4", 10, 10)
    assert record.extra["video_duration"] == "150" and record.extra["qid"] == "3"


def test_captions_in_one_row_or_in_several(tmp_path: Path) -> None:
    file = write(tmp_path / "MSVD-indonesian.txt", "a_1_2 satu\na_1_2 dua\nb_1_2 tiga\n")
    manifest = tmp_path / "m.jsonl"
    import_annotations("msvd_indonesian", [file], manifest)
    assert [(r["caption"], r.get("captions")) for r in rows_of(manifest)] == [("satu", ["satu", "dua"]), ("tiga", None)]
    import_annotations("msvd_indonesian", [file], manifest, every_caption=True)
    assert [(r.id, r.caption) for r in find_clips(manifest)] == [
        ("a_1_2.mp4", "satu"), ("a_1_2.mp4#2", "dua"), ("b_1_2.mp4", "tiga"),
    ]  # fmt: skip


def test_boxes_and_several_labels_are_kept(tmp_path: Path) -> None:
    file = write(tmp_path / "ava.csv", "v,0902,0.1,0.2,0.3,0.4,80,1\nv,0902,0.1,0.2,0.3,0.4,9,1\n")
    import_annotations("ava", [file], tmp_path / "m.jsonl")
    (row,) = rows_of(tmp_path / "m.jsonl")
    assert row["labels"] == ["80", "9"] and row["label"] == "80"
    assert row["boxes"][1] == dict(time=902, x1=0.1, y1=0.2, x2=0.3, y2=0.4, label="9", person="1")
    (record,) = find_clips(tmp_path / "m.jsonl")
    assert json.loads(record.extra["boxes"]) == row["boxes"]


def test_splits_are_chosen_or_given(tmp_path: Path) -> None:
    text = "x_a.avi 1\nx_b.avi 2\nx_c.avi 0\n"
    files = [write(tmp_path / f"{name}_test_split1.txt", text) for name in ("run", "walk")]
    manifest = tmp_path / "m.jsonl"
    report = import_annotations("hmdb51", files, manifest, split="train")
    assert [(r.id, r.label, r.split) for r in find_clips(manifest)] == [
        ("run/x_a.avi", "run", "train"), ("walk/x_a.avi", "walk", "train"),
    ]  # fmt: skip
    assert report.other_splits == 4
    captions = write(tmp_path / "captions.json", json.dumps([{"vid": "v", "caption": "c"}]))
    import_annotations("vidgen_1m", [captions], manifest, split="val")
    assert find_clips(manifest)[0].split == "validation"


def test_nothing_is_written_where_nothing_comes_of_it(tmp_path: Path) -> None:
    file = write(tmp_path / "captions.json", json.dumps([{"vid": "v", "caption": "c"}]))
    manifest = write(tmp_path / "m.jsonl", "before")
    touch(tmp_path / "videos", "other.mp4")
    cases = {
        "none of the 1 videos of .*captions.json is there, such as v;": ("vidgen_1m", {"videos": tmp_path / "videos"}),
        "not of layout didemo .*; it looks like vidgen_1m": ("didemo", {}),
        "layout 'x' is unknown": ("x", {}),
    }
    for words, (layout, options) in cases.items():
        with pytest.raises(VidgenError, match=words):
            import_annotations(layout, [file], manifest, **options)
    train = write(tmp_path / "trainlist01.txt", "A/v_A_g01_c01.avi 1\n")
    with pytest.raises(VidgenError, match="no annotations of split 'test'"):
        import_annotations("ucf101", [train], manifest, split="test")
    assert manifest.read_text() == "before"
    assert {path.name for path in tmp_path.iterdir()} == {"captions.json", "m.jsonl", "videos", "trainlist01.txt"}
