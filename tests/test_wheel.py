"""The wheel holds what the tree holds: setuptools drops an unlisted folder or data file without a word."""

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import tokenizers

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("vidgen", "tokenizers", "samplers", "train", "scripts")
METADATA = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")

BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the tree by the declared build backend, without network."""
    pytest.importorskip("setuptools", minversion="77", reason="the extra `test` brings setuptools>=77")
    copy = tmp_path_factory.mktemp("tree")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in METADATA:
        shutil.copy(ROOT / name, copy / name)
    out = tmp_path_factory.mktemp("dist")
    result = subprocess.run(
        [sys.executable, "-c", BUILD, str(out)], cwd=copy, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    (built,) = out.glob("*.whl")
    return built


def expected() -> set[str]:
    """Every file of the five folders under its installed path; caches and hidden files are not part of the tree."""
    found = set()
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*"):
            path = file.relative_to(ROOT)
            hidden = any(part.startswith(".") or part == "__pycache__" for part in path.parts)
            if file.is_file() and not hidden:
                found.add((path if folder == "vidgen" else Path("vidgen", path)).as_posix())
    return found


def test_wheel_equals_tree(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {"vidgen/py.typed", "vidgen/tokenizers/model.py"} <= names
    missing, extra = expected() - names, names - expected()
    assert not missing, f"in the tree but not in the wheel; list the folder or file in setup.cfg: {sorted(missing)}"
    assert not extra, f"in the wheel but not in the tree: {sorted(extra)}"


def test_wheel_carries_licence_command_and_version(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
    assert "Apache License" in archive.read(f"{info}/licenses/LICENSE").decode()
    entry_points = configparser.ConfigParser()
    entry_points.read_string(archive.read(f"{info}/entry_points.txt").decode())
    assert dict(entry_points["console_scripts"]) == {"vidgen": "vidgen.scripts.main:main"}
    assert "def main(" in archive.read("vidgen/scripts/main.py").decode()
    metadata = archive.read(f"{info}/METADATA").decode()
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert f"vidgen-{metadata.split('Version: ')[-1].splitlines()[0]}" == info.removesuffix(".dist-info")


@pytest.mark.parametrize("imports", ["tokenizers, vidgen.tokenizers", "vidgen.tokenizers, tokenizers"])
def test_unpacked_wheel_imports_beside_hugging_face(wheel: Path, tmp_path: Path, imports: str) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = f"""
import importlib.util
import {imports}
assert tokenizers.Tokenizer
print(vidgen.__file__, importlib.util.find_spec("vidgen.tokenizers.model").origin, *vidgen.__path__, sep="\\n")
"""
    # -S: no .pth file is read, so an editable install of the checkout cannot help.
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(Path(tokenizers.__file__).parents[1])])}
    command = [sys.executable, "-S", "-c", code]
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    home = site / "vidgen"
    assert [Path(line) for line in result.stdout.splitlines()] == [
        home / "__init__.py",
        home / "tokenizers" / "model.py",
        home,
    ]
