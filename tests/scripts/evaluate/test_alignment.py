"""`vidgen evaluate alignment`: its report and tables, by an encoder that knows colours alone."""

import json
from pathlib import Path

import pytest
import torch

from vidgen.data.writing import write_video
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder
from vidgen.models.text_video.dual_encoder import DualEncoder
from vidgen.models.text_video.heads import JointHeads, JointHeadsConfig
from vidgen.scripts.evaluate import alignment


@pytest.fixture
def run(vidgen, monkeypatch, color_encoder):
    monkeypatch.setattr(alignment, "open_encoder", lambda model, settings: color_encoder(num_frames=4))
    return lambda *words: vidgen("evaluate", "alignment", "--model", "colours", *words)


def test_report_of_all_parts(run) -> None:
    report = json.loads(run("--n", 24, "--pairs", 2, "--json").out)
    assert report["n"] == 24 and set(report["retrieval"]) == {"text to video", "video to text"}
    recall = report["retrieval"]["text to video"]["recall"]
    assert recall["1"]["mean"] <= recall["5"]["mean"] <= recall["10"]["mean"] and recall["1"]["n"] == 24
    assert report["words"]["words of captions"]["colour"]["mean"] == 1.0
    assert report["ideal_words"]["shares"]["colour"] > 0.99 and report["ideal_words"]["unseen"] == 0.0
    assert set(report["counterfactuals"]) >= {"order", "direction", "binding", "agent", "count"}
    order = report["counterfactuals"]["order"]
    assert order["scores"]["group"]["mean"] == 0.0 and order["gain"]["mean"] == 0.0
    assert set(order["twins"]) == {"frames shuffled", "one frame held", "words shuffled", "words sorted"}


def test_tables(run) -> None:
    out = run("--n", 8, "--pairs", 1, "--kinds", "count", "--max-objects", 2).out
    for text in (
        "text to video",
        "own's ceiling",
        "a caption is true of",
        "synonyms of all",
        "chance",
        "count",
        "gain",
    ):
        assert text in out
    assert "order" not in out
    few = run("--n", 8, "--only", "words").out
    assert "zero-shot" in few and "median rank" not in few and "counterfactual" not in few


def test_own_words_and_real_clips(run, tmp_path: Path, waves) -> None:
    words = tmp_path / "words.json"
    words.write_text(json.dumps({"colour": {"red": "blue", "blue": "red"}}))
    report = json.loads(run("--n", 24, "--only", "words", "--prompts", words, "--json").out)
    assert report["words"]["synonyms of it"]["colour"]["mean"] < report["words"]["words of captions"]["colour"]["mean"]
    for name in "abc":
        write_video(waves(12, 32, 32), tmp_path / f"{name}.mp4", fps=8)
    captions = {"a": "red waves", "b": "red waves", "c": "blue waves"}
    rows = [json.dumps({"path": f"{name}.mp4", "caption": text}) for name, text in captions.items()]
    (tmp_path / "clips.jsonl").write_text("\n".join(rows))
    report = json.loads(run("--only", "words", "--n", 1, "--real", tmp_path / "clips.jsonl", "--json").out)
    real = report["real"]
    assert real["n"] == 3 and not real["dropped"] and real["retrieval"]["text to video"]["recall"]["5"]["mean"] == 1
    # equal clips: every order of them is as likely
    assert real["retrieval"]["text to video"]["recall"]["1"]["mean"] == pytest.approx((2 / 3 + 2 / 3 + 1 / 3) / 3)
    assert real["retrieval"]["text to video"]["ceiling"]["1"] == pytest.approx((0.5 + 0.5 + 1) / 3)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("--only", "poetry"),
            "--only 'poetry' is unknown; choose some of retrieval, words, ideal-words, counterfactuals",
        ),
        (("--kinds", "weather"), "--kinds 'weather' is unknown"),
        (("--n", 1, "--only", "words", "--prompts", "missing.json"), "missing.json"),
    ],
)
def test_bad_words_are_one_line(run, words, line) -> None:
    assert line in run(*words).error


def test_a_dual_encoder_of_a_folder(vidgen, tmp_path: Path, model: Path) -> None:
    torch.manual_seed(0)
    encoder = DualEncoder(
        video=VideoViT(VideoViTConfig(patch=(2, 8, 8), width=24, depth=1, head_dim=8, clip=(4, 16, 16))),
        text=ByteTextEncoder(ByteTextConfig(width=16, depth=1, head_dim=8)),
        heads=JointHeads(JointHeadsConfig(video_width=24, text_width=16, width=20, head_dim=8)),
    )
    encoder.save_pretrained(tmp_path / "dual")
    words = ("evaluate", "alignment", "--n", 6, "--pairs", 2, "--kinds", "order", "--json", "--model")
    report = json.loads(vidgen(*words, tmp_path / "dual").out)
    assert report["counterfactuals"]["order"]["scores"]["text"]["n"] == 2
    assert report["retrieval"]["text to video"]["recall"]["10"]["mean"] == 1.0  # of six clips
    assert "is no encoder of texts and clips" in vidgen(*words, model).error


def test_clips_without_captions_are_one_line(run, tmp_path: Path, waves) -> None:
    write_video(waves(8, 32, 32), tmp_path / "a.mp4", fps=8)
    line = run("--only", "words", "--n", 1, "--real", tmp_path).error
    assert "0 clips with captions" in line and str(tmp_path) in line
