"""Where results go: never over what a verb reads, whichever verb and by whatever name, and nowhere that cannot be."""

import inspect
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import typer
from typer.core import TyperGroup

from vidgen.data.writing import write_video
from vidgen.errors import VidgenError
from vidgen.files.locks import exclusive
from vidgen.scripts.cli.outputs import INPUTS, OUTPUTS, beside, slug
from vidgen.scripts.main import PANELS, app

ROOT = Path(__file__).resolve().parents[3]
REQUIRED = {"task": "deblurring", "value": "red", "kind": "numpy", "count": "4"}


def callbacks(verbs: dict[str, object], words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    for name, verb in verbs.items():
        if isinstance(verb, typer.Typer):
            below = {c.name or c.callback.__name__.replace("_", "-"): c.callback for c in verb.registered_commands}
            yield from callbacks(below, (*words, name))
        else:
            yield (*words, name), verb


VERBS = {words: verb for panel in PANELS.values() for words, verb in callbacks(panel)}


@cache
def hints(verb: object) -> dict[str, str]:
    """The type of each of a verb's parameters, as text."""
    if hasattr(verb, "__signature__"):
        kinds = {p.name: p.annotation for p in inspect.signature(verb).parameters.values()}
    else:
        kinds = get_type_hints(verb, include_extras=True)
    return {name: str(get_args(kind)[0] if hasattr(kind, "__metadata__") else kind) for name, kind in kinds.items()}


def test_every_path_of_every_verb_is_read_or_written() -> None:
    named = {name for verb in VERBS.values() for name, kind in hints(verb).items() if "Path" in kind}
    assert named <= {*INPUTS, *OUTPUTS}, named - {*INPUTS, *OUTPUTS}
    assert not set(INPUTS) & set(OUTPUTS)


def words_of(words: tuple[str, ...], values: dict[str, Path]) -> list[str]:
    """A command line of that verb in which the parameters named are given, and what else it cannot do without."""
    verb = command()
    for word in words:
        verb = verb.commands[word]
    assert not isinstance(verb, TyperGroup)
    line = list(words)
    for param in verb.params:
        value = values.get(param.name, REQUIRED.get(param.name, "nothing") if param.required else None)
        if value is not None:
            option = [max(param.opts, key=len)] if param.param_type_name == "option" else []
            line += [*option, str(value)]
    return line


PAIRS = [
    (words, name, output)
    for words, verb in VERBS.items()
    for output in OUTPUTS
    for name in INPUTS
    if "Path" in hints(verb).get(output, "") and re.search("Path|str", hints(verb).get(name, ""))
]


@cache
def command() -> TyperGroup:
    return app.to_command()


def run(line: list[str]) -> None:
    """Run a command line as `vidgen` does, without building the whole command anew."""
    with command().make_context("vidgen", line) as context:
        command().invoke(context)


def test_no_verb_writes_over_what_it_reads(tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    source.write_bytes(b"mine")
    for words, name, output in PAIRS:
        with pytest.raises(VidgenError, match="in.mp4: is the file that is read"):
            run(words_of(words, {name: source, output: source}))
    assert source.read_bytes() == b"mine" and [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


WRITTEN = [
    (words, output) for words, verb in VERBS.items() for output in OUTPUTS if "Path" in hints(verb).get(output, "")
]


def test_no_verb_writes_what_another_process_is_writing(tmp_path: Path) -> None:
    """Whatever it is called: the second one is refused before it reads anything, and the first one is named."""
    target = tmp_path / "out.mp4"
    target.write_bytes(b"of the first")
    assert len(WRITTEN) > 25
    for words, output in WRITTEN:
        with exclusive(target, "output"):
            with pytest.raises(VidgenError, match=f"out.mp4: this output is being written by process {os.getpid()};"):
                run(words_of(words, {output: target}))
    assert target.read_bytes() == b"of the first" and [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_an_output_that_nobody_named_is_locked_too(vidgen, tmp_path: Path, clip: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = sorted(tmp_path.iterdir())
    tokens = f"{clip.stem}.safetensors"
    verbs = {"encode": (clip, tokens), "nerv": (clip, tokens), "decode": ("of/film.safetensors", "film.mp4")}
    for verb, (source, name) in verbs.items():
        with exclusive(name, "output"):
            assert f"{name}: this output is being written" in vidgen("tokenizer", verb, source).error
    with exclusive("a/b/table", "output"):
        line = vidgen("tokenizer", "compare", "compare_bottlenecks", "--out", "a/b/table").error
    assert "a/b/table: this output is being written" in line
    assert sorted(tmp_path.iterdir()) == files


def test_a_source_is_the_same_by_every_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.mp4").write_bytes(b"mine")
    Path("folder").mkdir()
    Path("folder/a.mp4").write_bytes(b"mine too")
    Path("link.mp4").symlink_to("in.mp4")
    Path("beside").symlink_to("folder")
    os.link("in.mp4", "hard.mp4")
    names = {"in.mp4": ["link.mp4", "hard.mp4", "folder/../in.mp4", tmp_path / "in.mp4"]}
    names |= {"folder": ["folder/", "beside", "folder/a.mp4", "beside/a.mp4", "folder/../folder"]}
    before = sorted(Path().rglob("*"))
    for read, outputs in names.items():
        for written in outputs:
            with pytest.raises(VidgenError, match="would be lost"):
                run(["tokenizer", "reconstruct", read, "-o", str(written)])
    assert Path("in.mp4").read_bytes() == b"mine" and Path("folder/a.mp4").read_bytes() == b"mine too"
    assert sorted(Path().rglob("*")) == before


def test_enough_verbs_were_tried() -> None:
    assert {words[0] for words, *_ in PAIRS} >= {"sample", "tokenizer", "extract", "restore", "steer", "bank", "probe"}


@pytest.mark.parametrize("name", ["", ".", "-"])
def test_what_is_no_place_is_refused_by_every_verb(tmp_path: Path, monkeypatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    for words in [words for words, verb in VERBS.items() if "output" in hints(verb)]:
        line = words_of(words, {})
        if "--output" in line:
            line[line.index("--output") + 1] = name
        else:
            line += ["--output", name]
        with pytest.raises(VidgenError, match="name a file or folder"):
            run(line)
    assert not list(tmp_path.iterdir())


PLACES = {"of a file": "file/x.mp4", "missing": "no/x.mp4", "a folder": "folder", "a device": "/dev/null"}
PLACES |= {"a pipe": "pipe"}


@pytest.mark.parametrize("place", PLACES)
def test_what_cannot_be_written_is_found_before_the_model(vidgen, tmp_path: Path, clip: Path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").touch()
    os.mkfifo(tmp_path / "pipe")
    out = PLACES[place]
    for words in (("tokenizer", "encode", clip), ("tokenizer", "reconstruct", clip), ("sample", "a circle")):
        line = vidgen(*words, "-o", out, "--model", "not-even-looked-at").error
        assert out in line and "not-even-looked-at" not in line
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_record_of_many_is_not_written_over(vidgen, tmp_path: Path, clip: Path) -> None:
    """A manifest's clips may lie where results of their names would go."""
    manifest = tmp_path / "list.csv"
    other = clip.rename(tmp_path / "a.mp4")
    manifest.write_text("path\na.mp4\n")
    before = other.read_bytes()
    line = vidgen("tokenizer", "reconstruct", manifest, "-o", tmp_path, "--model", "not-even-looked-at").error
    assert "would be lost" in line and other.read_bytes() == before


def test_names_leave_place_for_suffixes() -> None:
    for text in ("𐌰" * 100, "字" * 100, "a" * 300, "İ" * 100):
        assert len(slug(text).encode()) <= 200 and slug(text)


@pytest.mark.parametrize("suffix", [".mp4", ".webp"])
def test_the_longest_name_has_room_for_what_lies_beside_it(vidgen, model: Path, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / ("字" * ((255 - len(suffix)) // 3) + suffix)
    assert vidgen("sample", "a red circle moves right", "--model", model, "-o", output).status == 0
    assert sorted(tmp_path.iterdir()) == [output]
    latents = beside(output, ".latents.safetensors").name
    assert len(latents.encode()) <= 255 and latents.startswith("字字") and latents.endswith(".latents.safetensors")
    other = beside(output.with_name(f"{output.stem[:-1]}a{suffix}"), ".latents.safetensors").name
    assert other != latents and other[:60] == latents[:60]


def test_the_index_of_clips_with_long_names(vidgen, model: Path, tmp_path: Path) -> None:
    output = tmp_path / ("n" * 249 + ".mp4")
    words = ("sample", "a red circle moves right", "--model", model, "-o", output, "--num-videos-per-prompt", 2)
    assert vidgen(*words).status == 0
    names = [path.name for path in tmp_path.iterdir()]
    assert len(names) == 3 and sum(name.endswith(".clips.jsonl") for name in names) == 1
    assert vidgen(*words).status == 0 and sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_a_name_that_is_too_long_is_one_line(vidgen, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for length in (252, 300):
        line = vidgen("sample", "a circle", "-o", "n" * length + ".mp4", "--model", "not-even-looked-at").error
        assert "too long" in line and "not-even-looked-at" not in line
    assert not list(tmp_path.iterdir())


FULL = """
import resource, signal, sys
from vidgen.scripts.main import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["encode", "reconstruct", "extract"])
def test_a_full_disk_ends_a_folder_in_one_line(vidgen, model: Path, tmp_path: Path, clip: Path, verb: str) -> None:
    """Files may not grow beyond a limit, which only the second clip reaches: the first is whole and stays."""
    clips = tmp_path / "clips"
    clips.mkdir()
    clip.rename(clips / "a.mp4")
    noise = np.random.default_rng(0).integers(0, 255, (40, 160, 160, 3), np.uint8)
    write_video(noise, clips / "b.mp4", fps=8)
    out = tmp_path / "out"
    words = (
        "extract",
        model,
        clips,
        "--pool",
        "none",
        "--layers",
        "tokenizer.latents",
        "--size",
        64,
    )
    if verb != "extract":
        words = ("tokenizer", verb, clips, "--model", model)
    command = [sys.executable, "-B", "-c", FULL.format(limit=20_000 if verb != "extract" else 3_000)]
    ran = subprocess.run(
        [*command, *map(str, words), "-o", str(out)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    (line,) = [line for line in ran.stderr.splitlines() if line.startswith("error: ")]
    assert ran.returncode == 2 and "File too large" in line and "are free" in line and "Traceback" not in ran.stderr
    if verb != "extract":
        assert str(out / "b.mp4") in line
        assert vidgen(*words, "-o", out).status == 0  # with room, the same command goes on
        done = {p.name for p in out.rglob("*") if p.is_file()}
        suffix = ".safetensors" if verb == "encode" else ""
        assert done == {f"a.mp4{suffix}", f"b.mp4{suffix}"} | ({"index.jsonl"} if suffix else set())
