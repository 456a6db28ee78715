"""Kill -9 while a folder of features or tokens is written: the bytes of a run that was not killed, and no others."""

import fnmatch
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from vidgen.data.writing import write_video
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS

CLIPS = 4
EXTRACT = """
import sys
from vidgen.pipelines.loading import load_tokenizer
from vidgen.representations.extract import extract_source
model, clips, out = sys.argv[1:]
setting = {"layers": ["tokenizer.latents"], "num_frames": 5, "size": 32}
extract_source(load_tokenizer(model), clips, out, batch_size=1, shard_rows=1, **setting)
"""
COMMANDS = {
    "extract": lambda model, clips, out: ["-c", EXTRACT, model, clips, out],
    "encode": lambda model, clips, out: [
        *("-m", "vidgen.scripts.main", "tokenizer", "encode", clips, "-o", out, "--model", model)
    ],
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> tuple[str, str]:
    """A small tokenizer and a folder of clips."""
    folder = tmp_path_factory.mktemp("inputs")
    torch.manual_seed(0)
    VideoTokenizer(PRESETS["tiny"]).save_pretrained(folder / "model")
    (folder / "clips").mkdir()
    rng = np.random.default_rng(0)
    for i in range(CLIPS):
        write_video(rng.integers(0, 255, (9, 32, 32, 3), np.uint8), folder / "clips" / f"{i}.mp4", fps=8)
    return str(folder / "model"), str(folder / "clips")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder; folders that are empty, by b''."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
        if path.is_file() or not any(path.iterdir())
    }


def count_files(folder: Path, pattern: str) -> int:
    """How many files and folders of a name there are; what vanishes during the look is left out, where rglob raises."""
    return sum(len(fnmatch.filter(folders + files, pattern)) for _, folders, files in os.walk(folder))


@pytest.mark.slow
@pytest.mark.parametrize("verb", COMMANDS)
def test_kill_nine_and_the_same_command(inputs: tuple[str, str], tmp_path: Path, verb: str) -> None:
    whole = tmp_path / "a" / "out"
    whole.parent.mkdir()
    command = [sys.executable, *COMMANDS[verb](*inputs, str(whole))]
    subprocess.run(command, check=True, capture_output=True)
    truth = contents(whole.parent)
    for number in range(3):  # killed once so many files of tokens or features are there
        out = tmp_path / f"b{number}" / "out"
        out.parent.mkdir()
        command = [sys.executable, *COMMANDS[verb](*inputs, str(out))]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        pattern = "*.safetensors" if number else "out*"
        while process.poll() is None and count_files(out.parent, pattern) < max(1, number):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        subprocess.run(command, check=True, capture_output=True)
        assert contents(out.parent) == truth
