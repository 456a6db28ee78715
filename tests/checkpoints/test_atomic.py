"""All or nothing, for files and folders."""

import pytest

from vidgen.checkpoints.atomic import atomic_write
from vidgen.errors import VidgenError


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_write(path) as aside:
        aside.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as aside:
        aside.write_text("half")
        raise error
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_replaces_a_folder_but_not_a_file_a_folder(tmp_path):
    path = tmp_path / "model"
    for content in ("one", "two"):
        with atomic_write(path) as aside:
            aside.mkdir()
            (aside / content).touch()
    assert [p.name for p in path.iterdir()] == ["two"]
    with pytest.raises(VidgenError, match="is a folder"), atomic_write(path) as aside:
        aside.write_text("x")
    assert [p.name for p in path.iterdir()] == ["two"]


def test_no_folder_and_a_full_disk_are_one_line(tmp_path):
    with pytest.raises(VidgenError, match="does not exist; create it first"), atomic_write(tmp_path / "no" / "x"):
        pass
    with pytest.raises(VidgenError, match="No space left on device"), atomic_write(tmp_path / "x"):
        raise OSError(28, "No space left on device")
