"""The shape of the tree: small files with telling names, and folders that hide nobody else's package."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("vidgen", "tokenizers", "samplers", "train", "scripts", "tests")
LONGEST = 300
VAGUE = {"utils", "util", "common", "helpers", "misc"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_stay_short(folder: str) -> None:
    lines = {
        str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines())
        for file in (ROOT / folder).rglob("*.py")
    }
    assert lines, f"{folder}/ holds no Python"
    assert not {name: count for name, count in lines.items() if count > LONGEST}


@pytest.mark.parametrize("folder", FOLDERS)
def test_modules_are_named_for_what_they_hold(folder: str) -> None:
    taken = VAGUE | sys.stdlib_module_names
    names = [file.relative_to(ROOT) for file in (ROOT / folder).rglob("*.py")]
    assert not [str(name) for name in names if name.stem in taken - {"__init__"}]


def test_tokenizers_stays_a_namespace_folder() -> None:
    # A folder without __init__.py never hides a regular package: `import tokenizers` at the root is Hugging Face's.
    assert not (ROOT / "tokenizers" / "__init__.py").exists()
    assert not (ROOT / "tests" / "tokenizers" / "__init__.py").exists()
