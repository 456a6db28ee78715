"""`vidgen tokenizer`: what goes in comes back in size and number, and damaged input ends in one line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vidgen.data.reading import probe_video, read_video
from vidgen.data.writing import write_video
from vidgen.metrics import psnr
from vidgen.pipelines.loading import load_tokenizer
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """An mp4 with its index in front and the second half of its data cut off."""
    import av

    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": "10"})
        stream.width = stream.height = 64
        for _ in range(24):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (64, 64, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def test_encode_and_decode_equal_reconstruct(vidgen, model: Path, clip: Path, tmp_path: Path) -> None:
    tokens, back, direct = tmp_path / "t.safetensors", tmp_path / "back.mkv", tmp_path / "direct.mkv"
    encoded = vidgen("tokenizer", "encode", clip, "-o", tokens, "--model", model, "--dtype", "float32", "--json")
    assert json.loads(encoded.out)["latents"] == [4, 3, 3, 4], encoded
    decoded = vidgen("tokenizer", "decode", tokens, "-o", back, "--model", model, "--dtype", "float32")
    assert decoded.status == 0 and "9 frames of 24x32" in decoded.out, decoded
    ran = vidgen("tokenizer", "reconstruct", clip, "-o", direct, "--model", model, "--dtype", "float32")
    assert ran.status == 0, ran.err
    first, second = read_video(back), read_video(direct)
    assert first.fps == second.fps == 8
    assert np.abs(first.frames.astype(int) - second.frames).max() <= 1  # rounding, of chunks of other lengths


def test_psnr_is_that_of_the_whole_clip(vidgen, model: Path, clip: Path) -> None:
    ran = vidgen("tokenizer", "reconstruct", clip, "--model", model, "--dtype", "float32", "--json")
    report = json.loads(ran.out)
    tokenizer = load_tokenizer(str(model), dtype=torch.float32)
    video = torch.from_numpy(read_video(clip).frames).permute(3, 0, 1, 2)[None] / 127.5 - 1.0
    want = psnr(tokenizer(video).clamp(-1.0, 1.0), video).item()
    assert report["clips"][0]["psnr"] == pytest.approx(want, abs=2e-3) == report["mean"]["psnr"]


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 2, 2), (2, 17, 23), (9, 8, 8), (6, 40, 9)])
def test_any_length_and_size_comes_back(vidgen, model: Path, tmp_path: Path, frames, height, width) -> None:
    clip = np.random.default_rng(1).integers(0, 255, (frames, height, width, 3), np.uint8)
    source = write_video(clip, tmp_path / "in.mkv", fps=12)
    out = tmp_path / "out.mp4"
    ran = vidgen("tokenizer", "reconstruct", source, "-o", out, "--model", model, "--side-by-side")
    assert ran.status == 0, ran.err
    assert read_video(out).frames.shape == (frames, height, 2 * width, 3) and probe_video(out).fps == 12


def test_cuts_and_sizes(vidgen, model: Path, clip: Path, tmp_path: Path) -> None:
    words = ("tokenizer", "reconstruct", clip, "--model", model, "--json", "--size", "20x12")
    rows = [json.loads(vidgen(*words, *cut).out)["clips"][0] for cut in (["--num-frames", 4], ["--max-seconds", 0.5])]
    assert [(row["frames"], row["height"], row["width"]) for row in rows] == [(4, 20, 12)] * 2


def test_of_a_folder_bad_clips_are_named_and_left_out(vidgen, model: Path, clip: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "my clips", tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    shutil.copy(clip, folder / "a.mp4")
    shutil.copy(clip, folder / "sub" / "b ü.mp4")
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("not a video\n" * 40)
    ran = vidgen("tokenizer", "reconstruct", folder, "-o", out, "--model", model, "--json")
    report = json.loads(ran.out)
    assert ran.status == 0 and len(report["clips"]) == 2
    assert [Path(f["path"]).name for f in report["failed"]] == ["empty.mp4", "text.mp4"]
    assert "empty.mp4" in ran.err and "text.mp4" in ran.err
    assert {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()} == {"a.mp4", "sub/b ü.mp4"}
    table = vidgen("tokenizer", "reconstruct", folder, "--model", model).out
    assert "2 left out" in table and "mean PSNR" in table


def test_a_folder_without_a_good_clip_fails(vidgen, model: Path, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "empty.mp4").touch()
    ran = vidgen("tokenizer", "reconstruct", tmp_path / "clips", "-o", tmp_path / "out", "--model", model)
    assert ran.status == 2 and "none of 1 clips can be used" in ran.err
    assert {p.name for p in tmp_path.iterdir()} == {"clips"}


def test_damage_is_an_error_or_a_warning_if_asked(vidgen, model: Path, damaged: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    words = ("tokenizer", "reconstruct", damaged, "-o", out, "--model", model)
    line = vidgen(*words).error
    assert "damaged" in line and "--allow-damaged" in line
    assert {p.name for p in tmp_path.iterdir()} == {"damaged.mp4"}
    ran = vidgen(*words, "--allow-damaged", "--json")
    row = json.loads(ran.out)["clips"][0]
    assert 1 <= row["frames"] < 24 and "damaged" in row["note"]
    assert len(read_video(out).frames) == row["frames"]


BAD_CLIPS = {
    "missing": None,
    "empty": b"",
    "text": b"no video at all\n" * 50,
    "cut": b"\0\0\0\x18ftypmp42" + b"\0" * 99,
}


@pytest.mark.parametrize("verb", ["encode", "reconstruct"])
@pytest.mark.parametrize("case", BAD_CLIPS)
def test_bad_clips_are_one_line(vidgen, model: Path, tmp_path: Path, case: str, verb: str) -> None:
    bad, out = tmp_path / "bad ü.mp4", tmp_path / ("o.mp4" if verb == "reconstruct" else "o.safetensors")
    if BAD_CLIPS[case] is not None:
        bad.write_bytes(BAD_CLIPS[case])
    assert str(bad) in vidgen("tokenizer", verb, bad, "-o", out, "--model", model).error
    assert not out.exists() and len(list(tmp_path.iterdir())) == (case != "missing")


def test_sound_without_pictures(vidgen, model: Path, tmp_path: Path) -> None:
    import wave

    with wave.open(str(tmp_path / "sound.mp4"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    line = vidgen("tokenizer", "reconstruct", tmp_path / "sound.mp4", "--model", model).error
    assert "no video stream" in line


def test_tokens_of_another_tokenizer_are_refused(vidgen, model: Path, clip: Path, tmp_path: Path) -> None:
    other, tokens, out = tmp_path / "other", tmp_path / "t.safetensors", tmp_path / "o.mp4"
    torch.manual_seed(1)
    VideoTokenizer(PRESETS["tiny"]).save_pretrained(other)
    assert vidgen("tokenizer", "encode", clip, "-o", tokens, "--model", other).status == 0
    assert (
        "decode it with the model that it was made with"
        in vidgen("tokenizer", "decode", tokens, "-o", out, "--model", model).error
    )
    assert not out.exists()
    assert vidgen("tokenizer", "decode", tokens, "-o", out, "--model", other).status == 0


@pytest.mark.parametrize(
    "break_it", ["missing tensor", "other shape", "cut short", "unknown key", "no weights", "no model"]
)
def test_broken_models_are_one_line(vidgen, model: Path, clip: Path, tmp_path: Path, break_it: str) -> None:
    broken, out = tmp_path / "broken", tmp_path / "o.mp4"
    shutil.copytree(model / "vae", broken)
    weights = broken / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    name = sorted(tensors)[0]
    if break_it == "missing tensor":
        del tensors[name]
        save_file(tensors, weights)
        want = "1 missing"
    elif break_it == "other shape":
        tensors[name] = torch.zeros(3, 1, 4)
        save_file(tensors, weights)
        want = "has shape (3, 1, 4)"
    elif break_it == "cut short":
        weights.write_bytes(weights.read_bytes()[:-100])
        want = "is cut short"
    elif break_it == "unknown key":
        config = json.loads((broken / "config.json").read_text())
        (broken / "config.json").write_text(json.dumps(config | {"colour": "red"}))
        want = "unknown keys colour"
    elif break_it == "no weights":
        weights.unlink()
        want = "the model folder is incomplete"
    else:
        shutil.rmtree(broken)
        want = "neither a shipped model"
    assert want in vidgen("tokenizer", "reconstruct", clip, "-o", out, "--model", broken).error
    assert not out.exists()


def test_ctrl_c_leaves_nothing(vidgen, model: Path, clip: Path, tmp_path: Path, monkeypatch) -> None:
    whole, calls = VideoTokenizer.decode_chunk, []

    def decode_chunk(self, *words):
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return whole(self, *words)

    monkeypatch.setattr(VideoTokenizer, "decode_chunk", decode_chunk)
    monkeypatch.setattr("vidgen.tokenizers.streaming.chunks.CHUNK_PIXELS", 1)
    ran = vidgen("tokenizer", "reconstruct", clip, "-o", tmp_path / "x.mp4", "--model", model)
    assert (ran.status, ran.err) == (130, "interrupted\n") and len(calls) == 2
    assert {p.name for p in tmp_path.iterdir()} == {clip.name}


@pytest.mark.slow
def test_the_file_runs_as_a_script(clip: Path, tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[3] / "scripts" / "tokenizer" / "app.py"
    words = ["reconstruct", str(clip), "--model", str(tmp_path / "none")]
    ran = subprocess.run([sys.executable, str(script), *words], capture_output=True, text=True, cwd=tmp_path)
    if "No module named 'vidgen'" in ran.stderr:
        pytest.skip("this checkout is not installed here; pip install -e .")
    assert ran.returncode == 2 and ran.stderr.startswith("error: model ") and ran.stderr.count("\n") == 1
