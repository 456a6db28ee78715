"""Training and validation: no file on both sides, splits of the data as they are named."""

import os

import pytest

from vidgen.data.manifests import ClipRecord
from vidgen.errors import VidgenError
from vidgen.train.config import SourceConfig
from vidgen.train.data.splits import source_records, split_records


def ids(records, hold_out=6):
    return [[record.id for record in split_records(records, hold_out, part)] for part in ("train", "validation")]


def clips(tmp_path, *names, **extra):
    return [ClipRecord(path=tmp_path / name, id=f"{name}#{i}", extra=extra) for i, name in enumerate(names)]


@pytest.mark.parametrize("count", [2, 5, 6, 20])
def test_validation_files_are_never_trained_on(tmp_path, count):
    records = clips(tmp_path, *map(str, range(count)))
    train, validation = ids(records)
    assert validation and sorted(train + validation) == sorted(record.id for record in records)
    if count > 6:
        assert validation == [f"{n}#{n}" for n in range(5, count, 6)]


def test_rows_of_one_file_stay_together(tmp_path):
    (tmp_path / "a").touch()
    os.symlink("a", tmp_path / "link")
    records = clips(tmp_path, "a", "a", "b", "link", "./a", "b", "c")
    train, validation = ids(records, 2)
    assert validation == ["b#2", "b#5"] and train == ["a#0", "a#1", "link#3", "./a#4", "c#6"]
    assert ids(clips(tmp_path, "a", "a")) == [["a#0", "a#1"]] * 2  # one file is both


@pytest.mark.parametrize("hold_out", [0, 2, 6])
def test_splits_of_the_data_are_kept(tmp_path, hold_out):
    train, val, test = (clips(tmp_path, f"{s}1", f"{s}2", split=s) for s in ("train", "val", "test"))
    assert ids([*test, *val, *train], hold_out) == [["train1#0", "train2#1"], ["val1#0", "val2#1"]]
    held_out = [["train1#0"], ["train2#1"]] if hold_out else [["train1#0", "train2#1"]] * 2
    assert ids([*test, *train], hold_out) == held_out
    with pytest.raises(VidgenError, match="of the split train .they are of test"):
        ids(test, hold_out)


def test_holding_every_clip_out_is_refused(tmp_path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(VidgenError, match="leaves no file to train on"):
        SourceConfig(kind="clips", path=str(tmp_path), hold_out=1).check(tmp_path)
    for refused in (1, -1):
        with pytest.raises(VidgenError, match=f"{tmp_path}: hold_out={refused} leaves no file"):
            source_records(SourceConfig(kind="clips", path=str(tmp_path), hold_out=refused), "train")
