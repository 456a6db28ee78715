"""Old words of the command line: each still works, and one line on stderr says the new one."""

import json
from pathlib import Path

import pytest

from vidgen.scripts.cli.renamed import RENAMED, Renamed, with_new_names


def line_of(renamed: Renamed) -> str:
    return f"warning: {' '.join(renamed.old)} is now called {' '.join(renamed.new)}\n"


@pytest.mark.parametrize("renamed", RENAMED, ids=lambda renamed: " ".join(renamed.old))
def test_every_old_name_becomes_the_new_one_with_one_warning(renamed: Renamed, capsys) -> None:
    start = [] if renamed.verb in (None, renamed.old[0]) else [renamed.verb]
    assert with_new_names([*start, *renamed.old, "x"]) == [*start, *renamed.new, "x"]
    assert capsys.readouterr().err == line_of(renamed)
    words = [*start, "x", "--", *renamed.old]  # behind a -- nothing is an option
    assert with_new_names(words) == words
    words = [*start, *renamed.new, "x"]
    assert with_new_names(words) == words
    assert capsys.readouterr().err == ""


def test_values_may_hang_on_their_option(capsys) -> None:
    assert with_new_names(["extract", "--taps=a,b", "--taps", "c"]) == ["extract", "--layers", "a,b", "--layers", "c"]
    assert capsys.readouterr().err == "warning: --taps is now called --layers\n"
    assert with_new_names(["restore", "--task=colourising"]) == ["restore", "--task", "colorization"]
    words = ["probe", "bank", "--task=colourising", "--layers=x"]  # a column of labels may be called so
    assert with_new_names(words) == words
    words = ["tokenizer", "decode", "fit", "-o", "fit.mp4"]
    assert with_new_names(words) == words


def test_old_names_on_the_command_line(vidgen, clip: Path, model: Path, tmp_path: Path) -> None:
    bank = tmp_path / "bank"
    words = ("extract", model / "vae", clip, "-o", bank, "--num-frames", 5, "--size", 16)
    ran = vidgen(*words, "--taps", "tokenizer.latents", "--json")
    assert ran.status == 0 and ran.err == "warning: --taps is now called --layers\n"
    assert json.loads(ran.out)["keys"] == ["tokenizer.latents"]
    ran = vidgen("tokenizer", "fit", clip, "-o", tmp_path / "x.safetensors", "--bpp", 6, "--steps", 1)
    assert ran.status == 0 and ran.err.startswith("warning: tokenizer fit is now called tokenizer nerv\n")
    ran = vidgen("probe", bank, "--goal", "class")
    assert ran.status == 2 and ran.err.startswith("warning: --goal is now called --target-type\nerror: ")
    ran = vidgen("restore", clip, "--task", "colourising", "-o", tmp_path / "y.mp4", "--model", model)
    assert ran.status == 0 and ran.err.startswith("warning: --task colourising is now called --task colorization\n")
