"""Token files from the command line: parts, folders, budgets."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vidgen.data.reading import read_video
from vidgen.data.writing import write_video
from vidgen.errors import VidgenError
from vidgen.files.seals import json_checksum
from vidgen.scripts.cli.memory import parse_bytes
from vidgen.scripts.cli.moments import parse_moment
from vidgen.tokenizers.model import TokenizerConfig, VideoTokenizer

F32 = ("--dtype", "float32")


@pytest.fixture
def folder(clip: Path, tmp_path: Path) -> Path:
    """Two clips of one name but for the suffix, one further down, and two that are none."""
    folder = tmp_path / "clips"
    (folder / "sub").mkdir(parents=True)
    frames = read_video(clip).frames
    write_video(frames, folder / "a.mp4", fps=8)
    write_video(frames[:5], folder / "a.mkv", fps=8)
    write_video(frames[::-1], folder / "sub" / "b ü.mp4", fps=8)
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("not a video\n" * 40)
    return folder


def test_a_folder_and_back(vidgen, model: Path, folder: Path, tmp_path: Path) -> None:
    out, back = tmp_path / "tokens", tmp_path / "back"
    ran = vidgen("tokenizer", "encode", folder, "-o", out, "--model", model, *F32, "--json")
    report = json.loads(ran.out)
    names = ["a.mkv.safetensors", "a.mp4.safetensors", "sub/b ü.mp4.safetensors"]
    assert ran.status == 0 and (report["encoded"], report["kept"]) == (3, 0)
    assert [Path(f["path"]).name for f in report["failed"]] == ["empty.mp4", "text.mp4"] and "empty.mp4" in ran.err
    assert {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()} == {*names, "index.jsonl"}
    rows = [json.loads(line) for line in (out / "index.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["path"] for row in rows] == names
    assert [{k: v for k, v in row.items() if k != "checksum"} for row in rows] == report["clips"]
    wanted = {"source": str(folder / "a.mkv"), "frames": 5, "fps": 8.0, "height": 24, "width": 32}
    wanted |= {"bytes": (out / names[0]).stat().st_size, "bits": 4 * 2 * 3 * 4 * 32}
    assert wanted.items() <= rows[0].items() and {"hash", "tokenizer_hash"} <= set(rows[0])

    ran = vidgen("tokenizer", "decode", out, "-o", back, "--model", model, *F32, "--json")
    assert ran.status == 0 and len(json.loads(ran.out)["clips"]) == 3
    found = {str(p.relative_to(back)): len(read_video(p).frames) for p in back.rglob("*.*")}
    assert found == {"a.mkv.mp4": 5, "a.mp4.mp4": 9, "sub/b ü.mp4": 9}


def test_a_folder_is_continued(vidgen, model: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "tokens"
    words = ("tokenizer", "encode", folder, "-o", out, "--model", model, *F32)
    assert vidgen(*words).status == 0
    stamps = {p.name: p.stat().st_mtime_ns for p in out.rglob("*.safetensors")}
    (out / "a.mp4.safetensors").unlink()
    shutil.copy(folder / "a.mp4", folder / "new.mp4")
    ran = vidgen(*words)
    assert "2 clips encoded, 2 there already, 2 left out" in ran.out
    again = {p.name: p.stat().st_mtime_ns for p in out.rglob("*.safetensors")}
    assert [name for name in stamps if again[name] != stamps[name]] == ["a.mp4.safetensors"]
    assert "4 clips encoded, 0 there already" in vidgen(*words, "--num-frames", 2).out  # made in another way


def test_clips_are_encoded_again_when_their_contents_change(vidgen, model: Path, tmp_path: Path) -> None:
    """Not when they were touched; but always when they change, though their size and time stay."""
    folder, out, manifest = tmp_path / "clips", tmp_path / "tokens", tmp_path / "list.csv"
    folder.mkdir()
    names = [f"{i}.bmp" for i in range(2)]
    manifest.write_text("path\nclips/0.bmp\nclips/1.bmp\n")
    for i, name in enumerate(names):
        Image.new("RGB", (16, 16), (90 * i, 0, 0)).save(folder / name)
    words = ("tokenizer", "encode", manifest, "-o", out, "--model", model, *F32)
    assert vidgen(*words).status == 0
    (tokens,) = out.rglob("0.bmp.safetensors")
    before = tokens.read_bytes()
    stat = (folder / names[0]).stat()
    for name in names:
        os.utime(folder / name, (1, 1))
    assert "0 clips encoded, 2 there already" in vidgen(*words).out
    os.utime(folder / names[0], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    Image.new("RGB", (16, 16), (0, 255, 0)).save(folder / names[0])
    os.utime(folder / names[0], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    again = (folder / names[0]).stat()
    assert (again.st_size, again.st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert "1 clip encoded, 1 there already" in vidgen(*words).out
    assert tokens.read_bytes() != before


def test_a_folder_of_an_earlier_version_is_continued(vidgen, model: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "tokens"
    words = ("tokenizer", "encode", folder, "-o", out, "--model", model, *F32)
    assert vidgen(*words).status == 0
    index = out / "index.jsonl"
    rows = [json.loads(line) for line in index.read_text(encoding="utf-8").splitlines()]
    for added in (("made_from", "checksum", "seal"), ("made_from",)):
        lines = [{key: row[key] for key in row if key not in added} for row in rows]
        for line in lines:
            if "seal" in line:
                line["checksum"] = json_checksum({key: value for key, value in line.items() if key != "checksum"})
        index.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        assert "0 clips encoded, 3 there already" in vidgen(*words).out


def test_a_damaged_token_file_of_a_folder_is_named(vidgen, model: Path, folder: Path, tmp_path: Path) -> None:
    out, back = tmp_path / "tokens", tmp_path / "back"
    vidgen("tokenizer", "encode", folder, "-o", out, "--model", model, *F32)
    bad = out / "a.mkv.safetensors"
    bad.write_bytes(bad.read_bytes()[:-5])
    ran = vidgen("tokenizer", "decode", out, "-o", back, "--model", model, *F32)
    assert "2 clips, 1 left out" in ran.out and f"left out: {bad}: not a whole token file" in ran.err
    (out / "index.jsonl").unlink()
    assert "no index.jsonl" in vidgen("tokenizer", "decode", out, "-o", tmp_path / "c", "--model", model).error


def test_folders_need_folders(vidgen, model: Path, folder: Path, clip: Path, tmp_path: Path) -> None:
    assert "name it with -o" in vidgen("tokenizer", "encode", folder, "--model", model).error
    assert "is a file" in vidgen("tokenizer", "encode", folder, "-o", clip, "--model", model).error
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "empty.mp4").touch()
    ran = vidgen("tokenizer", "encode", bad, "-o", tmp_path / "none", "--model", model)
    assert ran.status == 2 and "none of 1 clips can be used" in ran.err and not (tmp_path / "none").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "frames"),
    [
        (["--start", "0.5"], range(4, 9)),
        (["--end", "0:00.5"], range(0, 4)),
        (["--start", "0.49", "--end", "0:0:0.76"], range(4, 7)),
        (["--start", "3f", "--end", "4f"], range(3, 4)),
        (["--start", "1", "--end", "99"], range(8, 9)),
    ],
)
def test_a_part_of_a_file(vidgen, model: Path, clip: Path, tmp_path: Path, words, frames) -> None:
    tokens, whole, part = tmp_path / "t.safetensors", tmp_path / "whole.mkv", tmp_path / "part.mkv"
    assert vidgen("tokenizer", "encode", clip, "-o", tokens, "--model", model, *F32).status == 0
    assert vidgen("tokenizer", "decode", tokens, "-o", whole, "--model", model, *F32).status == 0
    ran = vidgen("tokenizer", "decode", tokens, "-o", part, "--model", model, *F32, *words, "--json")
    report = json.loads(ran.out)
    assert (report["start_frame"], report["num_frames"]) == (frames[0], len(frames))
    got, wanted = read_video(part).frames, read_video(whole).frames[frames[0] : frames[-1] + 1]
    assert got.shape == wanted.shape and np.abs(got.astype(int) - wanted).max() <= 1  # rounding, of other chunks


def test_a_film_is_stored_and_a_second_of_it_decoded_alone(vidgen, model: Path, tmp_path: Path, monkeypatch) -> None:
    """The ten-minute clip of docs/measurements.md, in small: chunks are much shorter than film and part."""
    monkeypatch.setattr("vidgen.tokenizers.streaming.chunks.CHUNK_PIXELS", 4 * 32 * 32)
    film, tokens, whole, part = (tmp_path / name for name in ("f.mp4", "t.safetensors", "w.mkv", "p.mkv"))
    assert vidgen("data", "synthesize", "-o", film, "--count", 4, "--size", 32, "--fps", 24).status == 0
    report = json.loads(vidgen("tokenizer", "encode", film, "-o", tokens, "--model", model, *F32, "--json").out)
    assert report["latents"] == [4, 18, 4, 4] and report["seconds"] > 0
    assert 0 < report["bytes"] - report["bits"] // 8 < 1000 and report["bytes"] == tokens.stat().st_size
    assert vidgen("tokenizer", "decode", tokens, "-o", whole, "--model", model, *F32).status == 0
    words = ("--start", "0:01", "--end", "0:02", "--json")
    second = json.loads(vidgen("tokenizer", "decode", tokens, "-o", part, "--model", model, *F32, *words).out)
    assert (second["start_frame"], second["num_frames"]) == (24, 24) and second["peak_mb"] > 0
    off = np.abs(read_video(part).frames.astype(int) - read_video(whole).frames[24:48])
    assert off.max() <= 1 and (off > 0).mean() < 1e-3  # rounding of float32, where a chunk is cut elsewhere


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--start", "9f"], "no frames from 9f to the end; the clip has 9 frames, 1.125 s"),
        (["--start", "1", "--end", "0.5"], "no frames from 1 to 0.5"),
        (["--start", "soon"], "--start 'soon' is not a time"),
        (["--end=-1"], "--end '-1' is not a time"),
        (["--max-memory", "much"], "--max-memory 'much' is not an amount of memory"),
        (["--max-memory", "1MB"], "memory of 1.0MB is too little: frames of 24x32 take at least"),
    ],
)
def test_parts_and_budgets_that_make_no_sense(vidgen, model: Path, clip: Path, tmp_path: Path, words, says) -> None:
    tokens, out = tmp_path / "t.safetensors", tmp_path / "o.mp4"
    vidgen("tokenizer", "encode", clip, "-o", tokens, "--model", model, *F32)
    assert says in vidgen("tokenizer", "decode", tokens, "-o", out, "--model", model, *words).error
    assert not out.exists()


def test_moments_and_amounts() -> None:
    assert parse_moment("1:02:03.5", "--start").at(10) == 37235
    assert parse_moment("0.1", "--start").at(30) == 3 and parse_moment("0.11", "--start").at(30) == 4
    amounts = {"4GB": 4 * 10**9, "512 MiB": 2**29, "1.5g": 1_500_000_000, "1e9": 10**9, "800000": 800_000}
    assert {text: parse_bytes(text) for text in amounts} == amounts and parse_bytes(None) is None
    for text in ("", "0", "-3GB", "4 gigs", "GB", "nan", "1e99"):
        with pytest.raises(VidgenError, match="is not an amount of memory"):
            parse_bytes(text)


@pytest.mark.slow
def test_a_budget_changes_nothing_but_the_memory(vidgen, model: Path, clip: Path, tmp_path: Path, monkeypatch) -> None:
    words = ("tokenizer", "reconstruct", clip, "--model", model, *F32, "--json")
    free = json.loads(vidgen(*words).out)["clips"][0]
    assert json.loads(vidgen(*words, "--max-memory", "64GB").out)["clips"][0]["psnr"] == free["psnr"]
    monkeypatch.setattr("vidgen.scripts.cli.memory.resident_bytes", lambda: 0)
    monkeypatch.setattr("vidgen.scripts.cli.memory.RUNTIME_BYTES", 0)
    tight = vidgen(*words, "--max-memory", "2.2MB")
    assert tight.status == 0 and json.loads(tight.out)["clips"][0]["psnr"] == pytest.approx(free["psnr"], abs=2e-3)


def test_a_discrete_tokenizer_writes_indices(vidgen, clip: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = dict(patch_t=2, patch=2, widths=(8, 12), temporal=(True,), encoder_blocks=1, decoder_blocks=1)
    config = TokenizerConfig(bottleneck="fsq", latent_channels=3, levels=(5, 5, 3), **shape)
    VideoTokenizer(config).save_pretrained(tmp_path / "fsq")
    tokens, back, direct = tmp_path / "t.safetensors", tmp_path / "back.mkv", tmp_path / "direct.mkv"
    words = ("--model", tmp_path / "fsq", *F32)
    report = json.loads(vidgen("tokenizer", "encode", clip, "-o", tokens, *words, "--json").out)
    assert report["indices"] == [3, 6, 8] and report["bits"] == 3 * 6 * 8 * 7
    assert vidgen("tokenizer", "decode", tokens, "-o", back, *words).status == 0
    assert vidgen("tokenizer", "reconstruct", clip, "-o", direct, *words).status == 0
    assert np.abs(read_video(back).frames.astype(int) - read_video(direct).frames).max() <= 1
