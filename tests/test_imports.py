"""What the code imports: one direction between the layers, no circles, nothing by string, and exactly the distributions
that setup.cfg declares."""

import ast
import configparser
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import vidgen

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("vidgen", "tokenizers", "samplers", "train", "scripts")

# Layer -> the layers that its modules may import: scripts -> train -> pipelines -> samplers | tokenizers -> core.
ALLOWED = {
    "core": {"core"},
    "tokenizers": {"core", "tokenizers"},
    "samplers": {"core", "samplers"},
    "pipelines": {"core", "tokenizers", "samplers", "pipelines"},
    "train": {"core", "tokenizers", "samplers", "pipelines", "train"},
    "scripts": {"core", "tokenizers", "samplers", "pipelines", "train", "scripts"},
}
# They hand out names on first use, from a table of strings: public ones, since `import vidgen` would take seconds
# otherwise, and old ones.
LAZY = ("vidgen/__init__.py", "vidgen/data/__init__.py", "vidgen/renamed_modules.py")
# Distributions whose import name is not their own name.
IMPORT_NAMES = {
    "faiss-cpu": {"faiss"},
    "imageio[pyav]": {"imageio", "av"},
    "open_clip_torch": {"open_clip"},
    "pillow": {"PIL"},
    "scikit-learn": {"sklearn"},
}
EXTRAS = ("coding", "efficientnet", "export", "faiss", "gpu", "scenedetect", "text", "timm")  # of setup.cfg, for users
# Of the extra `test`: tools that are run rather than imported, and what only our own code imports, where it is there.
RUN_ONLY = {"constriction", "faiss-cpu", "pytest-xdist", "ruff", "setuptools"}


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


@cache
def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name, packages without `__init__` at the end."""
    return {module_name(file).removesuffix(".__init__"): file for file in sources(*FOLDERS)}


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
                # `from package import module` is of the module: of the package around it nothing is read.
                names.update(full if (full := f"{base}.{alias.name}") in modules() else base for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "vidgen":
            names.add(public_home(node.attr))
    return names


def imported_by_string(source: str) -> set[str]:
    """What a source text may import by a string: calls of `import_module` and `__import__`, and strings that name a
    module of ours, alone or as "module:name"; names of the command and of packages in prose are not among them."""
    strings: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "__import__"):
                strings.add(ast.unparse(node))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.split(":")[0]
            if name.count(".") and re.fullmatch(r"[\w.]+", name) and name in modules():
                strings.add(node.value)
    return strings


def sources(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def layer_of(name: str) -> str | None:
    """The layer that holds a module, or None for what is not ours."""
    parts = name.split(".")
    if parts[0] != "vidgen":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in ALLOWED else "core"


def find_circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The sets of modules that import each other, directly or through others: Tarjan's strongly connected components of
    more than one, by scipy."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    names = sorted(graph)
    place = {name: number for number, name in enumerate(names)}
    edges = [(place[name], place[other]) for name in names for other in graph[name] if other in place]
    rows, columns = zip(*edges, strict=True) if edges else ((), ())
    matrix = csr_matrix((np.ones(len(edges)), (rows, columns)), shape=(len(names), len(names)))
    _, labels = connected_components(matrix, directed=True, connection="strong")
    groups = [{name for name, label in zip(names, labels, strict=True) if label == one} for one in set(labels)]
    return [group for group in groups if len(group) > 1]


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
from . import rollout
from ..data import reading
from vidgen import load_tokenizer
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
        *("typing", "torch.nn", "einops", "vidgen", "vidgen.pipelines.rollout", "vidgen.data.reading"),
        *("vidgen.diffusion.noise", vidgen._PUBLIC["load_tokenizer"], vidgen._PUBLIC["load_pipeline"]),
    }
    assert "numpy" in imported(source, "vidgen.pipelines.video", typing_only=True)


@pytest.mark.parametrize("layer", ALLOWED)
def test_imports_run_one_way(layer: str) -> None:
    own = {name: file for name, file in modules().items() if layer_of(name) == layer}
    assert own
    against = []
    for name, file in own.items():
        for other in imported(file.read_text(encoding="utf-8"), module_name(file), typing_only=False):
            # The package itself names modules of all layers, in strings that are read when a name is first used.
            if layer_of(other) not in {None, *ALLOWED[layer]}:
                against.append(f"{name} imports {other}")
    assert not against, "\n".join(against)


def test_no_modules_import_each_other() -> None:
    known = modules()
    graph = {
        name: imported(file.read_text(encoding="utf-8"), module_name(file), typing_only=False) & set(known) - {name}
        for name, file in known.items()
    }
    assert not find_circles(graph)


def test_nothing_is_imported_by_a_string() -> None:
    found = {
        str(file.relative_to(ROOT)): strings
        for file in sources(*FOLDERS)
        if str(file.relative_to(ROOT)) not in LAZY and (strings := imported_by_string(file.read_text(encoding="utf-8")))
    }
    assert not found


def test_the_readers_of_circles_and_strings_see_them() -> None:
    circle = find_circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()})
    assert circle == [{"a", "b", "c"}]
    source = 'x = importlib.import_module(name)\ny = "vidgen.tokenizers.model:VideoTokenizer"\nz = "vidgen is a word"'
    assert imported_by_string(source) == {"importlib.import_module(name)", "vidgen.tokenizers.model:VideoTokenizer"}


def test_no_import_is_undeclared() -> None:
    required = declared("options", "install_requires")
    extras = [declared("options.extras_require", name) for name in EXTRAS]
    known = set().union(*required.values(), *(names for extra in extras for names in extra.values()))
    missing = {name: files for name, files in third_party(sources(*FOLDERS)).items() if name not in known}
    assert not missing, f"imported, but not in setup.cfg: {missing}"


def test_no_declared_distribution_is_unused() -> None:
    used = set(third_party(sources(*FOLDERS)))
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
