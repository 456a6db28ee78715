"""The command as a whole: usage errors, failures, bugs and interrupts each have their exit status."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vidgen.errors import VidgenError
from vidgen.scripts import doctor
from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.errors import explain
from vidgen.scripts.cli.options import parse_names, parse_numbers, parse_size
from vidgen.scripts.main import PANELS, app, main

ROOT = Path(__file__).resolve().parents[2]
VERBS = tuple(verb for panel in PANELS.values() for verb in panel)


def test_every_verb_is_listed_and_has_a_file_and_a_page(vidgen) -> None:
    printed = vidgen("--help").out
    page = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    for verb in VERBS:
        assert verb in printed and f"vidgen {verb}" in page
        name = verb.replace("-", "_")
        places = (f"{name}.py", f"{name}/app.py", f"text_video/{name}.py")
        files = [ROOT / "scripts" / place for place in places]
        (source,) = (file.read_text(encoding="utf-8") for file in files if file.is_file())
        assert f'run_verb("{verb}"' in source
        ran = vidgen(verb, "--help")
        assert ran.status == 0 and "Usage: vidgen" in ran.out


def test_the_help_has_everyday_verbs_first(vidgen) -> None:
    printed = vidgen("--help").out
    listed = [line.split()[1] for line in printed.splitlines() if line[:2] == "│ " and line[2] not in " -"]
    assert listed == list(VERBS)
    everyday = ["sample", "train", "tokenizer", "extract", "probe", "retrieve", "classify", "locate", "data", "doctor"]
    assert listed[: len(everyday)] == everyday
    assert list(PANELS) == sorted(PANELS, key=printed.index)


@pytest.mark.slow
@pytest.mark.parametrize("start", [["-m", "vidgen.scripts.train"], [str(ROOT / "scripts" / "train.py")]])
def test_a_verb_runs_by_itself(start: list[str], tmp_path: Path) -> None:
    """As `torchrun -m vidgen.scripts.train` and `python scripts/train.py` start it, from any folder."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *start, "no-such-recipe", "--json"]
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 2 and ran.stderr.startswith("error: ") and "no-such-recipe" in ran.stderr, ran.stderr
    ran = subprocess.run([*command[:-2], "--help"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and "Usage: vidgen train" in ran.stdout


def test_scripts_hide_no_package_of_others(monkeypatch) -> None:
    ran = []
    monkeypatch.setattr("vidgen.scripts.cli.dispatch.run_app", lambda app, arguments: ran.append(arguments))
    monkeypatch.setattr(sys, "path", [str(ROOT / "scripts"), str(ROOT / "scripts" / "tokenizer"), str(ROOT)])
    monkeypatch.setattr(sys, "argv", ["doctor.py", "--json"])
    run_verb("doctor", doctor.doctor)
    assert sys.path == [str(ROOT)] and ran == [["doctor", "--json"]]


def test_the_version(vidgen) -> None:
    import vidgen as package

    assert vidgen("--version").out == f"vidgen {package.__version__}\n"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("smaple",), "No such command 'smaple'. Did you mean 'sample'?; see `vidgen --help`"),
        (("data", "look"), "No such command 'look'; see `vidgen data --help`"),
        (("tokenizer", "encode"), "see `vidgen tokenizer encode --help`"),
        (("probe", "bank", "--kind", "magic"), "'magic'"),
    ],
)
def test_usage_errors_are_one_line(vidgen, words: tuple[str, ...], line: str) -> None:
    assert line in vidgen(*words).error


def test_no_verb_prints_the_help(vidgen) -> None:
    ran = vidgen()
    assert ran.status == 2 and "sample" in ran.out + ran.err and "error" not in ran.err


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def look() -> None:
        raise error

    monkeypatch.setattr(doctor, "LOOKS", (look,))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (VidgenError("first\nsecond; do this"), "error: first\\nsecond; do this"),
        (PermissionError(13, "Permission denied", "x.mp4"), "error: x.mp4: Permission denied; check the path"),
        (OSError(28, "No space left on device"), "error: No space left on device; check"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 TB"), "error: out of memory"),
        (MemoryError(), "error: out of memory"),
    ],
)
def test_failures_end_in_one_line_and_status_2(vidgen, monkeypatch, error: Exception, line: str) -> None:
    failing(monkeypatch, error)
    assert vidgen("doctor").error.startswith(line)


def test_interrupts_end_in_130(vidgen, monkeypatch) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    ran = vidgen("doctor")
    assert (ran.status, ran.err) == (130, "interrupted\n")


@pytest.mark.parametrize("error", [ValueError("bug"), KeyError("bug"), RuntimeError("bug")])
def test_bugs_keep_their_traceback(vidgen, monkeypatch, error: Exception) -> None:
    failing(monkeypatch, error)
    assert explain(error) is None
    with pytest.raises(type(error), match="bug"):
        vidgen("doctor")


def test_the_entry_point_exits(monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["vidgen", "--version"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    code = "import sys\nfrom vidgen.scripts.main import main\nmain(['doctor', '--help'])"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    process.wait()


@pytest.mark.slow
def test_the_doctor_looks_at_everything(vidgen) -> None:
    report = json.loads(vidgen("doctor", "--json").out)
    names = {finding["name"] for finding in report["findings"]}
    assert {"python", "packages", "threads", "matmul", "xformers", "video", "disk", "hub"} <= names
    for finding in report["findings"]:
        assert finding["status"] in ("ok", "warn") and finding["found"]
        assert (finding["status"] == "warn") == bool(finding["advice"]), finding
    assert all(line.split()[0] in ("ok", "warn") for line in vidgen("doctor").out.splitlines())


def test_words_of_options() -> None:
    assert parse_size("64") == (64, 64) and parse_size("64x96") == (64, 96) and parse_size(None) is None
    assert parse_names(" a, b,") == ["a", "b"] and parse_numbers("0, 0.1", "--x") == [0.0, 0.1]
    for text in ("0", "64x", "x64", "-3", "64x0", "big"):
        with pytest.raises(VidgenError, match="is not a size"):
            parse_size(text)
    with pytest.raises(VidgenError, match="--noise-levels 'much' is not a list of numbers"):
        parse_numbers("much", "--noise-levels")


def test_the_app_has_no_command_without_help() -> None:
    for command in app.registered_commands:
        assert command.callback.__doc__


def test_offline_stands_anywhere(vidgen, monkeypatch, clip) -> None:
    seen = {}

    def fetch(name: str, **settings: object) -> str:
        seen.update(settings)
        raise OSError("not in the cache")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    line = "error: model 'nobody/nothing' is not shipped (default, encoder, prior), not a folder, and not to be had"
    words = ("tokenizer", "reconstruct", clip, "--model", "nobody/nothing")
    for command, offline in ((words, False), ((*words, "--offline"), True), (("--offline", *words), True)):
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # and what it was comes back after the test
        assert vidgen(*command).error.startswith(line) and seen["local_files_only"] is offline
