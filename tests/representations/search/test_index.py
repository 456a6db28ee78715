"""An index that grew finds what one made at once finds; what does not belong in it is refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vidgen.data.writing import write_video
from vidgen.errors import VidgenError
from vidgen.representations.bank import BankRow, BankWriter, FeatureBank
from vidgen.representations.search import StoredIndex, grow_index, list_neighbors, path_of, show_clip
from vidgen.representations.search import index as indexing
from vidgen.representations.search.retrieval import nearest_clips

META = {
    "keys": ["tokenizer.latents", "dit.blocks.0@t=0.10"], "layers": ["tokenizer.latents", "dit.blocks.0"],
    "noise_levels": [0.1], "pool": "mean", "seed": 0, "prompt": "", "model": "VideoPipeline", "model_hash": "m1",
    "preprocessing": {"num_frames": 5, "size": [16, 16], "fps": None, "windows": "head"}, "preprocessing_hash": "p1",
}  # fmt: skip
X = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
LATENTS = "tokenizer.latents"


def write_bank(folder: Path, rows: range, **meta) -> FeatureBank:
    about = META | {"source": str(folder.parent / f"{folder.name} clips")} | meta
    with BankWriter(folder, about, shard_rows=7) as writer:
        for i in rows:
            row = BankRow(id=f"{i}.mkv", label="ab"[i % 2], group=f"g{i // 3}", times=(0.0,), labels={"size": "big"})
            x = torch.from_numpy(X[i : i + 1])
            writer.add([row], {LATENTS: x, "dit.blocks.0@t=0.10": -x})
    return FeatureBank.load(folder)


def test_an_index_that_grew_is_one_made_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(indexing, "BLOCK", 4)
    first, second = write_bank(tmp_path / "one", range(17)), write_bank(tmp_path / "two", range(17, 30))
    assert grow_index(tmp_path / "index", first, LATENTS) == {"added": 17, "rows": 17}
    assert grow_index(tmp_path / "index", second) == {"added": 13, "rows": 30}  # the index knows its feature
    assert grow_index(tmp_path / "index", second) == {"added": 0, "rows": 30}
    index, whole = StoredIndex(tmp_path / "index"), write_bank(tmp_path / "whole", range(30))
    nearest = index.search(X[:5], 6)
    np.testing.assert_array_equal(np.concatenate(list(index.blocks())), X)
    mean, std = X.mean(0), X.std(0)
    unit = (X - mean) / std / np.linalg.norm((X - mean) / std, axis=1, keepdims=True)
    np.testing.assert_array_equal(nearest.rows, np.argsort(-(unit[:5] @ unit.T), axis=1)[:, :6])
    assert index.bank.ids[0] == str(tmp_path / "one clips" / "0.mkv") and index.bank.rows[20].group == "g6"
    lines = index.neighbors(first, 3)
    for line in lines[:4]:  # a clip of the index does not find itself
        plain = nearest_clips(whole, LATENTS, line["query"].id, 29)
        mine = [Path(one["row"].id).name for one in line["neighbours"]]
        # standardized with itself or without: as near as makes no difference to who is first
        assert mine[0] in [one["id"] for one in plain[:2]] and line["query"].id not in mine
        assert all(one["hit"] == (one["row"].label == line["query"].label) for one in line["neighbours"])


@pytest.fixture(scope="module")
def indexes(tmp_path_factory) -> list[Path]:
    pytest.importorskip("faiss")
    home = tmp_path_factory.mktemp("indexes")
    for name, rows in (("sound", range(20)), ("other", range(10, 30))):
        grow_index(home / name, write_bank(home / f"{name} bank", rows), LATENTS)
        StoredIndex(home / name).search(X[:2], 3, "faiss")
    return [home / "sound", home / "other"]


@given(seed=st.integers(0, 2**32))
def test_no_change_passes_for_content(indexes, tmp_path, fuzzing, seed):
    def contents(folder):
        index = StoredIndex(folder)
        return [index.bank.ids, index.search(X[:2], 3, "faiss").rows.tolist(), index.search(X[:2], 3).rows.tolist()]

    fuzzing["check_folder"](*indexes, tmp_path / "copy", seed, contents, VidgenError)


@pytest.mark.parametrize("name", ["model_hash", "preprocessing_hash", "pool", "seed", "prompt"])
def test_other_features_are_refused(tmp_path, name):
    other = {"seed": 1}.get(name, "another")
    bank, alien = write_bank(tmp_path / "one", range(4)), write_bank(tmp_path / "two", range(4, 8), **{name: other})
    grow_index(tmp_path / "index", bank, LATENTS)
    with pytest.raises(VidgenError, match=f"bank of other features: its {name} is .*, not {other}"):
        grow_index(tmp_path / "index", alien)
    with pytest.raises(VidgenError, match=f"two has other features than the index .*: its {name} is {other}"):
        StoredIndex(tmp_path / "index").neighbors(alien)
    assert len(StoredIndex(tmp_path / "index")) == 4


def test_bad_input_is_named(tmp_path):
    bank = write_bank(tmp_path / "one", range(4))
    with pytest.raises(VidgenError, match="has several features, choose one: tokenizer.latents, dit.blocks.0@t=0.10"):
        grow_index(tmp_path / "index", bank)
    grow_index(tmp_path / "index", bank, "dit.blocks.0")
    index = StoredIndex(tmp_path / "index")
    assert index.key == "dit.blocks.0@t=0.10" and index.meta["noise_levels"] == [0.1]
    with pytest.raises(VidgenError, match="queries are 5 wide, and the index .* is 8"):
        index.search(np.zeros((1, 5), np.float32))
    with pytest.raises(VidgenError, match="bank of other features: its keys"):
        grow_index(tmp_path / "index", bank, LATENTS)
    with pytest.raises(VidgenError, match="is not a feature bank"):
        StoredIndex(tmp_path / "nothing")


def test_neighbors_of_some_queries(tmp_path):
    bank = write_bank(tmp_path / "one", range(30))
    lines = list_neighbors(bank, LATENTS, count=4, num_queries=5)
    assert len(lines) == 5 and lines[0]["query"].id == "0.mkv" and lines[-1]["query"].id == "29.mkv"
    for line in lines:
        assert len(line["neighbours"]) == 4
        for one in line["neighbours"]:
            assert one["row"].group != line["query"].group
            assert one["hit"] == (one["row"].label == line["query"].label)
        assert np.all(np.diff([one["cosine"] for one in line["neighbours"]]) <= 0)
    (alone,) = list_neighbors(bank, LATENTS, ["3.mkv"], task="mood", count=2, same_group=True)
    assert [one["hit"] for one in alone["neighbours"]] == [None, None]
    with pytest.raises(VidgenError, match="no clip 'x'"):
        list_neighbors(bank, LATENTS, ["x"])


def test_a_row_leads_back_to_the_frames_of_its_window(tmp_path, numbered, numbers):
    folder = tmp_path / "one clips"
    folder.mkdir()
    write_video(numbered(20, 16, 16), folder / "0.mkv", fps=10)
    bank = write_bank(tmp_path / "one", range(2))
    later = dataclasses.replace(bank.rows[0], id="0.mkv#2", times=(0.7,))
    for row, first in ((bank.rows[0], 0), (later, 7)):
        assert numbers(show_clip(bank, row)) == [first, first + 2, first + 4]
    assert path_of(bank, later) == str(folder / "0.mkv#2")
    with pytest.raises(VidgenError, match="1.mkv: the clip is not there any more"):
        show_clip(bank, bank.rows[1])
