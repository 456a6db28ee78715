"""A bank gives back what was written, in any number of goes, and says what it is."""

import copy
import json

import numpy as np
import pytest
import torch

from vidgen.checkpoints.hashing import json_hash, model_hash
from vidgen.errors import VidgenError
from vidgen.representations.bank import BankRow, BankWriter, FeatureBank

META = {"model_hash": "abc", "seed": 0, "pool": "mean", "noise_levels": (0.0, 0.1)}
KEYS = {"tokenizer.latents": (2, 3), "dit.blocks.1@t=0.00": (4,), "dit.blocks.1@t=0.10": (4,)}


def make_rows(*numbers):
    splits = ("train", "test")
    return [
        BankRow(id=f"{i}.mp4", label="ab"[i % 2], split=splits[i > 6], group=f"s{i // 2}", times=(0.0, i / 8))
        for i in numbers
    ]


def make_features(*numbers):
    """Rows that are a function of the clip's number alone."""
    return {
        key: torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i in numbers])
        for key, shape in KEYS.items()
    }


def write(folder, batches, meta=META, shard_rows=4):
    with BankWriter(folder, meta, shard_rows=shard_rows) as writer:
        for numbers in batches:
            writer.add(make_rows(*numbers), make_features(*numbers))


def test_round_trip(tmp_path):
    write(tmp_path / "bank", [(0, 1, 2), (3, 4, 5), (6, 7, 8), (9,)])
    bank, truth = FeatureBank.load(tmp_path / "bank"), make_features(*range(10))
    assert len(bank) == 10 and bank.num_shards == 2  # after six rows, and at the end
    for key, x in truth.items():
        assert bank.X(key).dtype == np.float32
        np.testing.assert_array_equal(bank.X(key), x.flatten(1).numpy())
    np.testing.assert_array_equal(bank.X("dit.blocks.1", 0.1), truth["dit.blocks.1@t=0.10"].numpy())
    np.testing.assert_array_equal(
        bank.X("tokenizer.latents", rows=[9, 0, 5])[:, 0], truth["tokenizer.latents"][[9, 0, 5], 0, 0]
    )
    assert bank.rows == make_rows(*range(10))
    assert bank.layers == ["dit.blocks.1", "tokenizer.latents"]
    assert bank.y.tolist() == list("abababab" + "ab") and bank.groups[3] == "s1"
    assert bank.split("test").tolist() == [7, 8, 9]
    assert bank.meta == json.loads(json.dumps(META))


def test_a_killed_run_is_continued(tmp_path):
    write(tmp_path / "whole", [(i,) for i in range(10)])
    writer = BankWriter(tmp_path / "bank", META, shard_rows=4)
    for i in range(7):  # killed with three rows in memory, and an index whose features were never written
        writer.add(make_rows(i), make_features(i))
    del writer
    (tmp_path / "bank" / "shard-00001.jsonl").write_text("{}\n")
    assert len(FeatureBank.load(tmp_path / "bank")) == 4
    again = BankWriter(tmp_path / "bank", META)
    assert again.done == {f"{i}.mp4" for i in range(4)}
    del again
    write(tmp_path / "bank", [(i, i + 1) for i in range(0, 10, 2)])
    whole, bank = FeatureBank.load(tmp_path / "whole"), FeatureBank.load(tmp_path / "bank")
    assert bank.rows == whole.rows
    for key in KEYS:
        np.testing.assert_array_equal(bank.X(key), whole.X(key))


def test_rows_added_before_an_error_stay(tmp_path):
    with pytest.raises(KeyboardInterrupt), BankWriter(tmp_path / "bank", META) as writer:
        writer.add(make_rows(0, 1), make_features(0, 1))
        raise KeyboardInterrupt
    assert FeatureBank.load(tmp_path / "bank").ids == ["0.mp4", "1.mp4"]


def test_another_bank_is_refused(tmp_path):
    write(tmp_path / "bank", [(0, 1)])
    with pytest.raises(VidgenError, match="its seed is 0, not 1") as error:
        BankWriter(tmp_path / "bank", META | {"seed": 1})
    assert "\n" not in str(error.value)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "text.txt").write_text("mine")
    with pytest.raises(VidgenError, match="not a feature bank"):
        BankWriter(tmp_path / "notes", META)
    with pytest.raises(VidgenError, match="not a feature bank"):
        FeatureBank.load(tmp_path / "notes")


def test_features_that_do_not_belong(tmp_path):
    writer = BankWriter(tmp_path / "bank", META)
    bad = make_features(0, 1)
    bad["tokenizer.latents"][1, 0, 0] = float("nan")
    with pytest.raises(VidgenError, match="tokenizer.latents of clip '1.mp4' are not finite"):
        writer.add(make_rows(0, 1), bad)
    writer.add(make_rows(0, 1), make_features(0, 1))
    with pytest.raises(VidgenError, match="clip '2.mp4' have shapes"):
        writer.add(make_rows(2), {key: x[..., :1] for key, x in make_features(2).items()})
    with pytest.raises(ValueError, match="2 rows"):
        writer.add(make_rows(2, 3), make_features(2))


def test_what_is_not_there_is_named(tmp_path):
    write(tmp_path / "bank", [(0, 1)])
    bank = FeatureBank.load(tmp_path / "bank")
    with pytest.raises(VidgenError, match="dit.blocks.7.*it has .*tokenizer.latents"):
        bank.X("dit.blocks.7")
    with pytest.raises(VidgenError, match="several noise levels.*t=0.00.*t=0.10"):
        bank.X("dit.blocks.1")
    with pytest.raises(VidgenError, match="no split 'val'; it has train"):
        bank.split("val")


@pytest.mark.parametrize("name, words", [("bank.json", "index is damaged"), ("shard-00000.jsonl", "index is damaged")])
def test_a_damaged_index_is_one_line(tmp_path, name, words):
    write(tmp_path / "bank", [(0, 1)])
    (tmp_path / "bank" / name).write_text("{not json\n")
    with pytest.raises(VidgenError, match=words):
        FeatureBank.load(tmp_path / "bank")


def test_a_damaged_shard_is_one_line(tmp_path):
    write(tmp_path / "bank", [(0, 1)])
    shard = tmp_path / "bank" / "shard-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:40])
    with pytest.raises(VidgenError, match="shard-00000.safetensors is damaged"):
        FeatureBank.load(tmp_path / "bank").X("tokenizer.latents")


def test_a_models_hash_is_of_its_weights_and_config(pipeline):
    first = model_hash(pipeline)
    assert first == model_hash(pipeline) and len(first) == 64
    assert model_hash(pipeline.vae) != model_hash(pipeline.transformer)
    changed = copy.deepcopy(pipeline)
    assert model_hash(changed) == first
    changed.transformer.patch_out.bias[0] += 1e-3
    assert model_hash(changed) != first
    assert json_hash({"a": 1, "b": 2}) == json_hash({"b": 2, "a": 1}) != json_hash({"a": 1})
