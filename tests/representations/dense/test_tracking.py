"""Exact values of cells score as exact; grids go there and back."""

import numpy as np
import pytest
import torch
from einops import rearrange

from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig
from vidgen.errors import VidgenError
from vidgen.representations.dense.grids import Grid, middle_frames, read_maps
from vidgen.representations.dense.tracked_labels import TRACKED, boxes_to_cells, read_boxes, stack
from vidgen.representations.extractor import FeatureExtractor

CLIPS = [ShapeWorld(ShapeWorldConfig(max_objects=2)).sample_labels(index) for index in range(4)]
PIXELS = Grid(frames=(0, 2, 6, 16), shape=(64, 64), stride=(1, 1), size=(64, 64))  # a cell a pixel


@pytest.mark.parametrize(
    "task, best", [("masks", {"j_and_f": 1, "j": 1, "f": 1}), ("points", {"error_px": 0, "near": 1})]
)
def test_exact_values_are_perfect_where_a_cell_is_a_pixel(task, best):
    kind = TRACKED[task]
    cells = kind.to_cells(CLIPS, PIXELS)
    scores = kind.score(cells, CLIPS, PIXELS)
    for name, value in best.items():
        np.testing.assert_allclose(scores[name], value, atol=1e-5)
    still = kind.score(cells[:, :1].expand_as(cells), CLIPS, PIXELS)
    worse = (
        still[kind.metric] < scores[kind.metric] if kind.higher_is_better else still[kind.metric] > scores[kind.metric]
    )
    assert worse.all()


def test_boxes_are_read_to_the_pixel():
    kind = TRACKED["boxes"]
    cells = boxes_to_cells(CLIPS, PIXELS)
    scores = kind.score(cells, CLIPS, PIXELS)
    assert scores["middle_px"].max() <= 0.5 and scores["iou"].min() > 0.9
    box = torch.zeros(1, 1, 8, 8, 1)
    box[0, 0, 2:4, 1:6] = 1
    np.testing.assert_array_equal(
        read_boxes(box, Grid(frames=(0,), shape=(8, 8), stride=(1, 1), size=(8, 8)))[0, 0, 0], [1, 2, 6, 4]
    )


def test_points_between_cells_are_where_they_were_on_a_coarse_grid():
    grid = Grid(frames=(0, 8, 16), shape=(8, 8), stride=(8, 8), size=(64, 64))
    kind = TRACKED["points"]
    assert (
        kind.score(kind.to_cells(CLIPS, grid), CLIPS, grid)["error_px"].max() < 0.5
    )  # the margin holds no cell's middle


def test_an_object_that_is_not_there_does_not_count():
    one, two = (next(c for c in CLIPS if len(c.objects) == n) for n in (1, 2))
    for kind in TRACKED.values():
        cells = kind.to_cells([one, two], PIXELS)
        together = kind.score(cells, [one, two], PIXELS)
        alone = kind.score(kind.to_cells([one], PIXELS), [one], PIXELS)
        np.testing.assert_allclose(together[kind.metric][0], alone[kind.metric][0], atol=1e-6)
    assert np.isnan(stack([np.zeros((1, 2)), np.zeros((2, 2))])[0, 1]).all()


def test_cells_are_means_and_reach_beyond_the_edge():
    grid = Grid(frames=(0,), shape=(2, 3), stride=(4, 4), size=(6, 10))
    x = torch.arange(60.0).reshape(1, 6, 10)
    cells = grid.to_cells(x)
    assert cells.shape == (1, 2, 3) and cells[0, 0, 0] == x[0, :4, :4].mean()
    assert cells[0, 1, 0] == torch.cat([x[0, 4:, :4], x[0, 5:, :4], x[0, 5:, :4]]).mean()  # the last row again
    assert grid.to_pixels(cells).shape == (1, 6, 10)
    video = torch.rand(2, 3, 1, 6, 10)
    patches = rearrange(grid.patches(video), "b t h w (p q c) -> b c t (h p) (w q)", p=4, q=4)
    assert torch.equal(patches[..., :6, :10], video)


def test_features_that_are_not_finite_are_named(pipeline):
    extract = FeatureExtractor(pipeline.vae, pool="none")

    class Broken:
        feature_info = extract.feature_info

        def __call__(self, *given, **more):
            out = extract(*given, **more)
            out.features["tokenizer.latents"][1, 0, 0, 0, 0] = torch.nan
            return out

    with pytest.raises(VidgenError, match=r"features random\.tokenizer\.latents of clip 'b' are not finite"):
        read_maps({"": extract, "random.": Broken()}, torch.zeros(2, 3, 5, 32, 32), ["a", "b"])


def test_the_frame_in_the_middle():
    assert middle_frames(torch.tensor([0, 4, 8, 9])) == (0, 2, 6, 9)
    assert middle_frames(torch.tensor([0, 1, 2])) == (0, 1, 2)
