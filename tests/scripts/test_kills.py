"""`kill -9` at any moment: the same command goes on, ends as if nothing had been, and leaves no scratch."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KILLS = 3


def run(words: list[str], folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "vidgen.scripts.main", *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def kill_and_go_on(words: list[str], out: str, folder: Path, count: Callable[[Path], int]) -> None:
    """Kill the command a little after each of its first results, and then let it end."""
    moments = random.Random(0)
    for _ in range(KILLS):
        process = run([*words, out], folder)
        goal = count(folder / out.removeprefix("out=")) + 1
        while count(folder / out.removeprefix("out=")) < goal and process.poll() is None:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.2))
        process.kill()
        process.communicate()
    process = run([*words, out], folder)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert not [p for p in folder.rglob(".*")]


@pytest.mark.slow
def test_sample_goes_on(model: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("".join(f"a circle {i}\n" for i in range(12)))
    words = ["sample", "--prompts-file", "p.txt", "--model", str(model), "--batch-size", "3", "-o"]
    assert run([*words, "whole"], tmp_path).wait() == 0
    kill_and_go_on(words, "killed", tmp_path, lambda out: len(list(out.glob("*.mp4"))))
    whole, killed = ({p.name: p.read_bytes() for p in (tmp_path / n).glob("*.mp4")} for n in ("whole", "killed"))
    assert len(whole) == 12 and whole == killed


@pytest.mark.slow
def test_train_goes_on(tmp_path: Path) -> None:
    words = "train tokenizer_default preset=tiny steps=40 batch_size=2 checkpoint_every=4 autocast=float32".split()
    words += ["data.num_frames=5", "data.size=[16,16]", "data.validation_clips=2", "data.sources=[{kind: shapes}]"]
    assert run([*words, "out=whole"], tmp_path).wait() == 0

    def newest(out: Path) -> int:
        return max((int(p.name.rpartition("-")[2]) for p in out.glob("checkpoint-*")), default=0) // 4

    kill_and_go_on(words, "out=killed", tmp_path, newest)
    whole, killed = (
        {p.name: p.read_bytes() for p in (tmp_path / n / "final").glob("*.safetensors")} for n in ("whole", "killed")
    )
    assert whole and whole == killed
