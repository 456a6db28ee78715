"""Rows of a bank are plain data, with the baselines that belong beside them."""

import json

import numpy as np
import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.representations.bank import BankRow, BankWriter, FeatureBank
from vidgen.representations.probes import PROBES, probe_rows
from vidgen.representations.probes.rows import features_for


@pytest.fixture
def bank(tmp_path, blobs):
    X, y, split, groups = blobs(spread=0.1)
    numbers = (X[:, 0] + 0.125).tolist()
    rows = [
        BankRow(id=str(i), label=a, split=b, group=c, labels={"place": str(n), "words": json.dumps([a, "all"])})
        for i, (a, b, c, n) in enumerate(zip(y, split, groups, numbers, strict=True))
    ]
    rows[3] = BankRow(id="3", label=y[3], split=split[3], group=groups[3])
    noise = torch.randn(len(X), 4, generator=torch.Generator().manual_seed(0))
    features = {"tokenizer.latents": torch.from_numpy(X), "dit.blocks.0@t=0.10": noise}
    features |= {"shuffled.tokenizer.latents": noise, "raw_pixels": noise}
    with BankWriter(tmp_path / "bank", {"pool": "mean", "keys": list(features)}) as writer:
        writer.add(rows, features)
    return FeatureBank.load(tmp_path / "bank")


def test_rows_are_plain_data(bank):
    table = probe_rows(bank)
    assert json.loads(json.dumps(table)) == table
    names = ["tokenizer.latents", "dit.blocks.0", "shuffled.tokenizer.latents", "raw_pixels", "majority"]
    assert [row["layer"] for row in table] == names
    assert [row["baseline"] for row in table] == [False, False, True, True, True]
    assert [row["noise_level"] for row in table] == [None, 0.1, None, None, None]
    assert [row["pool"] for row in table] == ["mean", "mean", "mean", "none", None]
    first = {"kind": "knn", "task": "label", "metric": "accuracy", "test": 1.0, "test_clips": 40, "test_groups": 8}
    assert table[0] | first == table[0] and table[0]["choice"] == 1
    test = bank.split("test")
    assert table[-1]["test"] in [np.mean(bank.y[test] == name) for name in set(bank.y)]
    assert table[0]["temporal_gain"] == table[0]["test"] - table[2]["test"] > 0.3
    assert table[0]["temporal_gain_ci"][0] > 0.1 and "temporal_gain" not in table[1]
    beside = [row["layer"] for row in probe_rows(bank, layers=["dit.blocks.0@t=0.10"])]
    assert beside == ["tokenizer.latents", "dit.blocks.0", "raw_pixels", "majority"]
    few = [row["layer"] for row in probe_rows(bank, layers=["tokenizer.latents"])]
    assert few == ["tokenizer.latents", "shuffled.tokenizer.latents", "raw_pixels", "majority"]


def test_each_may_be_held_against_another(bank):
    table = {row["layer"]: row for row in probe_rows(bank, against="raw_pixels")}
    first = table["tokenizer.latents"]
    assert first["against"] == "raw_pixels" and first["difference"] == first["test"] - table["raw_pixels"]["test"]
    # what raw_pixels here holds is the shuffled clips' features, so that the two differences are one
    assert first["difference_ci"] == first["temporal_gain_ci"]
    assert table["raw_pixels"]["difference"] == 0 and table["raw_pixels"]["difference_ci"] == [0, 0]
    assert "difference" not in table["majority"]
    assert probe_rows(bank, against="dit")[0]["against"] == "dit.blocks.0@t=0.10"
    few = probe_rows(bank, layers=["tokenizer.latents"], against="dit")
    assert {row.get("against") for row in few} == {"dit.blocks.0@t=0.10", None}
    with pytest.raises(VidgenError, match="nothing here is called 'blocks', to hold others against; choose one of tok"):
        probe_rows(bank, against="blocks")


def test_progress_counts_features(bank):
    calls = []
    table = probe_rows(bank, "centroid", layers=["tokenizer.latents"], progress=lambda *call: calls.append(call))
    assert calls == [(1, 3), (2, 3), (3, 3)] and len(table) == 4  # the majority looks at no features


