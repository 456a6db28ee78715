"""Curves, proposals and their scores, on curves whose moment is known."""

import numpy as np
import pytest

from vidgen.representations.moments.curves import SimilarityCurve
from vidgen.representations.moments.localization import (
    LocalizationConfig,
    locate_on_curve,
    propose_spans,
    saliency_of,
)
from vidgen.representations.moments.proposals import (
    PROPOSAL_SCORES,
    contrast,
    overlap_templates,
    shot_spans,
    sliding_spans,
    snap_to_cuts,
    template_fit,
    watershed_spans,
)
from vidgen.representations.moments.spans import Span, pairwise_iou, span_iou

WINDOWS = np.stack([np.arange(0, 38.1, 0.5), np.arange(0, 38.1, 0.5) + 2.0], axis=1)  # 2 s every 0.5 s of 40 s


def curve_of(*spans: tuple[float, float], noise: float = 0.0, seed: int = 0) -> SimilarityCurve:
    """What a perfect model of 2 s windows says of a text that is true of these spans."""
    values = 0.1 + 0.5 * overlap_templates(WINDOWS, np.array(spans)).sum(axis=0)
    values += noise * np.random.default_rng(seed).standard_normal(len(values))
    return SimilarityCurve(values=values, bounds=WINDOWS, duration=40.0)


def test_means_are_those_of_a_fine_grid() -> None:
    curve = curve_of((7.3, 11.1), noise=0.1)
    bounds = np.array([[0.0, 40.0], [0.2, 0.7], [7.0, 12.3], [39.5, 40.0]])
    for (start, end), mean in zip(bounds, curve.means(bounds), strict=True):
        fine = start + (np.arange(20_000) + 0.5) / 20_000 * (end - start)
        assert mean == pytest.approx(curve.at(fine).mean(), abs=1e-5)
    assert curve.means(np.array([[5.0, 5.0]]))[0] == curve.at(np.array([5.0]))[0]


def test_templates_are_shares_of_windows() -> None:
    shares = overlap_templates(np.array([[0.0, 2.0], [1.0, 3.0], [4.0, 6.0]]), np.array([[1.0, 2.5], [0.0, 6.0]]))
    assert shares.tolist() == [[0.5, 0.75, 0.0], [1.0, 1.0, 1.0]]


def test_watershed_at_half_height_has_the_very_ends() -> None:
    # a window centered on an end is half inside, so that half the height is where the moment begins
    assert watershed_spans(curve_of((10.0, 14.0)), [0.5]) == pytest.approx(np.array([[10.0, 14.0]]))
    assert watershed_spans(curve_of((0.0, 4.0), (30.0, 40.0)), [0.5]) == pytest.approx(
        np.array([[0.0, 4.0], [30.0, 40.0]])
    )
    flat = SimilarityCurve(values=np.ones(len(WINDOWS)), bounds=WINDOWS, duration=40.0)
    assert len(watershed_spans(flat)) == 0


def test_sliding_spans_come_near_every_moment() -> None:
    bounds = sliding_spans(curve_of((10.0, 14.0)))
    assert bounds.min() == 0 and bounds.max() == 40.0
    rng = np.random.default_rng(0)
    for length in rng.uniform(2.0, 30.0, 200):
        start = rng.uniform(0, 40 - length)
        assert pairwise_iou(np.array([[start, start + length]]), bounds).max() > 0.65


def test_shots_and_their_runs() -> None:
    bounds = shot_spans([3.0, 5.0, 50.0], 9.0, longest=2)
    assert bounds.tolist() == [[0, 3], [0, 5], [3, 5], [3, 9], [5, 9]]
    assert shot_spans([], 9.0).tolist() == [[0, 9]]


def test_ends_snap_to_near_cuts() -> None:
    bounds = np.array([[0.2, 3.2], [1.0, 4.0], [2.9, 3.1], [5.0, 8.9]])
    snapped = snap_to_cuts(bounds, [3.0], 0.25, 9.0)
    assert snapped.tolist() == [[0.0, 3.0], [1.0, 4.0], [5.0, 9.0]]  # the third has no length left


def test_contrast_by_hand() -> None:
    windows = np.stack([np.arange(10.0), np.arange(10.0) + 1], axis=1)
    step = SimilarityCurve(values=np.repeat([0.0, 1.0, 0.0], [4, 2, 4]), bounds=windows, duration=10.0)
    # inside [4, 6] the mean is 1 less a corner of 1/8 on either side, divided by 2; flanks of 1 s hold those corners
    inside, outside = 1 - 2 * 0.125 / 2, 0.125
    assert contrast(step, np.array([[4.0, 6.0]]))[0] == pytest.approx(inside - outside)
    assert contrast(step, np.array([[0.0, 10.0]]))[0] == pytest.approx(0.0)
    assert contrast(step, np.array([[0.0, 2.0]]))[0] < 1e-9


def test_the_template_of_the_moment_fits_best() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        start, length = rng.uniform(0, 30), rng.uniform(1.0, 9.0)
        curve = curve_of((start, start + length))
        others = np.sort(rng.uniform(0, 40, (200, 2)), axis=1) + [[0, 1e-3]]
        fits = template_fit(curve, np.concatenate([[[start, start + length]], others]))
        assert fits[0] == pytest.approx(1.0) and fits[1:].max() < 1
    assert template_fit(curve, np.array([[0.0, 40.0]]))[0] == 0.0  # tells nothing apart
    flat = SimilarityCurve(values=np.ones(len(WINDOWS)), bounds=WINDOWS, duration=40.0)
    assert np.array_equal(template_fit(flat, np.array([[1.0, 5.0]])), [0.0])


@pytest.mark.parametrize("score", PROPOSAL_SCORES)
def test_moments_are_located(score: str) -> None:
    overlaps = []
    for seed in range(20):
        start = 3.0 + 1.37 * seed
        config = LocalizationConfig(proposals=("watershed", "sliding"), score=score)
        spans = locate_on_curve(curve_of((start, start + 4), noise=0.02, seed=seed), [], config)
        overlaps.append(span_iou(spans[0], Span(start=start, end=start + 4)))
        assert len(spans) <= 10 and all(a.score >= b.score for a, b in zip(spans, spans[1:], strict=False))
        assert all(span_iou(a, b) <= config.iou for i, a in enumerate(spans) for b in spans[:i])
    assert np.mean(overlaps) > (0.9 if score == "template" else 0.7)


def test_shots_give_exact_ends_and_several_moments_are_found() -> None:
    cuts = [4.2, 8.1, 15.5, 19.3, 30.7, 34.0]
    curve = curve_of((8.1, 15.5), (30.7, 34.0), noise=0.05)
    spans = locate_on_curve(curve, cuts, LocalizationConfig(proposals=("shots",)))
    assert {(span.start, span.end) for span in spans[:2]} == {(8.1, 15.5), (30.7, 34.0)}
    assert len(propose_spans(curve, cuts)) > len(propose_spans(curve, [])) > 0


def test_saliency_is_the_mean_of_pieces() -> None:
    curve = curve_of((10.0, 14.0))
    saliency = saliency_of(curve, 2.0)
    assert len(saliency) == 20 and np.argmax(saliency) in (5, 6)
    assert saliency.mean() == pytest.approx(curve.means(np.array([[0.0, 40.0]]))[0])
    assert len(saliency_of(curve, 100.0)) == 1
