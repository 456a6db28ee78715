"""`vidgen tokenizer nerv`: a file within the rate asked for, its PSNR true of what comes back, errors of one line."""

import json
from pathlib import Path

import pytest
import torch

from vidgen.data.frames import to_tensor
from vidgen.data.reading import read_video
from vidgen.metrics import psnr


def test_fit_and_decode(vidgen, clip: Path, tmp_path: Path) -> None:
    stored, back, part = tmp_path / "fit.safetensors", tmp_path / "back.mkv", tmp_path / "part.mkv"
    words = ("--bpp", 6, "--steps", 12, "--dtype", "float32", "--seed", 1)
    ran = vidgen("tokenizer", "nerv", clip, "-o", stored, *words, "--json")
    report = json.loads(ran.out)
    assert ran.status == 0 and (report["num_frames"], report["height"], report["width"]) == (9, 24, 32)
    assert 0 < report["entropy_bpp"] < report["coded_bpp"] < 6 and report["coded_bpp"] < report["file_bpp"]
    assert report["bytes"] == stored.stat().st_size and report["weights_bpp"] > report["embeddings_bpp"] > 0
    assert vidgen("tokenizer", "decode", stored, "-o", back).status == 0
    shown, original = read_video(back), read_video(clip)
    assert shown.frames.shape == original.frames.shape and shown.fps == 8
    want = psnr(*(to_tensor(video.frames)[None] for video in (shown, original))).item()
    assert report["psnr"] == pytest.approx(want, abs=0.05)  # the file rounds to 8 bits
    ran = vidgen("tokenizer", "decode", stored, "-o", part, "--start", "2f", "--end", "5f", "--json")
    assert json.loads(ran.out)["num_frames"] == 3
    assert torch.equal(torch.from_numpy(read_video(part).frames), torch.from_numpy(shown.frames[2:5]))
    again = tmp_path / "again.safetensors"
    line = vidgen("tokenizer", "nerv", clip, "-o", again, *words).out
    assert again.read_bytes() == stored.read_bytes()
    assert f"{report['psnr']:.2f} dB decoded from it" in line and "bits a pixel (weights" in line


BAD = {
    "both budgets": (("--bpp", 1, "--bytes", "4KB"), "give one of them"),
    "no rate": (("--bpp", 0), "--bpp 0 is no rate"),
    "too few": (("--bytes", "100"), "100 bytes are too few for 9 frames of 24x32"),
    "no amount": (("--bytes", "much"), "--bytes 'much'"),
    "bits": (("--bits", 9, "--bpp", 9), "a number from 2 to 8 is wanted"),
    "learning rate": (("--lr", 0), "--lr 0 is no learning rate"),
    "seconds": (("--max-seconds", 0), "a number from 0.001 to 1e+08 is wanted"),
    "folder": (("-o", "none/x.safetensors"), "the folder none does not exist"),
    "small": (("--size", "3x9"), "3x9 are too small"),
}


@pytest.mark.parametrize("case", BAD)
def test_errors_are_one_line(vidgen, clip: Path, tmp_path: Path, monkeypatch, case: str) -> None:
    words, line = BAD[case]
    monkeypatch.chdir(tmp_path)
    assert line in vidgen("tokenizer", "nerv", clip, *words).error
    assert list(tmp_path.iterdir()) == [clip]


def test_a_fit_that_is_cut_short_is_refused(vidgen, clip: Path, tmp_path: Path) -> None:
    stored = tmp_path / "fit.safetensors"
    assert vidgen("tokenizer", "nerv", clip, "-o", stored, "--bpp", 6, "--steps", 1).status == 0
    stored.write_bytes(stored.read_bytes()[:-40])
    assert "not a whole fitted clip" in vidgen("tokenizer", "decode", stored, "-o", tmp_path / "x.mp4").error
    assert not (tmp_path / "x.mp4").exists()
    many = tmp_path / "many"
    many.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (many / name).write_bytes(clip.read_bytes())
    assert "holds 2 clips" in vidgen("tokenizer", "nerv", many, "-o", tmp_path / "y.safetensors").error
