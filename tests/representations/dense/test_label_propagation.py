"""Features that are planted so that the right matches are known: what is carried along them arrives where it must."""

import pytest
import torch

from vidgen.representations.dense.grids import Grid
from vidgen.representations.dense.label_propagation import PropagationSettings, propagate_labels, standardize_clips
from vidgen.representations.dense.tracked_labels import read_points


def shifted(steps: list[tuple[int, int]], size: int = 9, channels: int = 24, seed: int = 0) -> torch.Tensor:
    """(1, t, h, w, c): one random map, rolled by each of `steps` (rows, columns)."""
    still = torch.randn(size, size, channels, generator=torch.Generator().manual_seed(seed))
    return torch.stack([still.roll(step, dims=(0, 1)) for step in steps])[None]


STEPS = [(0, 0), (1, 2), (2, 3), (1, 4), (3, 4)]


@pytest.mark.parametrize(
    "settings",
    [
        PropagationSettings(top_k=1),
        PropagationSettings(top_k=1, context=1, radius=2),
        PropagationSettings(temperature=1e-3),
    ],
)
def test_a_shifted_map_carries_a_mask_exactly(settings):
    features = shifted(STEPS)
    mask = torch.zeros(1, 9, 9, 2)
    mask[:, 1:4, 1:5, 1] = 1
    mask[..., 0] = 1 - mask[..., 1]
    labels = propagate_labels(features, mask, settings)
    expected = torch.stack([mask[0].roll(step, dims=(0, 1)) for step in STEPS])[None]
    torch.testing.assert_close(labels, expected, atol=1e-4, rtol=0)


def test_a_point_of_a_shifted_map_is_followed_without_error():
    grid = Grid(frames=tuple(range(5)), shape=(9, 9), stride=(8, 4), size=(72, 36))
    heat = torch.zeros(1, 9, 9, 1)
    for row, column, weight in ((2, 3, 0.75 * 0.5), (3, 3, 0.25 * 0.5), (2, 4, 0.75 * 0.5), (3, 4, 0.25 * 0.5)):
        heat[0, row, column, 0] = weight
    points = read_points(propagate_labels(shifted(STEPS), heat, PropagationSettings(top_k=1)), grid)[0, 0]
    start = torch.tensor([(3 + 0.5 + 0.5) * 4, (2 + 0.5 + 0.25) * 8])
    expected = [start + torch.tensor([4.0 * right, 8.0 * down]) for down, right in STEPS]
    torch.testing.assert_close(torch.tensor(points).float(), torch.stack(expected), atol=1e-4, rtol=0)


def test_a_match_beyond_the_radius_is_found_in_the_first_frame_only():
    mask = torch.zeros(1, 9, 9, 1)
    mask[:, 4, 2] = 1
    near = propagate_labels(shifted([(0, 0), (0, 0), (0, 3)]), mask, PropagationSettings(top_k=1, radius=1))
    assert near[0, 2, 4, 5, 0] == 1  # the given frame may be looked at anywhere
    # a cell that no cell of the first frame is like, and that moves on by three columns
    features = torch.zeros(1, 3, 9, 9, 2)
    features[..., 0] = 1
    for t, column in ((1, 2), (2, 5)):
        features[0, t, 4, column] = torch.tensor([0.0, 1.0])
    values = torch.arange(81.0).reshape(1, 9, 9, 1)
    anywhere, narrow = (
        propagate_labels(features, values, PropagationSettings(top_k=1, radius=r))[0, :, 4, :, 0] for r in (None, 1)
    )
    assert anywhere[1, 2] == values[0, 4, 2] == anywhere[2, 5]  # its place in the first frame, and then it is known
    assert narrow[2, 5] == values[0, 4, 5]


def test_among_equals_the_nearer_counts():
    features = torch.ones(1, 3, 4, 4, 6)  # every cell is like every other
    values = torch.arange(16.0).reshape(1, 4, 4, 1)
    torch.testing.assert_close(
        propagate_labels(features, values, PropagationSettings(top_k=1)), values[:, None].expand(1, 3, 4, 4, 1)
    )


def test_clips_do_not_know_of_each_other_and_the_channels_scale_does_not_count():
    maps = torch.cat([shifted(STEPS, seed=seed) for seed in (3, 4)])
    values = torch.rand(2, 9, 9, 3, generator=torch.Generator().manual_seed(5))
    settings = PropagationSettings(top_k=3, radius=2)
    both = propagate_labels(maps, values, settings)
    alone = [propagate_labels(maps[i : i + 1], values[i : i + 1], settings) for i in range(2)]
    torch.testing.assert_close(both, torch.cat(alone))
    torch.testing.assert_close(propagate_labels(5 * maps - 7, values, settings), both, atol=1e-4, rtol=1e-4)
    assert torch.equal(both[:, 0], values)
    assert standardize_clips(torch.full((1, 2, 2, 2, 3), 4.0)).abs().max() == 0


def test_settings_that_make_no_sense_are_refused():
    for bad in ({"top_k": 0}, {"temperature": 0.0}, {"context": 0}, {"radius": -1}):
        with pytest.raises(ValueError, match="is not a"):
            PropagationSettings(**bad)
