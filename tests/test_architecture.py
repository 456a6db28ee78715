"""docs/architecture.md is the tree as it is: every folder of code has a line, and every path that it names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FOLDERS = ("vidgen", "tokenizers", "samplers", "train", "scripts")


def described() -> dict[str, str]:
    """The folders of the page's tree, each with what it says of it."""
    block = re.search(r"## The tree\n+```\n(.*?)```", PAGE, re.DOTALL).group(1)
    rows = (line.split(None, 1) for line in block.splitlines())
    return {folder.rstrip("/"): text.strip() for folder, text in rows}


def test_every_folder_has_a_line_and_every_line_a_folder() -> None:
    there = {file.parent.relative_to(ROOT).as_posix() for top in FOLDERS for file in (ROOT / top).rglob("*.py")}
    assert set(described()) == there
    assert all(10 < len(text) < 100 for text in described().values())


def test_every_path_on_the_page_is_there() -> None:
    words = re.findall(rf"(?<![\w./])((?:{'|'.join((*FOLDERS, 'docs', 'tests'))})/[\w./]*)", PAGE.replace("\\_", "_"))
    paths = {word.rstrip(".") for word in words}
    assert len(paths) > 40
    assert not sorted(path for path in paths if not (ROOT / path).exists())


def test_every_table_that_the_page_names_is_where_it_says() -> None:
    named = re.findall(r"`([A-Z]{4,}[A-Z_]*)` \(([\w./]+\.py)\)", PAGE)
    assert len(named) >= 4
    for table, file in named:
        assert re.search(rf"^{table}\b.*=", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), (table, file)


def test_folders_stay_small() -> None:
    counts = {
        folder.relative_to(ROOT).as_posix(): len(list(folder.glob("*.py")))
        for top in FOLDERS
        for folder in [ROOT / top, *(ROOT / top).rglob("*/")]
    }
    assert not {folder: count for folder, count in counts.items() if count > 20}
