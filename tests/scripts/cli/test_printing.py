"""Tables show paths from the working folder or from what they have in common; all else in them stays as it is."""

from pathlib import Path

import pytest

from vidgen.scripts.cli.printing import pluralize, print_table, shorten_paths


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with my clips/a, my clips/b and here/below, of which here is the working folder."""
    for name in ("my clips/a", "my clips/b", "here/below"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def test_paths_are_cut_to_what_tells_them_apart(folder: Path) -> None:
    within, outside = folder / "here" / "below", folder / "my clips"
    assert shorten_paths([f"knn on {within}/bank", f"{within}: 3 clips"]) == ["knn on below/bank", "below: 3 clips"]
    assert shorten_paths([f"{outside}/a/x.mp4"]) == ["my clips/a/x.mp4"]
    texts = [f"knn on {within}/bank, reported on {within}/other", f"{folder}/my/a/x.mp4", f"({folder}/my/b/x.mp4)"]
    (folder / "my" / "a").mkdir(parents=True)
    (folder / "my" / "b").mkdir()
    assert shorten_paths(texts) == ["knn on below/bank, reported on below/other", "a/x.mp4", "(b/x.mp4)"]


@pytest.mark.parametrize(
    "text", ["a/b/c.mp4", "/up", "/no/such/folder", "8/9", "1/2 /", "https://a.b/c/d", "", "data:x/y/z"]
)
def test_what_is_no_path_of_this_machine_stays(folder: Path, text: str) -> None:
    assert shorten_paths([text]) == [text]
    assert shorten_paths([str(folder / "here")])[0].endswith("here")


def test_a_table_has_short_paths_and_every_row(folder: Path, capsys: pytest.CaptureFixture) -> None:
    rows = [(folder / "here" / "below" / f"{number}.mp4", number) for number in range(3)]
    print_table(f"clips of {folder / 'here' / 'below'}", ("clip", ">number"), rows)
    out = capsys.readouterr().out
    assert "clips of below" in out and str(folder) not in out
    assert all(f"below/{number}.mp4" in out for number in range(3))


@pytest.mark.parametrize(("count", "text"), [(0, "0 clips"), (1, "1 clip"), (2, "2 clips")])
def test_one_is_no_plural(count, text) -> None:
    assert pluralize(count, "clip") == text
