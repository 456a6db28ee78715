"""A folder of clips becomes a bank, a bank a table; baselines are what they are called."""

import csv

import numpy as np
import pytest
import torch

from vidgen.data.writing import write_video
from vidgen.errors import VidgenError
from vidgen.representations.bank import FeatureBank
from vidgen.representations.baselines import frame_differences, random_like, raw_pixels, shuffle_frames, single_frame
from vidgen.representations.extract import extract_source
from vidgen.representations.extractor import FeatureExtractor
from vidgen.representations.sweep import best_rows, sweep_source

TAPS = ["tokenizer.latents", "dit.blocks.2"]


@pytest.fixture(scope="module")
def actions(tmp_path_factory):
    """Twelve clips of a square that moves right or stays, from three subjects, two of them for training."""
    folder = tmp_path_factory.mktemp("actions")
    rows = []
    for i in range(12):
        label, subject = ("still", "right")[i % 2], i // 4
        frames = np.full((5, 32, 32, 3), 20 + 3 * i, np.uint8)
        for t, frame in enumerate(frames):
            left = 2 + i + (4 * t if label == "right" else 0)
            frame[8 + subject : 18 + subject, left : left + 8] = 220
        write_video(frames, folder / f"{i:02d}.mp4", fps=8)
        rows.append(
            {"path": f"{i:02d}.mp4", "label": label, "split": "val" if subject == 2 else "train", "subject": subject}
        )
    (folder / "broken.mp4").write_text("this is not a video")
    with (folder / "list.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "label", "split", "subject"])
        writer.writeheader()
        writer.writerows([*rows, rows[0] | {"path": "broken.mp4"}])
    return folder / "list.csv"


def test_a_source_becomes_a_bank(pipeline, actions, tmp_path):
    calls = []
    report = extract_source(
        pipeline, actions, tmp_path / "bank", taps=TAPS, noise_levels=[0.0, 0.2], batch_size=5,
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    assert (report["rows"], report["added"]) == (12, 12)
    assert [(drop["path"][-10:], "plain text" in drop["reason"]) for drop in report["dropped"]] == [
        ("broken.mp4", True)
    ]
    assert calls == [(5, 12), (10, 12), (12, 12)]
    bank = FeatureBank.load(tmp_path / "bank")
    assert bank.keys == report["keys"] == ["tokenizer.latents", "dit.blocks.2@t=0.00", "dit.blocks.2@t=0.20"]
    assert bank.ids == [f"{i:02d}.mp4" for i in range(12)] and bank.split("val").tolist() == [8, 9, 10, 11]
    assert bank.rows[5].label == "right" and bank.rows[5].group == "1"
    assert bank.rows[0].times == pytest.approx([0, 0.125, 0.25, 0.375, 0.5])
    assert bank.meta["preprocessing"]["size"] == [32, 32] and bank.meta["preprocessing"]["fps"] == 8.0
    assert len(bank.meta["model_hash"]) == len(bank.meta["preprocessing_hash"]) == 64


def test_an_extraction_in_parts_is_the_whole(pipeline, actions, tmp_path):
    extract_source(pipeline, actions, tmp_path / "whole", taps=TAPS, batch_size=4)
    first = extract_source(pipeline, actions, tmp_path / "bank", taps=TAPS, batch_size=4, limit=4)
    second = extract_source(pipeline, actions, tmp_path / "bank", taps=TAPS, batch_size=4)
    third = extract_source(pipeline, actions, tmp_path / "bank", taps=TAPS, batch_size=4)
    assert [run["added"] for run in (first, second, third)] == [4, 8, 0] and third["rows"] == 12
    whole, bank = FeatureBank.load(tmp_path / "whole"), FeatureBank.load(tmp_path / "bank")
    assert whole.rows == bank.rows
    for key in whole.keys:
        np.testing.assert_array_equal(whole.X(key), bank.X(key))
    with pytest.raises(VidgenError, match="its pool is mean, not max"):
        extract_source(pipeline, actions, tmp_path / "bank", taps=TAPS, pool="max")


def test_bad_settings_leave_nothing_behind(pipeline, actions, tmp_path):
    for change in ({"taps": ["dit.blocks.77"]}, {"size": (40, 32)}):
        with pytest.raises(VidgenError):
            extract_source(pipeline, actions, tmp_path / "bank", **({"taps": TAPS} | change))
    assert not (tmp_path / "bank").exists()


def test_the_table_has_a_row_a_family(pipeline, actions):
    table = sweep_source(pipeline, actions, noise_levels=[0.0, 0.2], pools=["mean", "temporal"], flat=None)
    names = [row["tap"].split(".blocks.")[0] for row in table["rows"]]
    assert names == [
        *(prefix + name for prefix in ("", "random.", "shuffled.", "single.") for name in ("tokenizer.latents", "dit")),
        *("raw_pixels", "frame_differences", "single_frame", "majority"),
    ]
    assert len(table["sweep"]) == 2 * 4 * (1 + 4 * 2) + 4 and not table["skipped"]
    scores = {row["tap"]: row for row in table["rows"]}
    assert scores["frame_differences"]["test"] == 1.0 and scores["majority"]["test"] == 0.5
    assert table["rows"] == best_rows(table["sweep"]) and len(table["dropped"]) == 1
    for row in table["sweep"]:
        assert ("temporal_gain" in row) == row["tap"].startswith(("tokenizer.", "dit."))
        if row["tap"].startswith("dit."):
            assert row["validation"] <= next(r for r in table["rows"] if r["tap"].startswith("dit."))["validation"]


def test_random_weights_are_another_draw_with_open_gates(pipeline, video):
    before = {name: x.clone() for name, x in pipeline.transformer.state_dict().items()}
    one, same, other = random_like(pipeline, 1), random_like(pipeline, 1), random_like(pipeline, 2)
    assert all(torch.equal(x, before[name]) for name, x in pipeline.transformer.state_dict().items())
    weights = [list(model.transformer.state_dict().values()) for model in (one, same, other)]
    assert all(map(torch.equal, weights[0], weights[1])) and not all(map(torch.equal, weights[0], weights[2]))
    assert all(weight.any() for weight in one.transformer.parameters() if weight.ndim > 1)
    blocks = FeatureExtractor(one, [f"dit.blocks.{i}" for i in range(4)], [0.1], pool="none")(video).features.values()
    first, *_, last = blocks
    assert not torch.allclose(first, last, rtol=0.1, atol=0.1)
    assert torch.equal(random_like(pipeline.vae, 1).encode(video).latents, one.vae.encode(video).latents)


def test_pixel_baselines_on_known_clips():
    video = torch.zeros(1, 3, 5, 32, 48)
    video[:, :, 1::2] = 1.0  # all pixels change by one, four times
    assert torch.equal(frame_differences(video), torch.ones(1, 16, 16))
    assert torch.equal(frame_differences(video[:, :, :1]), torch.zeros(1, 16, 16))
    assert raw_pixels(video).shape == (1, 5, 16, 16, 3) and raw_pixels(video)[0, :, 0, 0, 0].tolist() == [0, 1, 0, 1, 0]
    assert torch.equal(single_frame(video), torch.zeros(1, 16, 16, 3))
    ramp = torch.linspace(-1, 1, 32).expand(1, 3, 2, 32, 32)
    torch.testing.assert_close(raw_pixels(ramp)[0, 0, 0, :, 0], ramp[0, 0, 0, 0].reshape(16, 2).mean(1))


def test_shuffled_frames_are_the_same_frames_whatever_the_batch(video):
    shuffled = shuffle_frames(video, ["a", "b", "c"], seed=1)
    for clip, other in zip(video, shuffled, strict=True):
        assert not torch.equal(clip, other)
        assert sorted(clip.sum((0, 2, 3)).tolist()) == sorted(other.sum((0, 2, 3)).tolist())
    assert torch.equal(shuffle_frames(video[1:2], ["b"], seed=1)[0], shuffled[1])
    assert not torch.equal(shuffle_frames(video, ["a", "b", "c"], seed=2), shuffled)
