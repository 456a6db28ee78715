"""The report on a data set: counts that are known beforehand, and plain JSON."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidgen import data
from vidgen.data import ClipRecord, validate_source, validation, write_video
from vidgen.data.reading import open_source
from vidgen.data.validation import measure_clip
from vidgen.errors import VideoError, VidgenError


def test_report_counts_what_is_there(tmp_path, make_video, numbered, waves):
    make_video(numbered(20), "even.mp4", fps=10)
    make_video(numbered(5), "uneven.mkv", stamps=[0, 100, 200, 700, 800])
    make_video(waves(3, 32, 64), "turned.mov", rotation=90)
    write_video(waves(6, 10, 12), tmp_path / "walk", fps=8)
    (tmp_path / "empty.mp4").touch()
    calls = []
    report = validate_source(tmp_path, fps=None, progress=lambda done, total: calls.append((done, total)))
    assert json.loads(json.dumps(report)) == report
    assert calls == [(k, 5) for k in range(1, 6)]
    assert report["kept"] == 4 and report["frames"] == 20 + 5 + 3 + 6
    assert report["dropped"] == [
        {"path": str(tmp_path / "empty.mp4"), "reason": "the file is empty (0 bytes); copy or download it again"}
    ]
    rows = {row["id"]: row for row in report["clips"]}
    assert (rows["even.mp4"]["frames"], rows["even.mp4"]["fps"], rows["even.mp4"]["seconds"]) == (20, 10, 2)
    assert not rows["even.mp4"]["vfr"] and rows["even.mp4"]["warnings"] == []
    assert rows["uneven.mkv"]["vfr"] and "variable frame rate" in rows["uneven.mkv"]["warnings"][0]
    assert (rows["turned.mov"]["width"], rows["turned.mov"]["height"]) == (32, 64)
    assert (rows["walk"]["frames"], rows["walk"]["codec"]) == (6, "png")
    assert report["hours"] == pytest.approx(sum(row["seconds"] for row in report["clips"]) / 3600)


@pytest.mark.parametrize("decode", ["full", "first"])
@pytest.mark.parametrize(
    "fps, num_frames, kept, counted",
    [(None, 20, 1, 20), (None, 21, 0, 20), (5, 10, 1, 10), (5, 11, 0, 10), (30, 60, 1, 60), (30, 61, 0, 60)],
)
def test_windows_too_long_are_dropped_with_both_numbers(
    tmp_path, make_video, numbered, decode, fps, num_frames, kept, counted
):
    make_video(numbered(20), "clip.mp4", fps=10)
    report = validate_source(tmp_path, num_frames=num_frames, fps=fps, decode=decode)
    assert report["kept"] == kept
    if not kept:
        rate = f" at {fps} fps" if fps else ""
        assert report["dropped"][0]["reason"] == f"{counted} frames{rate}, {num_frames} needed"


def test_a_cut_file_is_dropped_or_its_damage_is_counted(tmp_path, make_video, waves):
    path = make_video(waves(40, 96, 128), options={"crf": "10"}, faststart=True)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    for decode in ("full", "first"):
        report = validate_source(path, decode=decode)
        assert report["kept"] == 0 and "cut short" in report["dropped"][0]["reason"]
        report = validate_source(path, decode=decode, allow_damaged=True)
        assert report["kept"] == 1 and report["clips"][0]["frames"] < 40
        assert "frames are missing" in report["clips"][0]["damage"]


def test_parts_of_a_file(make_video, numbered):
    path = make_video(numbered(30), fps=10)
    measured = measure_clip(ClipRecord(path=path, id="part", start=1.0, duration=0.5))
    assert len(measured.timeline.times) == 5 and measured.timeline.end == 1.5
    assert [measured.starts(n, None) for n in (1, 5, 6)] == [5, 1, 0]
    assert measured.available(4) == 2 and measured.available(40) == 20


def test_few_rows_have_the_totals_of_all(make_video, numbered, tmp_path):
    make_video(numbered(30), "a.mp4", fps=10)
    rows = [
        f'{{"path": "{name}", "start": {i / 10}, "duration": 0.3}}' for i in range(35) for name in ("a.mp4", "b.mp4")
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(rows))
    whole = validate_source(tmp_path / "m.jsonl")
    few = validate_source(tmp_path / "m.jsonl", max_rows=4)
    assert few["total"] == 70 and whole["kept"] == 30 and len(whole["dropped"]) == 40
    assert few["clips"] == whole["clips"][:4] and few["dropped"] == whole["dropped"][:4]
    assert all(few[key] == whole[key] for key in ("source", "kept", "frames", "hours")) and "total" not in whole


def test_nothing_to_inspect(tmp_path):
    with pytest.raises(VidgenError, match="no clips"):
        validate_source(tmp_path)


def test_old_names_warn() -> None:
    for old, new in (("inspect_source", "validate_source"), ("Dropped", "DroppedClip")):
        with pytest.warns(FutureWarning, match=f"{old} is now called {new}"):
            assert getattr(data, old) is getattr(data, new)


def test_parts_of_one_file_are_measured_at_once(make_video, numbered, tmp_path, monkeypatch):
    make_video(numbered(30), "a.mp4", fps=10)
    records = [ClipRecord(path=tmp_path / "a.mp4", id=str(i), start=i / 10, duration=0.5) for i in range(40)]
    files = validation.SharedFiles(records, "full", None, False)
    opened = []
    monkeypatch.setattr(validation, "open_source", lambda *args, **more: opened.append(1) or open_source(*args, **more))
    for record in records[:30]:
        shared, alone = files.measure(record), measure_clip(record)
        np.testing.assert_array_equal(shared.timeline.times, alone.timeline.times)
        assert shared.timeline.end == pytest.approx(alone.timeline.end)
    assert len(opened) == 1 + 30
    with pytest.raises(VideoError, match="no frame from 3 s on"):
        files.measure(records[30])


@given(st.lists(st.sampled_from([0.1, 0.1001, 0.101, 0.1019, 0.108, 0.109, 0.112]), min_size=1, max_size=12))
def test_parts_of_a_steady_clip_have_no_variable_rate(gaps):
    times = np.cumsum([0.0, *gaps])
    if validation._is_steady(times):
        parts = [times[first:stop] for first in range(len(times)) for stop in range(first + 1, len(times) + 1)]
        assert not any(validation._is_variable(part) for part in parts)
    else:
        assert max(gaps) - min(gaps) > 2.2e-3


def test_inspecting_needs_no_pytorch():
    code = "import sys, vidgen.data.validation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
