"""`--prior` of `vidgen tokenizer`: coded files and back bit for bit, rates beside codecs, and errors of one line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vidgen.data.reading import read_video
from vidgen.data.writing import write_video
from vidgen.pipelines.priors.coded_files import CodedReader, read_coded
from vidgen.pipelines.priors.coding import PriorCoder
from vidgen.pipelines.priors.pipeline import PriorPipeline
from vidgen.tokenizers.files.token_files import read_tokens
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS

pytest.importorskip("constriction", reason="the range coder of the extra `coding`")
F32 = ("--dtype", "float32")
ENCODE = ("tokenizer", "encode")
DECODE = ("tokenizer", "decode")


@pytest.fixture
def film(tiny_priors, tmp_path: Path) -> Path:
    return write_video(tiny_priors["make_frames"](1), tmp_path / "film.mp4", fps=8)


@pytest.fixture
def coded(vidgen, film: Path, trained_prior: Path, tmp_path: Path) -> Path:
    path = tmp_path / "coded.safetensors"
    assert vidgen(*ENCODE, film, "-o", path, "--prior", trained_prior, *F32).status == 0
    return path


def test_a_clip_is_coded_and_decoded_bit_for_bit(vidgen, film: Path, trained_prior: Path, tmp_path: Path) -> None:
    coded, plain = tmp_path / "coded.safetensors", tmp_path / "plain.safetensors"
    ran = vidgen(*ENCODE, film, "-o", coded, "--prior", trained_prior, *F32, "--json")
    report = json.loads(ran.out)
    assert vidgen(*ENCODE, film, "-o", plain, "--model", trained_prior, *F32).status == 0
    assert report["indices"] == [3, 4, 4] and report["bits"] % 32 == 0 and report["bits"] < 48 * 5
    assert report["bytes"] == coded.stat().st_size > report["bits"] // 8
    pipe = PriorPipeline.from_pretrained(trained_prior)
    reader = CodedReader(read_coded(coded), pipe.vae, PriorCoder(pipe, "p"))
    assert torch.equal(reader.indices(0, 3), read_tokens(plain).indices)
    clips = []
    for tokens, words in ((coded, ("--prior", trained_prior)), (coded, ()), (plain, ("--model", trained_prior))):
        clips.append(tmp_path / f"{len(clips)}.mkv")
        assert vidgen(*DECODE, tokens, "-o", clips[-1], *words, *F32).status == 0
    first = read_video(clips[0]).frames
    assert all(np.array_equal(read_video(clip).frames, first) for clip in clips[1:])
    part = tmp_path / "part.mkv"
    words = ("--start", "5f", "--end", "7f", "--json")
    assert json.loads(vidgen(*DECODE, coded, "-o", part, *F32, *words).out)["num_frames"] == 2
    off = read_video(part).frames.astype(int) - first[5:7]
    assert abs(off).max() <= 1
    line = vidgen(*ENCODE, film, "-o", coded, "--prior", trained_prior, *F32).out
    stream = report["bits"] // 8
    assert f"{stream} bytes of tokens (" in line and f"and {report['bytes'] - stream} of header" in line


@pytest.mark.slow
def test_another_process_with_more_threads_decodes_the_same(
    vidgen, coded: Path, trained_prior: Path, tmp_path: Path
) -> None:
    here, there = tmp_path / "here.mkv", tmp_path / "there.mkv"
    assert vidgen(*DECODE, coded, "-o", here, *F32).status == 0
    call = "import sys; from vidgen.scripts.main import dispatch; sys.exit(dispatch(sys.argv[1:]))"
    words = [*DECODE, coded, "-o", there, *F32]
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", call, *map(str, words)], check=True, env=environment, capture_output=True)
    assert np.array_equal(read_video(here).frames, read_video(there).frames)


@pytest.mark.slow
def test_a_folder_is_coded_continued_and_decoded(
    vidgen, film: Path, trained_prior: Path, tiny_priors, tmp_path: Path
) -> None:
    clips, out, back = tmp_path / "clips", tmp_path / "tokens", tmp_path / "back"
    clips.mkdir()
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(film, clips / name)
    (clips / "text.mp4").write_text("no video\n" * 40)
    words = (*ENCODE, clips, "-o", out, "--prior", trained_prior, *F32)
    assert "2 clips encoded, 0 there already, 1 left out" in vidgen(*words).out
    assert "0 clips encoded, 2 there already" in vidgen(*words).out
    bits = [json.loads(line)["bits"] for line in (out / "index.jsonl").read_text().splitlines()]
    assert bits[0] == bits[1] < 48 * 5
    assert "2 clips" in vidgen(*DECODE, out, "-o", back, *F32).out
    assert (back / "a.mp4").read_bytes() == (back / "b.mp4").read_bytes()
    damaged = out / "b.mp4.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-2])
    ran = vidgen(*DECODE, out, "-o", tmp_path / "again", *F32)
    assert "1 clip, 1 left out" in ran.out and f"left out: {damaged}: not a whole token file" in ran.err
    other = tmp_path / "other"
    pipe = PriorPipeline.from_pretrained(trained_prior)
    pipe.prior.head.bias.data += 0.1 * torch.randn(18)
    pipe.save_pretrained(other)
    words = (*ENCODE, clips, "-o", out, "--prior", other, *F32)
    assert "2 clips encoded, 0 there already" in vidgen(*words).out  # in another prior's bits


@pytest.mark.slow
def test_a_file_without_its_prior_or_of_another_is_one_line(
    vidgen, coded: Path, trained_prior: Path, tiny_priors, tmp_path: Path
) -> None:
    out = tmp_path / "out.mkv"
    other = tmp_path / "other"
    tiny_priors["make_random"](seed=1).save_pretrained(other)
    same_tokenizer = tmp_path / "same"
    tiny_priors["make_random"]().save_pretrained(same_tokenizer)
    wrong = vidgen(*DECODE, coded, "-o", out, "--prior", other).error
    assert "written for tokenizer" in wrong
    assert "coded by the prior" in vidgen(*DECODE, coded, "-o", out, "--prior", same_tokenizer).error
    wrong = vidgen(*DECODE, coded, "-o", out, "--prior", trained_prior, "--model", other).error
    assert "a prior over indices of the tokenizer" in wrong and "leave --model out" in wrong
    away = tmp_path / "away"
    away.mkdir()
    shutil.copytree(trained_prior, away / "prior")
    assert vidgen(*ENCODE, tmp_path / "film.mp4", "-o", coded, "--prior", away / "prior", *F32).status == 0
    shutil.rmtree(away)
    assert "name it, by --prior FOLDER" in vidgen(*DECODE, coded, "-o", out).error
    assert vidgen(*DECODE, coded, "-o", out, "--prior", trained_prior).status == 0  # it is the same prior
    assert "no frames from 9f to the end" in vidgen(*DECODE, coded, "-o", out, "--start", "9f").error


def test_what_cannot_code_is_one_line(
    vidgen, film: Path, trained_prior: Path, tiny_priors, tmp_path: Path, monkeypatch
) -> None:
    out = tmp_path / "out.safetensors"
    before = sorted(tmp_path.iterdir())
    assert "and a prior is wanted" in vidgen(*ENCODE, film, "-o", out, "--prior", "default").error
    assert "neither a shipped model" in vidgen(*ENCODE, film, "-o", out, "--prior", tmp_path / "none").error
    assert sorted(tmp_path.iterdir()) == before
    for order in ("masked", "frames", "random"):
        tiny_priors["make_random"](order=order).save_pretrained(tmp_path / order)
        ran = vidgen(*ENCODE, film, "-o", out, "--prior", tmp_path / order)
        assert f"a prior of order {order} with full attention codes no tokens" in ran.error
    VideoTokenizer(PRESETS["tiny"]).save_pretrained(tmp_path / "kl")
    ran = vidgen(*ENCODE, film, "-o", out, "--prior", trained_prior, "--model", tmp_path / "kl")
    assert "leave --model out" in ran.error
    weights = next((tmp_path / "masked" / "prior").glob("*.safetensors"))
    assert "which is read" in vidgen(*ENCODE, film, "-o", weights, "--prior", tmp_path / "masked").error
    monkeypatch.setitem(sys.modules, "constriction", None)
    ran = vidgen(*ENCODE, film, "-o", out, "--prior", trained_prior)
    assert "constriction, which is not installed" in ran.error and not out.exists()


@pytest.mark.slow
def test_rates_gain_the_point_of_the_prior(
    vidgen, film: Path, coded: Path, trained_prior: Path, tmp_path: Path
) -> None:
    picture, words = tmp_path / "rates.png", ("--prior", trained_prior, "--codecs", "x264", *F32)
    ran = vidgen("tokenizer", "evaluate", film, *words, "--plot", picture, "--json")
    report = json.loads(ran.out)
    points = {point["name"]: point for point in report["rate_distortion"]["points"]}
    assert list(points) == ["tokens", "tokens by the prior"] and report["prior"] == str(trained_prior)
    plain, prior = points.values()
    assert prior["psnr"] == plain["psnr"] and prior["raw_bpp"] == plain["raw_bpp"]
    assert prior["coded_bpp"] < plain["coded_bpp"]
    bits = prior["coded_bpp"] * 9 * 32 * 32
    assert 0 <= bits - 8 * len(read_coded(coded).stream) + 0.5 < 33  # of the real file, whose last word is not full
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert "tokens by the prior" in vidgen("tokenizer", "evaluate", film, *words).out
