"""One writer at a time: refused by name, free once the process has ended in whatever way, and nothing left behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vidgen.errors import VidgenError
from vidgen.files.locks import exclusive, reserve

HOLD = """
import sys, os, time
from vidgen.files.locks import exclusive
with exclusive(sys.argv[1], "bank"):
    if sys.argv[2] == "fork" and os.fork() == 0:
        time.sleep(60)
    print("held", os.getpid(), flush=True)
    sys.stdin.readline()
"""


def hold(path: Path, way: str = "alone") -> subprocess.Popen:
    """A process that holds the lock of a path until it reads a line, or is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), way], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().startswith("held")
    return process


def test_the_second_writer_is_refused_and_the_first_one_named(tmp_path: Path) -> None:
    with exclusive(tmp_path / "bank", "bank"):
        assert [path.name for path in tmp_path.iterdir()] == [".bank.lock"]
        with pytest.raises(VidgenError, match=rf"bank: this bank is being written by process {os.getpid()};"):
            with exclusive(tmp_path / "bank", "bank"):
                pass
        with exclusive(tmp_path / "other", "bank"):  # another path is another lock
            pass
    assert not list(tmp_path.iterdir())
    with exclusive(tmp_path / "bank", "bank"):
        pass


def test_what_is_reserved_is_lent_to_one_writer_at_a_time(tmp_path: Path) -> None:
    bank = tmp_path / "bank"
    with reserve(bank, "output"), reserve(bank, "output"):
        for _ in range(2):
            with exclusive(bank, "bank"), pytest.raises(VidgenError, match="being written"):
                with exclusive(bank, "bank"):
                    pass
        with pytest.raises(ZeroDivisionError), exclusive(bank, "bank"):
            raise ZeroDivisionError
        assert [path.name for path in tmp_path.iterdir()] == [".bank.lock"]
        other = subprocess.run([sys.executable, "-c", HOLD, str(bank), "alone"], capture_output=True, text=True)
        assert f"being written by process {os.getpid()};" in other.stderr
    assert not list(tmp_path.iterdir())
    with exclusive(bank, "bank"), pytest.raises(VidgenError, match="being written"), reserve(bank, "output"):
        pass


def test_one_folder_by_several_names_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bank").mkdir()
    (tmp_path / "link").symlink_to("bank")
    monkeypatch.chdir(tmp_path / "bank")
    with exclusive(tmp_path / "bank", "bank"):
        for name in ("../link", ".", "../bank/../bank"):
            with pytest.raises(VidgenError, match="being written"), exclusive(name, "bank"):
                pass


def test_threads_are_kept_apart(tmp_path: Path) -> None:
    errors = []

    def second() -> None:
        try:
            with exclusive(tmp_path / "bank", "bank"):
                pass
        except VidgenError as error:
            errors.append(error)

    with exclusive(tmp_path / "bank", "bank"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(errors) == 1


def test_an_error_frees_the_lock(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path / "bank", "bank"):
        raise ZeroDivisionError
    with exclusive(tmp_path / "bank", "bank"):
        pass


def test_missing_folders_are_made_for_the_writer_and_go_with_an_idle_one(tmp_path: Path) -> None:
    with exclusive(tmp_path / "a" / "b" / "run", "run"):
        pass
    assert not list(tmp_path.iterdir())
    with exclusive(tmp_path / "a" / "b" / "run", "run"):
        (tmp_path / "a" / "b" / "run").mkdir()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "run"]


def test_where_nothing_can_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VidgenError, match="cannot be written"), exclusive(tmp_path / "file" / "bank", "bank"):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("way", ["alone", "fork"])
def test_kill_nine_frees_the_lock(tmp_path: Path, way: str) -> None:
    """Also where the process has children, who hold its open files: workers that load data."""
    process = hold(tmp_path / "bank", way)
    with pytest.raises(VidgenError, match=f"process {process.pid};"), exclusive(tmp_path / "bank", "bank"):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    with exclusive(tmp_path / "bank", "bank"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_child_that_has_not_yet_let_go_of_a_killed_process_lock_is_waited_for(tmp_path: Path) -> None:
    """A fork that the kill overtook holds the lock for a moment more."""
    fcntl = pytest.importorskip("fcntl")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with exclusive(tmp_path / "bank", "bank"):
        (file,) = tmp_path.iterdir()
    child = os.open(file, os.O_RDWR | os.O_CREAT)
    os.write(child, f"{ended.pid} {socket.gethostname()}".encode())
    fcntl.flock(child, fcntl.LOCK_EX)
    threading.Timer(0.3, os.close, (child,)).start()
    with exclusive(tmp_path / "bank", "bank"):
        pass
    assert not list(tmp_path.iterdir())


def test_paths_that_differ_at_the_end_of_a_long_name_have_locks_of_their_own(tmp_path: Path) -> None:
    for length in (200, 240, 254):
        first, second = (tmp_path / ("n" * length + end) for end in "ab")
        with exclusive(first, "bank"), exclusive(second, "bank"):
            assert len(list(tmp_path.iterdir())) == 2
            with pytest.raises(VidgenError, match="is being written"), exclusive(first, "bank"):
                pass
    assert not list(tmp_path.iterdir())
