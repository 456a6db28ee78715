"""Banks whose clips have changed: their rows are made anew, and the bank is as one that is written at once."""

import shutil
import warnings

import numpy as np
import pytest

from vidgen.data.writing import write_video
from vidgen.errors import VidgenError
from vidgen.representations.bank import FeatureBank
from vidgen.representations.bank_sources import LOG_NAME, SourceLog
from vidgen.representations.extract import extract_source

LAYER = "tokenizer.latents"


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for i in range(3):
        write(folder, i, level=40 * i)
    (folder / "metadata.csv").write_text("path,label\n" + "".join(f"{i}.mp4,l{i}\n" for i in range(3)))
    return folder


def write(folder, number: int, level: int, frames: int = 11) -> None:
    ramp = np.arange(32, dtype=np.uint8)[None, :, None, None]
    video = np.broadcast_to(ramp + level, (frames, 32, 32, 3)) + np.arange(frames, dtype=np.uint8)[:, None, None, None]
    write_video(video, folder / f"{number}.mp4", fps=8)


def extract(pipeline, clips, out, **options) -> dict:
    return extract_source(pipeline, clips, out, layers=[LAYER], batch_size=1, **options)


def same(one, other) -> bool:
    one, other = FeatureBank.load(one), FeatureBank.load(other)
    return one.rows == other.rows and np.array_equal(one.X(LAYER), other.X(LAYER))


@pytest.mark.parametrize("windows", ["head", "sliding"])
def test_changed_clips_are_extracted_anew(pipeline, clips, tmp_path, windows):
    bank = tmp_path / "bank"
    extract(pipeline, clips, bank, windows=windows)
    assert extract(pipeline, clips, bank, windows=windows)["added"] == 0
    (clips / "2.mp4").touch()  # another time, and the same contents
    shutil.copy2(clips / "1.mp4", clips / "0.mp4")
    write(clips, 1, level=90, frames=7)
    assert extract(pipeline, clips, bank, windows=windows)["added"] == (2 if windows == "head" else 3 + 2)
    extract(pipeline, clips, tmp_path / "fresh", windows=windows)
    assert same(bank, tmp_path / "fresh")


def test_changed_parts_and_labels_are_too(pipeline, clips, tmp_path):
    bank = tmp_path / "bank"
    rows = "path,label,start,duration\n2.mp4,{0},0,0.7\n2.mp4,b,{1},0.7\n0.mp4,c,0,0.7\n"
    for old, new in (("a", 0.5), ("other", 0.5), ("other", 0.25)):
        (clips / "metadata.csv").write_text(rows.format(old, new))
        report = extract(pipeline, clips, bank)
    assert (report["rows"], report["added"]) == (3, 1)
    extract(pipeline, clips, tmp_path / "fresh")
    assert same(bank, tmp_path / "fresh")
    assert [row.group for row in FeatureBank.load(bank).rows] == ["2.mp4", "2.mp4", "0.mp4"]


def test_a_bank_of_other_features_is_left_alone(pipeline, clips, tmp_path):
    bank = tmp_path / "bank"
    extract(pipeline, clips, bank)
    write(clips, 0, level=90)
    with pytest.raises(VidgenError, match="bank of other features"):
        extract(pipeline, clips, bank, pool="none")
    assert len(FeatureBank.load(bank)) == 3


def test_all_clips_may_change_and_none_may_be_there(pipeline, clips, tmp_path):
    bank = tmp_path / "bank"
    extract(pipeline, clips, bank)
    for i in range(3):
        write(clips, i, level=7 * i + 5)
    assert extract(pipeline, clips, bank)["added"] == 3
    shutil.move(clips / "1.mp4", tmp_path)
    assert extract(pipeline, clips, bank)["rows"] == 3  # it is not there to be extracted again


def test_banks_of_earlier_versions_have_no_log(pipeline, clips, tmp_path):
    bank = tmp_path / "bank"
    extract(pipeline, clips, bank, windows="sliding")
    (bank / LOG_NAME).unlink()
    assert extract(pipeline, clips, bank, windows="sliding")["added"] == 0
    write(clips, 0, level=90)
    assert extract(pipeline, clips, bank, windows="sliding")["added"] == 3


def test_windows_that_a_killed_run_left_out_are_added(pipeline, clips, tmp_path, monkeypatch):
    bank = tmp_path / "bank"
    save = SourceLog.save
    calls = []

    def killed(log) -> None:
        save(log)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(SourceLog, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        extract(pipeline, clips, bank, windows="sliding", shard_rows=1)
    monkeypatch.setattr(SourceLog, "save", save)
    assert len(FeatureBank.load(bank)) == 2
    assert extract(pipeline, clips, bank, windows="sliding")["added"] == 7
    extract(pipeline, clips, tmp_path / "fresh", windows="sliding")
    assert same(bank, tmp_path / "fresh")


@pytest.mark.parametrize("windows", ["head", "sliding"])
def test_rows_of_clips_that_are_gone_are_counted_and_stay(pipeline, clips, tmp_path, windows):
    out = tmp_path / "bank"
    rows = extract(pipeline, clips, out, windows=windows)["rows"]
    (clips / "metadata.csv").write_text("path,label\n1.mp4,l1\n")
    with pytest.warns(
        UserWarning, match=r"2 of its clips are not in the source any more \(0.mp4, \.\.\.\); their rows stay"
    ):
        report = extract(pipeline, clips, out, windows=windows)
    assert (report["rows"], report["added"]) == (rows, 0) and len(FeatureBank.load(out).rows) == rows
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extract(pipeline, clips, out, windows=windows, limit=1)  # a part of the source says nothing of the others
