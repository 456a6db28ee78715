"""Ours and Hugging Face's `tokenizers` side by side, in every way to start Python; what is imported, and when."""

import ast
import importlib
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers

import vidgen

ROOT = Path(__file__).resolve().parents[1]
SIDES = ("tokenizers", "samplers", "train", "scripts")
ORDERS = {
    "theirs first": "import tokenizers, vidgen.tokenizers",
    "ours first": "import vidgen.tokenizers, tokenizers",
}
# Finds modules without running them, so that an interpreter answers in a fraction of a second.
PROBE = """
import importlib.util, pathlib, sys
{imports}
assert tokenizers.Tokenizer, "Hugging Face's package is hidden"
root = pathlib.Path(sys.argv[1])
for side in {sides!r}:
    for file in (root / side).rglob("*.py"):
        name = ".".join(["vidgen", *file.relative_to(root).with_suffix("").parts])
        origin = importlib.util.find_spec(name.removesuffix(".__init__")).origin
        assert pathlib.Path(origin).samefile(file), (name, origin)
"""


def python(*arguments: str, cwd: Path, installed: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a fresh interpreter; `installed=False` shows it the dependencies but no editable install (reads no .pth)."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    flags = []
    if not installed:
        flags = ["-S"]
        env["PYTHONPATH"] = str(Path(tokenizers.__file__).parents[1])
    command = [sys.executable, *flags, *arguments]
    result = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("installed", [True, False], ids=["as installed", "plain checkout"])
def test_both_are_found_at_the_root(order: str, installed: bool) -> None:
    python("-c", PROBE.format(imports=ORDERS[order], sides=SIDES), str(ROOT), cwd=ROOT, installed=installed)


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_both_are_found_from_elsewhere(order: str, tmp_path: Path) -> None:
    origins = [found.read_text("direct_url.json") or "" for found in importlib.metadata.distributions(name="vidgen")]
    if not any(f'"{ROOT.as_uri()}"' in origin for origin in origins):
        pytest.skip("this checkout is not installed here; pip install -e . to check it from another folder")
    python("-c", PROBE.format(imports=ORDERS[order], sides=SIDES), str(ROOT), cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_ours_runs_beside_theirs(order: str) -> None:
    imports = ORDERS[order].replace("vidgen.tokenizers", "vidgen.tokenizers.model")
    check = "assert vidgen.VideoTokenizer is vidgen.tokenizers.model.VideoTokenizer and tokenizers.Tokenizer"
    python("-c", f"{imports}\n{check}", cwd=ROOT)


def test_theirs_is_found_by_this_very_process() -> None:
    assert tokenizers.Tokenizer and not Path(tokenizers.__file__).is_relative_to(ROOT / "tokenizers")
    assert importlib.import_module("vidgen.tokenizers") is not tokenizers


def test_the_command_runs_as_a_module_at_the_root() -> None:
    assert "sample" in python("-m", "vidgen.scripts.main", "--help", cwd=ROOT).stdout


HEAVY = ("torch", "numpy", "diffusers", "transformers", "sklearn", "av", "imageio", "omegaconf")


def test_import_vidgen_loads_nothing_heavy() -> None:
    log = python("-X", "importtime", "-c", "import vidgen; dir(vidgen)", cwd=ROOT, installed=False).stderr
    loaded = {line.rsplit("|", 1)[1].strip() for line in log.splitlines() if line.startswith("import time:")}
    assert "vidgen" in loaded
    assert not loaded & {*HEAVY, "rich", "typer"}


def test_help_loads_nothing_heavy() -> None:
    code = f"""
import sys
from vidgen.scripts.main import main
sys.argv = ["vidgen", "--help"]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print("loaded:", sorted(set({HEAVY!r}) & set(sys.modules)))
"""
    assert python("-c", code, cwd=ROOT).stdout.splitlines()[-1] == "loaded: []"


@pytest.mark.slow
def test_loading_and_sampling_leave_the_compiler_out() -> None:
    """It takes a second and 140 MiB, and arithmetic on tensors without memory would import it."""
    code = """
import sys, vidgen
pipe = vidgen.load_pipeline("default")
pipe("a red circle moves right", num_inference_steps=1)
print("loaded:", [name for name in ("torch._dynamo", "sympy", "sklearn", "diffusers") if name in sys.modules])
"""
    assert python("-c", code, cwd=ROOT).stdout.splitlines()[-1] == "loaded: []"


@pytest.mark.parametrize("name", vidgen._PUBLIC)
def test_public_names_resolve(name: str) -> None:
    assert getattr(vidgen, name) is getattr(importlib.import_module(vidgen._PUBLIC[name]), name)
    assert name in dir(vidgen)


def test_type_checkers_see_the_same_public_names() -> None:
    tree = ast.parse((ROOT / "vidgen" / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {node.names[0].asname: node.module for node in block.body if isinstance(node, ast.ImportFrom)}
    assert seen == vidgen._PUBLIC


def test_an_unknown_name_is_an_attribute_error_that_lists_the_known() -> None:
    with pytest.raises(AttributeError, match=r"'load_tokeniser'.*load_tokenizer"):
        vidgen.load_tokeniser  # noqa: B018
