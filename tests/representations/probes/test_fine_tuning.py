"""Fine-tuning: the model itself is left alone, a rate of 0 is a linear head, and what is hidden at first is learned."""

import csv

import numpy as np
import pytest
import torch

from vidgen.checkpoints.hashing import model_hash
from vidgen.data.writing import write_video
from vidgen.errors import VidgenError
from vidgen.representations.bank import FeatureBank
from vidgen.representations.baselines import random_like
from vidgen.representations.extract import extract_source
from vidgen.representations.extractor import FeatureExtractor
from vidgen.representations.probes import fine_tuning, make_task, task_of
from vidgen.representations.probes.backbone import Backbone
from vidgen.representations.probes.fine_tuning import (
    Schedule,
    fine_tune,
    fine_tune_rows,
    read_features,
    read_inputs,
    train_epochs,
)

KEY = "dit.blocks.1@t=0.20"
SETTING = {"pool": "mean", "seed": 0, "prompt": ""}
SHORT = Schedule(rates=(1e-3,), epochs=2)


@pytest.fixture(scope="module")
def bank(pipeline, tmp_path_factory):
    """Sixteen clips of a light or a dark square; half to learn from."""
    folder, rows = tmp_path_factory.mktemp("clips"), []
    rng = np.random.default_rng(0)
    for i in range(16):
        label = ("dark", "light")[i % 2]
        frames = rng.integers(100, 120, (5, 32, 32, 3)).astype(np.uint8)
        frames[:, 8:24, 8:24] = 40 if label == "dark" else 200
        write_video(frames, folder / f"{i:02d}.mkv", fps=8)
        rows.append((f"{i:02d}.mkv", label, "train" if i < 8 else "val" if i < 12 else "test", f"g{i // 2}"))
    with (folder / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split", "group"), *rows])
    setting = {"layers": ["tokenizer.latents", "dit.blocks.1"], "noise_levels": [0.2], "baselines": True}
    extract_source(pipeline, folder / "list.csv", folder / "bank", **setting)
    return FeatureBank.load(folder / "bank")


@pytest.mark.parametrize("key", [KEY, "tokenizer.latents", "tokenizer.encoder.layers.1"])
def test_the_backbone_is_the_extractor_with_gradients(pipeline, video, key):
    backbone, ids = Backbone(pipeline, key, pool="temporal", seed=3, prompt="a star"), ["a", "b", "c"]
    plain = FeatureExtractor(pipeline, [key.partition("@")[0]], [0.2], "temporal", 3, "a star")(video, ids)
    features = backbone(backbone.prepare(video), ids)
    assert features.requires_grad
    torch.testing.assert_close(features, plain.features[key].flatten(1), rtol=1e-5, atol=1e-5)
    with torch.enable_grad():
        backbone(backbone.prepare(video), ids).square().sum().backward()
    assert any(weight.grad is not None and weight.grad.any() for weight in backbone.trained.parameters())
    parts = (pipeline.vae, pipeline.transformer, pipeline.text_encoder)
    assert all(weight.grad is None for part in parts for weight in part.parameters())
    alone = Backbone(pipeline.vae, "tokenizer.latents", pool="mean", seed=0, prompt="")
    assert alone.trained is alone.model is not pipeline.vae


@pytest.mark.slow
def test_rows_stand_beside_the_frozen_tap_and_the_model_is_left_alone(pipeline, bank):
    before = model_hash(pipeline)
    rows = fine_tune_rows(bank, pipeline, KEY, schedule=SHORT)
    assert model_hash(pipeline) == before
    kinds = [(row["kind"], row["layer"], row["baseline"]) for row in rows]
    names = ["tokenizer.latents", "dit.blocks.1"]
    frozen = [(prefix + name, bool(prefix)) for prefix in ("", "random.", "shuffled.", "single.") for name in names]
    frozen = [(layer, baseline) for layer, baseline in frozen if baseline is False or layer.endswith("blocks.1")]
    pixels = [(name, True) for name in ("raw_pixels", "frame_differences", "single_frame", "majority")]
    assert kinds == [
        ("fine-tuned", "dit.blocks.1", False), ("fine-tuned", "random.dit.blocks.1", True),
        *(("linear", layer, baseline) for layer, baseline in [*frozen, *pixels]),
    ]  # fmt: skip
    assert rows[0]["choice"][0] == 1e-3 and 1 <= rows[0]["choice"][1] <= 2
    assert rows[0]["test_clips"] == 4 and rows[0]["metric"] == "accuracy" and rows[-1]["test"] == 0.5
    assert rows == fine_tune_rows(bank, pipeline, KEY, schedule=SHORT)


def test_a_rate_of_zero_leaves_the_backbone_as_it_was(pipeline, bank):
    task, backbone = task_of(bank), Backbone(pipeline, KEY, **SETTING)
    inputs = read_inputs(bank, backbone, range(16))
    rows = np.arange(16)
    first = read_features(backbone, inputs, bank.ids, rows)
    np.testing.assert_allclose(first, bank.X(KEY), rtol=1e-3, atol=1e-4)  # those of the bank
    train_epochs(backbone, inputs, task, task.train, task.test, 0.0, 2, 0)
    assert torch.equal(first, read_features(backbone, inputs, bank.ids, rows))
    train_epochs(backbone, inputs, task, task.train, task.test, 1e-3, 2, 0)
    assert not torch.allclose(first, read_features(backbone, inputs, bank.ids, rows), rtol=1e-3)


def test_a_last_batch_of_one_clip_is_learned_from(pipeline, bank):
    task, backbone = task_of(bank), Backbone(pipeline, KEY, **SETTING)
    inputs, fit = read_inputs(bank, backbone, range(16)), np.arange(15)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fine_tuning, "BATCH", 7)  # 7, 7 and 1
        (predictions,) = train_epochs(backbone, inputs, task, fit, task.test, 1e-3, 1, 0)
    assert predictions.shape == task.test.shape and set(predictions) <= {"dark", "light"}


