"""`vidgen train`: recipes by name, resumed by the same command, stopped by Ctrl-C without losing a step."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RECIPE = """# A tokenizer too small to be of use.
task: tokenizer
out: {out}
preset: tiny
steps: {steps}
batch_size: 1
log_every: 1
validate_every: 1000000
checkpoint_every: 1000000
autocast: float32
data: {{num_frames: 3, size: [16, 16], validation_clips: 1}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "ein Rezept ü.yaml"
    path.write_text(RECIPE.format(out=tmp_path / "run", steps=2), encoding="utf-8")
    return path


@pytest.mark.slow
def test_shipped_recipes_are_listed_and_load(vidgen) -> None:
    shipped = json.loads(vidgen("train", "--list", "--json").out)["recipes"]
    assert shipped and all(recipe["about"] for recipe in shipped)
    for recipe in shipped:
        ran = vidgen("train", recipe["name"], "steps=7", "--dry-run", "--json")
        assert json.loads(ran.out)["steps"] == 7, ran


def test_a_dry_run_prints_a_recipe_that_loads(vidgen, recipe: Path, tmp_path: Path) -> None:
    printed = vidgen("train", recipe, "optimizer.lr=0.125", "--dry-run").out
    assert "lr: 0.125" in printed and not (tmp_path / "run").exists()
    again = tmp_path / "again.yaml"
    again.write_text(printed, encoding="utf-8")
    assert vidgen("train", again, "--dry-run").out == printed


@pytest.mark.slow
def test_train_and_train_on(vidgen, recipe: Path, tmp_path: Path) -> None:
    ran = vidgen("train", recipe)
    assert ran.status == 0 and "final: trained to step 2, validation_" in ran.out, ran
    assert (tmp_path / "run" / "final" / "config.json").is_file()
    again = vidgen("train", recipe, "--json")
    assert again.status == 0 and "resuming from step 2 of 2" in again.err
    assert json.loads(again.out)["metrics"]["step"] == 2


BAD = {
    "no recipe": ((), "name a recipe"),
    "unknown recipe": (("nonsense",), "recipe 'nonsense' is neither a file nor a shipped recipe"),
    "unknown key": (("RECIPE", "colour=red"), "colour"),
    "unknown inner key": (("RECIPE", "optimizer.colour=red"), "optimizer.colour"),
    "no value": (("RECIPE", "steps"), "'steps' is not of the form key=value"),
    "type": (("RECIPE", "steps=many"), "steps"),
    "preset": (("RECIPE", "preset=huge"), "preset 'huge' is unknown"),
    "device": (("RECIPE", "device=abacus"), "device 'abacus' cannot be used here"),
    "out": (("RECIPE", "out=FILE/run"), "is a file, where a folder is needed"),
    "data": (("RECIPE", "data.sources=[{kind: clips, path: nowhere}]"), "nowhere: no such file or folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(vidgen, recipe: Path, tmp_path: Path, case: str) -> None:
    words, line = BAD[case]
    file = tmp_path / "file"
    file.touch()
    words = [str(word).replace("RECIPE", str(recipe)).replace("FILE", str(file)) for word in words]
    assert line in vidgen("train", *words).error
    assert not list(tmp_path.rglob("checkpoint-*"))


@pytest.mark.slow
def test_a_run_of_another_recipe_is_not_overwritten(vidgen, recipe: Path, tmp_path: Path) -> None:
    assert vidgen("train", recipe).status == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")}
    line = vidgen("train", recipe, "seed=1").error
    assert str(tmp_path / "run") in line and "seed" in line and "choose another out=" in line
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")}


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_goes_on(recipe: Path, tmp_path: Path) -> None:
    run, command = tmp_path / "run", [sys.executable, "-m", "vidgen.scripts.main", "train", str(recipe)]
    recipe.write_text(RECIPE.format(out=run, steps=1000000), encoding="utf-8")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for _ in range(6000):  # a busy machine takes its time to import
        if (run / "metrics.jsonl").exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    assert process.poll() is None, process.stderr.read()
    process.send_signal(signal.SIGINT)
    printed, error = process.communicate(timeout=600)
    assert process.returncode == 130 and printed == "", error
    (saved,) = run.glob("checkpoint-*")
    line = error.splitlines()[-1]
    assert line == f"interrupted; {saved} is saved: the same command goes on from there"
    assert (saved / "progress.json").is_file() and not [p for p in run.iterdir() if p.name.startswith(".")]
