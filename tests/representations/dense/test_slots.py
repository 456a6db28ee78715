"""Slots find planted objects without a label, whatever order they are in; groups are held against objects by name."""

import numpy as np
import pytest
import torch

from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig
from vidgen.representations.dense import SlotSettings, dense_rows
from vidgen.representations.dense.grids import FeatureMaps, Grid, inside
from vidgen.representations.dense.object_discovery import (
    FG_ARI,
    cluster,
    count_ari,
    cut_blocks,
    foreground_ari,
    object_discovery_rows,
)
from vidgen.representations.dense.referring_expressions import are_distinguishable
from vidgen.representations.dense.slots import SlotAttention, SlotModel, assign_slots, train_slots
from vidgen.representations.dense.tracked_labels import masks_to_cells

SMALL = SlotSettings(count=3, width=32, steps=150, batch=8, rate=8e-3, starts=1)


def plant(clips: int, frames: int, seed: int) -> np.ndarray:
    """Shares (b, t, 6, 6, 2) of two objects, four cells each, that are somewhere else in every frame."""
    rng = np.random.default_rng(seed)
    shares = np.zeros((clips, frames, 6, 6, 2), np.float32)
    for frame in shares.reshape(-1, 6, 6, 2):
        for thing, place in enumerate(rng.permutation(9)[:2]):
            y, x = 2 * (place // 3), 2 * (place % 3)
            frame[y : y + 2, x : x + 2, thing] = 1
    return shares


def show(shares: np.ndarray) -> torch.Tensor:
    """Features that are one-hot of what a cell is of."""
    return torch.from_numpy(2 * np.concatenate([1 - shares.sum(-1, keepdims=True), shares], axis=-1) - 1)


@pytest.fixture(scope="module")
def trained() -> SlotModel:
    return train_slots(show(plant(48, 1, 0)), show(plant(8, 1, 1)), SMALL, 1)


def test_planted_objects_are_found_and_followed(trained):
    shares = plant(12, 3, 9)
    groups, error = assign_slots(trained, show(shares), 1)
    untrained, worse = assign_slots(SlotModel(3, (6, 6), SMALL), show(shares), 1)
    score, before = (FG_ARI(FG_ARI.count(shares, each.numpy())) for each in (groups, untrained))
    assert score > 0.9 > before and error < 0.1 < worse
    assert FG_ARI(FG_ARI.count(shares, cluster(show(shares).numpy(), 3, 0))) == 1


def test_slots_in_another_order_say_the_same(trained):
    x = show(plant(2, 1, 3)).reshape(2, 36, 3)
    slots = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0))
    order = [2, 0, 1]
    with torch.no_grad():
        (output, alpha, after), (output2, alpha2, after2) = (trained(x, s) for s in (slots, slots[:, order]))
    torch.testing.assert_close(output2, output, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(alpha2, alpha[..., order], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after2, after[:, order], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(alpha.sum(-1), torch.ones(2, 36))


def test_attention_does_not_know_the_order_of_cells():
    torch.manual_seed(0)
    attention, x, slots = SlotAttention(5, 8), torch.randn(2, 7, 5), torch.randn(2, 3, 8)
    order = torch.randperm(7)
    with torch.no_grad():
        (after, weights), (after2, weights2) = (attention(each, slots, 3) for each in (x, x[:, order]))
    torch.testing.assert_close(after2, after, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weights2, weights[:, order], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 3))


def test_a_seed_means_one_thing_and_clips_know_nothing_of_each_other(trained):
    x, short = show(plant(4, 2, 5)), SlotSettings(count=3, width=8, steps=3, batch=2, starts=2)
    first, again, other = (train_slots(x, x, short, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    together, _ = assign_slots(trained, x, 0)
    alone = torch.cat([assign_slots(trained, x[i : i + 1], 0)[0] for i in range(4)])
    assert torch.equal(together, alone)


def test_the_index_is_over_objects_cells_and_knows_no_names():
    shares = plant(1, 2, 7)[0]
    truth = shares.argmax(-1)
    assert foreground_ari(5 - 3 * truth, shares) == 1  # other names
    assert foreground_ari(np.where(shares.any(-1), truth, 9), shares) == 1  # whatever the background is
    assert foreground_ari(np.zeros_like(truth), shares) == 0  # both in one
    assert count_ari([shares, shares], [truth, 0 * truth]).tolist() == [[1, 1], [0, 1]]
    swapped = truth.copy()
    swapped[1] = 1 - swapped[1]
    assert foreground_ari(swapped, shares) < 0.1  # an object is one over the whole clip


def test_blocks():
    four = cut_blocks(4, 6, 4)
    assert np.unique(four, return_counts=True)[1].tolist() == [6, 6, 6, 6] and (four[:2, :3] == 0).all()
    assert len(np.unique(cut_blocks(8, 8, 5))) == 5 and len(np.unique(cut_blocks(8, 8, 2))) == 2


def test_rows_beside_which_k_means_and_blocks_stand():
    grid = Grid(frames=(0, 4), shape=(8, 8), stride=(8, 8), size=(64, 64))
    world = ShapeWorld(ShapeWorldConfig(num_frames=5, max_objects=2))
    pairs = [labels for labels in map(world.sample_labels, range(40)) if are_distinguishable(labels)]

    def maps_of(part):
        labels = pairs[:4]
        masks = inside(masks_to_cells(labels, grid)[..., 1:].numpy())
        yield {"tokenizer.latents": FeatureMaps(x=show(masks.astype(np.float32)), grid=grid)}, labels

    rows = {
        row["kind"]: row for row in object_discovery_rows(maps_of, SlotSettings(count=3, width=8, steps=2, starts=1), 0)
    }
    assert set(rows) == {"slots", "k-means", "blocks"} and rows["k-means"]["test"] == 1
    assert not rows["slots"]["baseline"] and rows["k-means"]["baseline"] and rows["blocks"]["baseline"]
    assert rows["blocks"]["layer"] == "blocks" and rows["blocks"]["noise_level"] is None


def test_rows_of_a_model_and_of_a_tokenizer_alone(pipeline):
    words = {"clips": 2, "num_frames": 5, "size": 32, "slots": SlotSettings(width=8, steps=2, starts=1)}
    rows = dense_rows(pipeline.vae, ["slots"], **words)
    assert rows == dense_rows(pipeline.vae, ["slots"], **words)
    assert {row["layer"] for row in rows} == {"tokenizer.latents", "random.tokenizer.latents", "raw_pixels", "blocks"}
    (row,) = (row for row in rows if not row["baseline"])
    assert row["kind"] == "slots" and row["ci"][0] <= row["test"] <= row["ci"][1] and row["clips"] == 2


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="is not a"):
        SlotSettings(count=0)
