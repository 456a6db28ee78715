"""All or nothing, for files and folders."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vidgen.errors import VidgenError, WriteError
from vidgen.files import atomic
from vidgen.files.atomic import atomic_write, sweep

ROOT = Path(__file__).resolve().parents[2]


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_write(path) as aside:
        aside.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as aside:
        aside.write_text("half")
        raise error
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_replaces_a_folder_but_not_a_file_a_folder(tmp_path):
    path = tmp_path / "model"
    for content in ("one", "two"):
        with atomic_write(path) as aside:
            aside.mkdir()
            (aside / content).touch()
    assert [p.name for p in path.iterdir()] == ["two"]
    with pytest.raises(VidgenError, match="is a folder"), atomic_write(path) as aside:
        aside.write_text("x")
    assert [p.name for p in path.iterdir()] == ["two"]


def test_no_folder_and_a_full_disk_are_one_line(tmp_path):
    with pytest.raises(VidgenError, match="does not exist; create it first"), atomic_write(tmp_path / "no" / "x"):
        pass
    with pytest.raises(VidgenError, match="No space left on device"), atomic_write(tmp_path / "x"):
        raise OSError(28, "No space left on device")


KILLED = """
import os, signal, sys
from vidgen.files.atomic import atomic_write
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with atomic_write(sys.argv[1]) as aside:
    if len(sys.argv) > 2:
        aside.mkdir()
        os.replace = die
    else:
        aside.write_text("half")
        die()
"""


def killed(*words: object) -> None:
    ran = subprocess.run([sys.executable, "-c", KILLED, *map(str, words)], cwd=ROOT, capture_output=True, check=False)
    assert ran.returncode == -9, ran.stderr


def test_the_next_start_removes_what_a_killed_process_left_and_nothing_else(tmp_path):
    killed(tmp_path / "a.txt")
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(atomic.SCRATCH)]
    with atomic_write(tmp_path / "mine.txt") as aside:
        aside.write_text("whole")
        atomic._swept.clear()  # as another process has it
        sweep(tmp_path)
        assert aside.read_text() == "whole"
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_what_was_about_to_be_replaced_comes_back(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("old")
    killed(tmp_path / "model", "between")
    assert not (tmp_path / "model").exists()
    sweep(tmp_path)
    assert [p.name for p in tmp_path.rglob("*")] == ["model", "weights"]


def test_an_error_between_the_renames_puts_it_back(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "model") as aside:
        aside.mkdir()
    assert [p.name for p in tmp_path.rglob("*")] == ["model", "weights"]


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(bytes(20_000)),
        lambda path: save_file({"x": torch.zeros(20_000)}, path),
        lambda path: torch.save({"x": torch.zeros(20_000)}, path),
    ],
    ids=["file", "safetensors", "torch"],
)
def test_a_full_disk_is_one_line_whoever_writes(tmp_path, write):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(WriteError, match="x: cannot be written: .*it needs more than 0.0 MiB"):
            with atomic_write(tmp_path / "x") as aside:
                write(aside)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_read_meanwhile_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(VidgenError, match="source.mp4: No such file") as error, atomic_write(tmp_path / "x"):
        (tmp_path / "source.mp4").open()
    assert not isinstance(error.value, WriteError)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_clear_away_and_end_in_128_and_their_number(tmp_path, number):
    code = """
import pathlib, sys, time
from vidgen.scripts import doctor, main
def look():
    from vidgen.files.atomic import atomic_write
    with atomic_write(sys.argv[2]) as aside:
        aside.write_text("half")
        print("ready", flush=True)
        time.sleep(100)
doctor.LOOKS = (look,)
main.main(sys.argv[1:2])
"""
    words = [sys.executable, "-c", code, "doctor", str(tmp_path / "x")]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, err = process.communicate()
    assert (process.returncode, err) == (128 + number, f"ended by {number.name}\n")
    assert not list(tmp_path.iterdir())