def test_every_column_of_labels_is_a_task(bank):
    assert bank.columns == ["label", "place", "words"] and bank.column("place")[3] is None
    table = probe_rows(bank, "ridge", task="place", skip_unlabelled=True)
    assert table[0]["metric"] == "r2" and table[0]["test"] > 0.99 and table[0]["mae"] < 0.1
    assert table[-1]["layer"] == "mean" and table[-1]["test"] < 0.05 and table[-1]["classes"] is None
    assert table[0]["unlabelled"] == 1 and table[0]["train_clips"] == 79
    words = probe_rows(bank, "ridge", ["tokenizer.latents"], task="words", skip_unlabelled=True)
    assert words[0] | {"metric": "f1", "goal": "multilabel", "test": 1.0, "classes": 4} == words[0]
    assert words[-1]["test"] < 0.9


def test_what_is_not_there_is_named(bank):
    for words, line in (
        ({"layers": ["dit.blocks.9"]}, "no features 'dit.blocks.9'; it has tokenizer.latents"),
        ({"task": "colour"}, "no labels 'colour'; it has label, place, words"),
        ({"task": "place"}, "clip '3' has no label"),
        ({"kind": "oracle"}, "probe 'oracle' is unknown; choose one of knn"),
        ({"kind": "attentive"}, "its pool 'mean' left no tokens; extract with --pool none"),
        ({"kind": "lstm"}, "its pool 'mean' left no frames; extract with --pool none or spatial"),
    ):
        with pytest.raises(VidgenError, match=line):
            probe_rows(bank, **words)


def test_a_bank_without_labels_says_so(tmp_path):
    with BankWriter(tmp_path / "bank", {"pool": "mean"}) as writer:
        writer.add([BankRow(id="a"), BankRow(id="b")], {"raw_pixels": torch.zeros(2, 3)})
    with pytest.raises(VidgenError, match="has no labels; extract from a manifest"):
        probe_rows(FeatureBank.load(tmp_path / "bank"))


def test_probes_of_tokens_take_what_is_not_pooled(tmp_path):
    """Tokens in the order (t, h, w); frames with their positions averaged; pixels as whole frames."""
    x = torch.randn(3, 4, 2, 2, 5)
    pixels = {"raw_pixels": torch.randn(3, 6, 2, 2, 3), "single_frame": torch.randn(3, 2, 2, 3)}
    with BankWriter(tmp_path / "bank", {"pool": "none"}) as writer:
        writer.add([BankRow(id=str(i)) for i in range(3)], {"tokenizer.latents": x, **pixels})
    bank = FeatureBank.load(tmp_path / "bank")
    np.testing.assert_array_equal(bank.tokens("tokenizer.latents"), x)
    tokens, frames = (features_for(bank, "tokenizer.latents", PROBES[kind]) for kind in ("attentive", "lstm"))
    np.testing.assert_array_equal(tokens, x.flatten(1, 3))
    np.testing.assert_allclose(frames, x.mean((2, 3)), atol=1e-6)
    for kind in ("attentive", "lstm"):
        assert features_for(bank, "raw_pixels", PROBES[kind]).shape == (3, 6, 12)
        assert features_for(bank, "single_frame", PROBES[kind]).shape == (3, 1, 12)
    assert features_for(bank, "tokenizer.latents", PROBES["linear"]).shape == (3, 80)


def test_a_report_on_one_group_has_no_interval(tmp_path):
    with BankWriter(tmp_path / "bank", {"pool": "mean"}) as writer:
        rows = [
            BankRow(id=f"{i}", label="ab"[i % 2], split=("train", "test")[i > 11], group=f"g{i // 4 if i < 12 else 9}")
            for i in range(20)
        ]
        writer.add(rows, {"x": torch.arange(20, dtype=torch.float32)[:, None] % 2})
    table = probe_rows(FeatureBank.load(tmp_path / "bank"))
    assert [row["ci"] for row in table] == [None] * len(table)