class Blind(torch.nn.Module):
    """Stands for a backbone whose features, at first, are of the second input alone."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([[0.0, 0.0, 0.0], [1.0, -0.5, 2.0]]))
        self.trained = self

    def forward(self, inputs, ids):
        return torch.tanh(inputs @ self.weight)


@pytest.mark.slow
@pytest.mark.parametrize("target_type", ["class", "regression", "multilabel"])
def test_what_the_frozen_features_hide_is_learned(target_type):
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(240, 2))).float()
    up = x[:, 0].numpy() > 0
    labels = {"class": np.where(up, "up", "down"), "regression": np.tanh(2 * x[:, 0].numpy()).tolist(),
              "multilabel": [["up", "x"] if one else ["down", "x"] for one in up]}[target_type]  # fmt: skip
    split = ["train"] * 120 + ["val"] * 60 + ["test"] * 60
    task = make_task(labels, split, target_type=target_type)
    tuned, frozen = (fine_tune(Blind, x, task, Schedule(rates=rates, epochs=20)) for rates in ((0.0, 0.03), (0.0,)))
    chance = {"class": 0.5, "regression": 0.0, "multilabel": 0.75}[target_type]
    assert tuned.test > 0.9 and tuned.ci[0] <= tuned.test <= tuned.ci[1] and tuned.choice[0] == 0.03
    assert abs(frozen.test - chance) < 0.2 and frozen.choice[0] == 0.0 and tuned.validation > frozen.validation
    order = rng.permutation(240)  # labels of other clips: there is nothing to learn
    other = make_task([labels[i] for i in order], split, target_type=target_type)
    assert abs(fine_tune(Blind, x, other, Schedule(rates=(0.03,), epochs=5)).test - chance) < 0.2


def test_what_is_not_the_banks_is_refused(pipeline, bank, tmp_path):
    with pytest.raises(VidgenError, match="holds features of another model; fine-tune the one it was extracted with"):
        fine_tune_rows(bank, random_like(pipeline, 5), KEY)
    with pytest.raises(VidgenError, match="no features 'dit.blocks.7'"):
        fine_tune_rows(bank, pipeline, "dit.blocks.7")
    with pytest.raises(VidgenError, match="rates=\\(\\) is not a list of 1"):
        Schedule(rates=())
    backbone = Backbone(pipeline, KEY, **SETTING)
    source = bank.meta["source"]
    bank.meta["source"] = str(tmp_path / "one.mkv")
    write_video(np.zeros((5, 32, 32, 3), np.uint8), tmp_path / "one.mkv", fps=8)
    with pytest.raises(VidgenError, match="clip '00.mkv' of .* can no longer be read from .*one.mkv"):
        read_inputs(bank, backbone, [0])
    bank.meta["source"] = source
