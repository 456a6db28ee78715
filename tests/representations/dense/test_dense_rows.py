"""Dense probes of a small model: every baseline is there, choices are made on validation, a cell that knows is read."""

import dataclasses

import numpy as np
import pytest
import torch

from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig
from vidgen.errors import VidgenError
from vidgen.representations.dense import PropagationSettings, dense_rows
from vidgen.representations.dense.grids import FeatureMaps, Grid
from vidgen.representations.dense.segmentation import count_overlap, mean_overlap, segmentation_rows, true_shares
from vidgen.representations.dense.tracking import tracking_rows

WORLD = ShapeWorld(ShapeWorldConfig(num_frames=5))
GRID = Grid(frames=tuple(range(5)), shape=(8, 8), stride=(8, 8), size=(64, 64))


def test_rows_of_a_model(pipeline):
    settings = (PropagationSettings(top_k=1), PropagationSettings(top_k=3, radius=1))
    world = {"settings": settings, "clips": 3, "num_frames": 5, "size": 64}
    rows = dense_rows(pipeline, layers=["tokenizer.latents", "dit.blocks.1"], classes="object", **world)
    assert {row["task"] for row in rows} == {"masks", "points", "boxes", "segmentation"}
    for task in ("masks", "points", "boxes", "segmentation"):
        mine = {(row["layer"], tuple(row["stride"])): row for row in rows if row["task"] == task}
        names = {layer for layer, _ in mine}
        assert {"tokenizer.latents", "random.dit.blocks.1", "raw_pixels", "exact"} <= names
        assert ("first_frame" in names) == (task != "segmentation")
        assert not mine["tokenizer.latents", mine_stride(mine, "tokenizer.latents")]["baseline"]
        assert all(row["ci"][0] <= row["test"] <= row["ci"][1] and row["clips"] == 3 for row in mine.values())
        if task != "segmentation":
            chosen = [row["choice"] for row in mine.values() if row["layer"] not in ("first_frame", "exact")]
            assert all(one in [dataclasses.asdict(each) for each in settings] for one in chosen)
    again = dense_rows(pipeline, ["points"], layers=["dit.blocks.1"], batch_size=2, **world)
    (alone,) = [row for row in again if row["layer"] == "dit.blocks.1"]
    (before,) = [row for row in rows if row["layer"] == "dit.blocks.1" and row["task"] == "points"]
    assert alone["test"] == pytest.approx(before["test"], abs=1e-4)


def mine_stride(rows, layer):
    return next(stride for name, stride in rows if name == layer)


def test_the_setting_that_is_best_on_validation_is_reported_on_test():
    """Maps that are the masks themselves: one match finds them; ten thousand blur everything."""

    def maps_of(part):
        labels = [WORLD.sample_labels(i + (100 if part == "test" else 0)) for i in range(3)]
        shares = GRID.to_cells(torch.from_numpy(true_shares(labels, GRID, "object")))
        yield {"dit.blocks.0@t=0.10": FeatureMaps(x=shares.movedim(1, -1), grid=GRID)}, labels

    good, bad = PropagationSettings(top_k=1), PropagationSettings(top_k=10_000, temperature=100.0)
    rows = {row["layer"]: row for row in tracking_rows(maps_of, ["masks"], [bad, good])}
    assert rows["dit.blocks.0"]["choice"] == dataclasses.asdict(good) and rows["dit.blocks.0"]["noise_level"] == 0.1
    assert rows["dit.blocks.0"]["test"] > 0.9 * rows["exact"]["test"] > rows["first_frame"]["test"]


def test_cells_that_hold_the_classes_are_segmented_as_well_as_exact_ones():
    def maps_of(part):
        start = {"train": 0, "validation": 20, "test": 40}[part]
        labels = [WORLD.sample_labels(start + i) for i in range(16)]
        shares = GRID.to_cells(torch.from_numpy(true_shares(labels, GRID, "object"))).movedim(1, -1)
        noise = torch.randn(shares.shape, generator=torch.Generator().manual_seed(start))
        yield {"tokenizer.latents": FeatureMaps(x=shares, grid=GRID),
               "random.tokenizer.latents": FeatureMaps(x=noise, grid=GRID)}, labels  # fmt: skip

    rows = {row["layer"]: row for row in segmentation_rows(maps_of, "object", 0)}
    assert rows["tokenizer.latents"]["test"] == pytest.approx(rows["exact"]["test"], abs=0.08)
    assert rows["random.tokenizer.latents"]["test"] < 0.6 < rows["exact"]["test"]


def test_mean_overlap_is_that_of_torchmetrics():
    from torchmetrics.functional.classification import multiclass_jaccard_index

    rng = np.random.default_rng(0)
    truth, predictions = rng.integers(0, 4, (2, 3, 8, 9))
    ours = mean_overlap(count_overlap(truth, predictions, 4).sum(0))
    assert ours == pytest.approx(float(multiclass_jaccard_index(torch.tensor(predictions), torch.tensor(truth), 4)))
    assert mean_overlap(count_overlap(truth % 2, truth % 2, 4).sum(0)) == 1  # classes that do not occur do not count


def test_bad_input_is_named(pipeline):
    for words, line in (
        ({"tasks": ["flow"]}, "dense task 'flow' is unknown; choose some of masks"),
        ({"classes": "mood"}, "classes 'mood' are unknown"),
        ({"layers": ["dit.blocks.9"]}, "layer 'dit.blocks.9' is not there"),
        ({"num_frames": 1}, "clips of 1 frames are one frame of features"),
        ({"size": 8}, "no such world can be made"),
    ):
        with pytest.raises(VidgenError, match=line):
            dense_rows(pipeline, **({"clips": 2, "size": 64} | words))
