"""`vidgen tokenizer evaluate`: the JSON and its keys, tables, pictures, and errors of one line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from vidgen.data.writing import write_video


@pytest.fixture
def folder(tmp_path: Path, waves) -> Path:
    """Two sound clips, a short one, and one that is no video."""
    clips = tmp_path / "clips ü"
    clips.mkdir()
    for name, count in (("a.mp4", 9), ("b.mp4", 7), ("short.mp4", 3)):
        write_video(waves(count, 64, 72), clips / name, fps=8)
    (clips / "text.mp4").write_text("no video\n" * 40)
    return clips


def test_the_report(vidgen, model: Path, folder: Path) -> None:
    words = ("--model", model, "--num-frames", 5, "--size", 64)
    ran = vidgen("tokenizer", "evaluate", folder, *words, "--json")
    report = json.loads(ran.out)
    assert ran.status == 0 and {"model", "protocol", "mean", "ci", "clips", "dropped"} <= set(report)
    assert (
        report["protocol"] is None and report["settings"]["size"] == [64, 64] and report["settings"]["num_frames"] == 5
    )
    assert [Path(row["path"]).name for row in report["clips"]] == ["a.mp4", "b.mp4"]
    assert {Path(drop["path"]).name for drop in report["dropped"]} == {"short.mp4", "text.mp4"}
    assert ran.err.count("left out: ") == 2
    for name in ("psnr", "psnr_frames", "ssim", "temporal_psnr", "flicker", "first_psnr", "rest_psnr", "seam"):
        low, high = report["ci"][name]
        values = [row[name] for row in report["clips"]]
        assert low <= report["mean"][name] <= high and report["mean"][name] == pytest.approx(np.mean(values), abs=1e-3)
    assert "176x176 needed" in report["left_out"]["ms_ssim"]["reason"]
    assert report["usage"] is None and "rate_distortion" not in report
    table = vidgen("tokenizer", "evaluate", folder, *words).out
    assert "temporal_psnr" in table and "seam profile" in table and "2 clips, 2 left out" in table


def test_psnr_is_that_of_reconstruct(vidgen, model: Path, folder: Path) -> None:
    words = (folder / "a.mp4", "--model", model, "--dtype", "float32", "--json")
    ours = json.loads(vidgen("tokenizer", "evaluate", *words).out)["clips"][0]
    other = json.loads(vidgen("tokenizer", "reconstruct", *words).out)["clips"][0]
    assert ours["psnr"] == pytest.approx(other["psnr"], abs=1e-3) and ours["frames"] == other["frames"] == 9
    assert ours["psnr_frames"] >= ours["psnr"]


@pytest.mark.slow
def test_rates_tables_and_picture(vidgen, model: Path, folder: Path, tmp_path: Path) -> None:
    out, picture = tmp_path / "report.json", tmp_path / "rates.png"
    words = ("--model", model, "--num-frames", 5, "--steps", "1,0.5", "--codecs", "x264,x265", "--plot", picture)
    ran = vidgen("tokenizer", "evaluate", folder, *words, "--json", out)
    assert ran.status == 0 and ran.out == "" and picture.read_bytes()[:4] == b"\x89PNG"
    rates = json.loads(out.read_text(encoding="utf-8"))["rate_distortion"]
    assert [point["name"] for point in rates["points"]] == ["step 1", "step 0.5", "bfloat16"]
    assert set(rates["codecs"]) == {"x264", "x265"} and len(rates["clips"]) == 2
    assert {"raw_bpp", "entropy_bpp", "coded_bpp", "matched"} <= set(rates["rates"])
    for point in rates["points"]:
        assert 0 < point["entropy_bpp"] <= point["coded_bpp"] and set(point["matched"]) <= {"x264", "x265"}
    ran = vidgen("tokenizer", "evaluate", folder, *words[:-2], "--rate-distortion")
    assert "rate and distortion" in ran.out and "x264: " in ran.err


def test_a_protocol_by_name(vidgen, model: Path, folder: Path) -> None:
    ran = vidgen("tokenizer", "evaluate", folder, "--model", model, "--protocol", "davis", "--json")
    report = json.loads(ran.out)
    assert report["protocol"] == "davis" and [row["frames"] for row in report["clips"]] == [9, 7, 3]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--protocol", "mcl"), "--protocol 'mcl' is unknown; choose one of mcljcv-17x256@30fps, "),
        (("--protocol", "davis", "--size", 64), "--protocol davis fixes what --size would change"),
        (("--steps", "1,0", "--rate-distortion"), "--steps '1,0': give step sizes above 0"),
        (("--codecs", "vp9", "--rate-distortion"), "--codecs 'vp9' is unknown; choose of x264, x265, av1"),
        (("--plot", "rates.txt"), "rates.txt: no picture format; use one of .png, .svg, .pdf"),
        (("--max-seconds", 0), "a number from 0.001 to 1e+08 is wanted"),
        (("--num-frames", 100), "none of 4 clips can be used"),
    ],
)
def test_errors_are_one_line(vidgen, model: Path, folder: Path, words: tuple, line: str, monkeypatch) -> None:
    monkeypatch.chdir(folder.parent)
    ran = vidgen("tokenizer", "evaluate", folder, "--model", model, *words)
    assert ran.status == 2 and ran.out == "" and line in ran.err.splitlines()[-1]
    assert {path.name for path in folder.parent.iterdir()} == {folder.name}


def test_nothing_to_evaluate(vidgen, model: Path, tmp_path: Path, folder: Path) -> None:
    assert str(tmp_path / "none") in vidgen("tokenizer", "evaluate", tmp_path / "none", "--model", model).error
    shutil.rmtree(folder)
    folder.mkdir()
    assert vidgen("tokenizer", "evaluate", folder, "--model", model).status == 2
