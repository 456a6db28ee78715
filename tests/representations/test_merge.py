"""Parts of one extraction become the whole; models stand side by side; what was not seen alike is refused."""

import numpy as np
import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.representations.bank import BankRow, BankWriter, FeatureBank
from vidgen.representations.merge import join_features, join_rows
from vidgen.representations.probes import probe_rows
from vidgen.representations.probes.rows import chosen_keys, pool_of

SEEN = {"size": [64, 64], "num_frames": 17, "fit": "crop"}
KEYS = ("tokenizer.latents", "dit.blocks.1@t=0.10", "shuffled.dit.blocks.1@t=0.10", "raw_pixels")


def make_bank(folder, numbers, *, seed=0, shard_rows=3, row=None, keys=KEYS, **meta):
    """Clips of two classes; features are a function of clip, key and `seed`, and tell classes apart but for pixels."""

    def feature(i, key):
        noise = torch.randn(3, generator=torch.Generator().manual_seed(100 * i + len(key) + 1000 * seed))
        return noise if key == "raw_pixels" else noise + 9 * (i % 2)

    rows = [
        BankRow(id=f"{i}.mp4", label="ab"[i % 2], split="test" if i % 4 > 1 else "train", times=(0.0, 0.1))
        for i in numbers
    ]
    rows = [row(one) if row else one for one in rows]
    about = {
        "pool": "mean",
        "keys": list(keys),
        "preprocessing": SEEN,
        "model_hash": f"model {seed}",
        "source": "clips",
    } | meta
    with BankWriter(folder, about, shard_rows=shard_rows) as writer:
        for i, one in zip(numbers, rows, strict=True):
            writer.add([one], {key: feature(i, key)[None] for key in keys})
    return FeatureBank.load(folder)


def test_parts_become_the_whole(tmp_path):
    whole = make_bank(tmp_path / "whole", range(12))
    parts = [make_bank(tmp_path / f"{i}", range(i, 12, 3), source=f"part {i}") for i in range(3)]
    joined = join_rows(parts, tmp_path / "joined")
    order = [whole.ids.index(name) for name in joined.ids]
    assert sorted(order) == list(range(12)) and joined.meta["source"] == ["part 0", "part 1", "part 2"]
    assert joined.rows == [whole.rows[i] for i in order]
    for key in KEYS:
        np.testing.assert_array_equal(joined.X(key), whole.X(key, rows=order))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_hash": "another"}, "in another way than .*one: its model_hash is another, not model 0"),
        ({"preprocessing": SEEN | {"size": [128, 128]}}, r"size is \[128, 128\], not \[64, 64\]"),
        ({"pool": "max"}, "its pool is max, not mean"),
        ({"keys": KEYS[:2]}, "its keys is"),
    ],
)
def test_rows_of_other_features_are_refused(tmp_path, change, words):
    one, other = make_bank(tmp_path / "one", range(4)), make_bank(tmp_path / "two", range(4, 8), **change)
    with pytest.raises(VidgenError, match=words):
        join_rows([one, other], tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_a_clip_counts_once(tmp_path):
    banks = [make_bank(tmp_path / str(i), range(i, i + 4)) for i in (0, 3)]
    with pytest.raises(VidgenError, match="clip '3.mp4' is in .*0 and in .*3"):
        join_rows(banks, tmp_path / "joined")
    join_rows([banks[0]], tmp_path / "joined")
    with pytest.raises(VidgenError, match="holds a bank already"):
        join_rows([banks[0]], tmp_path / "joined")


def test_features_of_two_models_stand_beside_each_other(tmp_path):
    ours = make_bank(tmp_path / "ours", range(24))
    theirs = make_bank(tmp_path / "theirs", [*range(23, -1, -1)], seed=1, pool="max", shard_rows=5)
    both = join_features({"ours": ours, "theirs": theirs}, tmp_path / "both")
    assert both.keys == [*(f"ours/{key}" for key in KEYS[:3]), "raw_pixels", *(f"theirs/{key}" for key in KEYS[:3])]
    for key in KEYS[:3]:
        np.testing.assert_array_equal(both.X(f"ours/{key}"), ours.X(key))
        np.testing.assert_array_equal(both.X(f"theirs/{key}"), theirs.X(key)[::-1])
    assert both.rows == ours.rows and both.meta["preprocessing"] == SEEN
    assert both.meta["banks"]["theirs"]["model_hash"] == "model 1"
    assert (pool_of(both, "ours/dit.blocks.1"), pool_of(both, "theirs/shuffled.dit.blocks.1")) == ("mean", "max")
    assert pool_of(both, "raw_pixels") == "none"


def test_a_joined_bank_is_probed_like_any(tmp_path):
    banks = {name: make_bank(tmp_path / name, range(24), seed=i) for i, name in enumerate(("ours", "theirs"))}
    both = join_features(banks, tmp_path / "both")
    rows = {row["tap"]: row for row in probe_rows(both, "centroid")}
    baselines = {"ours/shuffled.dit.blocks.1", "theirs/shuffled.dit.blocks.1", "raw_pixels", "majority"}
    assert {layer for layer, row in rows.items() if row["baseline"]} == baselines
    alone = {row["tap"]: row for row in probe_rows(banks["theirs"], "centroid")}
    for layer in ("tokenizer.latents", "dit.blocks.1"):
        assert rows[f"theirs/{layer}"] == alone[layer] | dict.fromkeys(("layer", "tap"), f"theirs/{layer}")
    assert "temporal_gain" in rows["theirs/dit.blocks.1"]
    assert chosen_keys(both, ["theirs/dit.blocks.1"]) == [
        *("ours/tokenizer.latents", "raw_pixels", "theirs/tokenizer.latents"),
        *("theirs/dit.blocks.1@t=0.10", "theirs/shuffled.dit.blocks.1@t=0.10"),
    ]
    assert chosen_keys(both, ["dit.blocks.1"]) == both.keys  # of either


def test_mixed_preprocessing_is_refused_unless_it_is_asked_for(tmp_path):
    ours = make_bank(tmp_path / "ours", range(8))
    large = make_bank(tmp_path / "large", range(8), seed=1, preprocessing=SEEN | {"size": [128, 128]})
    with pytest.raises(VidgenError, match=r"large saw its clips .*than ours: size is \[128, 128\], not \[64, 64\]"):
        join_features({"ours": ours, "large": large}, tmp_path / "both")
    assert not (tmp_path / "both").exists()
    both = join_features({"ours": ours, "large": large}, tmp_path / "both", mixed=True)
    assert "preprocessing" not in both.meta and both.meta["banks"]["large"]["preprocessing"]["size"] == [128, 128]
    assert {"ours/raw_pixels", "large/raw_pixels"} <= set(both.keys)


def test_clips_that_are_not_the_same_are_refused(tmp_path):
    ours = make_bank(tmp_path / "ours", range(8))

    def other(name, numbers=range(8), **change):
        bank = make_bank(tmp_path / name, numbers, row=lambda row: BankRow(**{**vars(row), **change}))
        return {"ours": ours, "other": bank}

    for name, bank, words in (
        ("less", {"numbers": range(7)}, "clip '7.mp4' of ours is not in other"),
        ("more", {"numbers": range(9)}, "clip '8.mp4' of other is not in ours"),
        ("label", {"label": "c"}, "clip '0.mp4' has label a in ours, and c in other"),
        ("times", {"times": (0.0, 0.2)}, "has times .*0.1.* in ours, and .*0.2"),
    ):
        with pytest.raises(VidgenError, match=words):
            join_features(other(name, **bank), tmp_path / "both")
