"""What the code imports: one direction between the folders, and exactly the distributions that setup.cfg declares."""

import ast
import configparser
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vidgen

ROOT = Path(__file__).resolve().parents[1]
SIDES = ("tokenizers", "samplers", "train", "scripts")

# Folder -> the folders that its modules may import: scripts -> train -> samplers | tokenizers -> vidgen.
ALLOWED = {
    "vidgen": {"vidgen"},
    "tokenizers": {"vidgen", "tokenizers"},
    "samplers": {"vidgen", "samplers"},
    "train": {"vidgen", "tokenizers", "samplers", "train"},
    "scripts": {"vidgen", "tokenizers", "samplers", "train", "scripts"},
}
# Distributions whose import name is not their own name.
IMPORT_NAMES = {
    "faiss-cpu": {"faiss"},
    "imageio[pyav]": {"imageio", "av"},
    "pillow": {"PIL"},
    "scikit-learn": {"sklearn"},
}
EXTRAS = ("export", "faiss", "gpu", "timm")  # of setup.cfg, for users
# Of the extra `test`: tools that are run rather than imported, and what only our own code imports, where it is there.
RUN_ONLY = {"faiss-cpu", "pytest-xdist", "ruff", "setuptools"}


def module_name(file: Path) -> str:
    """Dotted name under which a file of the five folders is installed, `__init__` kept as the last part."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == "vidgen" else ("vidgen", *parts))


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def walk(node: ast.AST, typing_only: bool) -> Iterator[ast.AST]:
    """All nodes below `node`; without the bodies of `if TYPE_CHECKING:` unless `typing_only` imports are wanted too."""
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child) and not typing_only:
            continue
        yield child
        yield from walk(child, typing_only)


def public_home(name: str) -> str:
    """The module behind `vidgen.name`: a lazy public name counts as an import of the module that defines it."""
    return vidgen._PUBLIC.get(name, f"vidgen.{name}")


def imported(source: str, module: str, typing_only: bool) -> set[str]:
    """Dotted names imported anywhere in a source text, relative and lazy ones resolved; importing by string is not."""
    names: set[str] = set()
    for node in walk(ast.parse(source), typing_only):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], *([base] if base else [])])
            if base == "vidgen":
                names.update(public_home(alias.name) for alias in node.names)
            else:
                names.add(base)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "vidgen":
            names.add(public_home(node.attr))
    return names


def sources(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def folder_of(name: str) -> str | None:
    """Folder of the checkout that holds the imported module, or None for what is not ours."""
    parts = name.split(".")
    if parts[0] != "vidgen":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in SIDES else "vidgen"


def third_party(files: list[Path]) -> dict[str, list[str]]:
    """Top-level names that are neither ours nor Python's -> the files that import them."""
    found: dict[str, list[str]] = {}
    for file in files:
        for name in imported(file.read_text(encoding="utf-8"), module_name(file), typing_only=True):
            top = name.split(".")[0]
            if top != "vidgen" and top not in sys.stdlib_module_names:
                found.setdefault(top, []).append(str(file.relative_to(ROOT)))
    return found


def declared(section: str, option: str) -> dict[str, set[str]]:
    """Distribution -> its import names, from one list of requirements in setup.cfg."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    names = [re.split(r"[<>=!~; ]", line)[0] for line in config[section][option].split("\n") if line]
    return {name: IMPORT_NAMES.get(name, {name.replace("-", "_")}) for name in names}


def test_the_reader_of_imports_resolves_every_form() -> None:
    source = """
from typing import TYPE_CHECKING
import torch.nn as nn
from . import solvers
from ..data import reading
from vidgen import (load_tokenizer)
from vidgen.diffusion import noise
import vidgen
if TYPE_CHECKING:
    import numpy
def late():
    from einops import rearrange
    return vidgen.load_pipeline
"""
    found = imported(source, "vidgen.pipelines.video", typing_only=False)
    assert found == {
        *("typing", "torch.nn", "einops", "vidgen", "vidgen.samplers", "vidgen.data", "vidgen.diffusion.noise"),
        *("vidgen.pipelines.tokenizer_loading", "vidgen.pipelines.loading"),
    }
    assert "numpy" in imported(source, "vidgen.pipelines.video", typing_only=True)


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_run_one_way(folder: str) -> None:
    against = []
    for file in sources(folder):
        for name in imported(file.read_text(encoding="utf-8"), module_name(file), typing_only=False):
            if folder_of(name) not in {None, *ALLOWED[folder]}:
                against.append(f"{file.relative_to(ROOT)} imports {name}")
    assert not against, "\n".join(against)


def test_no_import_is_undeclared() -> None:
    required = declared("options", "install_requires")
    extras = [declared("options.extras_require", name) for name in EXTRAS]
    known = set().union(*required.values(), *(names for extra in extras for names in extra.values()))
    missing = {name: files for name, files in third_party(sources(*ALLOWED)).items() if name not in known}
    assert not missing, f"imported, but not in setup.cfg: {missing}"


def test_no_declared_distribution_is_unused() -> None:
    used = set(third_party(sources(*ALLOWED)))
    required = declared("options", "install_requires")
    extras = [declared("options.extras_require", name) for name in EXTRAS]
    everything = {name: imports for part in (required, *extras) for name, imports in part.items()}
    unused = [name for name, imports in everything.items() if not imports & used]
    assert not unused, f"in setup.cfg, but never imported: {unused}"


def test_the_tests_import_what_is_declared_and_nothing_more() -> None:
    used = third_party(sources("tests"))
    test = declared("options.extras_require", "test")
    known = set().union(*declared("options", "install_requires").values(), *test.values())
    known |= {"tokenizers"}  # Hugging Face's, which transformers brings: the tests look that ours does not hide it
    missing = {name: files for name, files in used.items() if name not in known}
    assert not missing, f"imported by tests, but not in setup.cfg: {missing}"
    unused = [name for name, imports in test.items() if name not in RUN_ONLY and not imports & set(used)]
    assert not unused, f"in the extra test, but never imported: {unused}"
