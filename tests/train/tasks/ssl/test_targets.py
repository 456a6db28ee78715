"""Targets and monitors: closed forms."""

import math

import pytest
import torch

from vidgen.models.encoders.feature_predictor import normalized_tokens
from vidgen.train.tasks.ssl.monitoring import (
    alignment,
    describe_features,
    feature_spread,
    lidar,
    off_diagonal_correlation,
    probe_features,
    rank_me,
    uniformity,
)
from vidgen.train.tasks.ssl.resampling import cell_edges, resample_map
from vidgen.train.tasks.ssl.targets import HOG_BINS, hog_target, normalized_target

PATCH = (2, 4, 4)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_normalized_patch_has_mean_0_and_spread_1_whatever_its_light():
    video = draw(2, 3, 4, 8, 8)
    x = normalized_target(video, PATCH)
    assert x.shape == (2, 8, 96)
    assert torch.allclose(x.mean(-1), torch.zeros(2, 8), atol=1e-5)
    assert torch.allclose(x.var(-1), torch.ones(2, 8), atol=1e-4)
    assert torch.allclose(normalized_target(3.0 * video + 2.0, PATCH), x, atol=1e-4)


@pytest.mark.parametrize(("axis", "bin"), [(-1, 0), (-2, HOG_BINS / 2)])
def test_a_ramp_has_one_orientation(axis, bin):
    ramp = torch.arange(8.0) if axis == -1 else torch.arange(8.0)[:, None]
    video = ramp.expand(1, 3, 2, 8, 8)
    x = hog_target(video, PATCH).reshape(1, 4, 3, HOG_BINS)
    expected = torch.zeros(HOG_BINS)
    expected[math.floor(bin)] += 1.0 - bin % 1
    expected[math.floor(bin) + 1] += bin % 1
    expected = expected / expected.norm()
    assert torch.allclose(x, expected.expand_as(x), atol=1e-5)
    assert torch.allclose(hog_target(-5.0 * video + 1.0, PATCH), x.flatten(2), atol=1e-5)  # unsigned, any contrast


def test_maps_of_another_grid_are_resampled():
    maps, own, halves = draw(1, 6, 3, 4, 4), cell_edges(3, 2, first_alone=False), cell_edges(2, 3, first_alone=False)
    assert torch.equal(resample_map(maps, (3, 4, 4), own, own), maps)
    x = resample_map(maps, (2, 2, 2), own, halves)  # frames 0-2 are the first cell and half of the second
    expected = (2 * maps[0, :, 0, :2, :2] + maps[0, :, 1, :2, :2]).mean((1, 2)) / 3
    assert x.shape == (1, 6, 2, 2, 2) and torch.allclose(x[0, :, 0, 0, 0], expected, atol=1e-5)
    flat = resample_map(torch.ones(1, 2, 3, 4, 4), (3, 8, 8), own, own)
    assert flat.shape == (1, 2, 3, 8, 8) and torch.allclose(flat, torch.ones_like(flat))
    rows = normalized_tokens(maps)
    assert rows.shape == (1, 48, 6) and torch.allclose(rows.mean(-1), torch.zeros(1, 48), atol=1e-5)


def test_the_rank_of_features():
    assert rank_me(torch.eye(6)) == pytest.approx(6.0)
    assert rank_me(torch.ones(20, 6)) == pytest.approx(1.0)
    assert rank_me(torch.ones(20, 6) + 1e-5 * draw(20, 6)) < 1.01  # where the centred rank is near 6
    shares = torch.tensor([0.5, 0.25, 0.25])
    entropy = -(shares * shares.log()).sum().item()
    assert rank_me(torch.diag(shares)) == pytest.approx(math.exp(entropy), rel=1e-6)


def test_spread_correlation_and_uniformity():
    z = draw(4000, 8)
    assert feature_spread(z) == pytest.approx(math.sqrt(math.pi / 2), rel=0.02)
    assert feature_spread(torch.ones(5, 3)) == 0.0
    assert off_diagonal_correlation(z) < 0.03
    assert off_diagonal_correlation(z[:, :1].expand(-1, 8)) == pytest.approx(1.0, abs=1e-4)
    circle = torch.eye(2)[[0, 1]]
    assert uniformity(circle) == pytest.approx(-4.0)  # |x - y|^2 = 2
    assert alignment(circle, circle) == 0.0 and alignment(circle, -circle) == pytest.approx(4.0)
    metrics = describe_features(z, z)
    assert metrics["rankme_share"] > 0.9 and metrics["alignment"] == 0.0 and metrics["lidar"] > 7.9
    collapsed = describe_features(torch.ones(40, 8), torch.ones(40, 8))  # a collapse is told, and no error
    assert collapsed["rankme"] == pytest.approx(1.0) and collapsed["lidar"] == pytest.approx(1.0)


def test_probes_while_training_tell_what_features_hold():
    centers = torch.eye(3, 8)
    truth = ["a", "b", "c"] * 20
    known, z = (centers.repeat(20, 1) + 0.05 * draw(60, 8, seed=i) for i in (1, 2))
    assert probe_features("kind", known, truth, z, truth) == {"knn_kind": 1.0, "linear_kind": 1.0}
    other = ["a", "a", "b"] * 20  # of which the first of each three alone is right
    assert probe_features("kind", known, truth, z, other)["linear_kind"] == pytest.approx(1 / 3)


def test_lidar_counts_the_directions_that_tell_clips_apart():
    clips = draw(500, 3, seed=1) @ torch.linalg.qr(draw(8, 3, seed=2))[0].T
    views = [clips + 0.05 * draw(500, 8, seed=i) for i in (3, 4)]
    assert lidar(*views) == pytest.approx(3.0, abs=0.3)
    assert lidar(draw(500, 8, seed=5), draw(500, 8, seed=6)) > 7  # nothing but noise: no direction stands out
