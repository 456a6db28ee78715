"""Priors, random spans and adaptation to a film."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vidgen.representations.moments.baselines import fit_prior, prior_spans, random_spans, relative_bounds
from vidgen.representations.moments.curves import SimilarityCurve
from vidgen.representations.moments.refinement import Refinement, loss_gradient, refine_curve
from vidgen.representations.moments.spans import Span


def test_prior_finds_where_moments_lie() -> None:
    rng = np.random.default_rng(0)
    ends = np.concatenate([np.tile([0.4, 0.6], (50, 1)), np.tile([0.0, 0.1], (20, 1)), np.tile([0.8, 0.9], (5, 1))])
    prior = fit_prior(np.clip(ends + 0.005 * rng.standard_normal(ends.shape), 0, 1), 3)
    assert prior == pytest.approx(np.array([[0.4, 0.6], [0.0, 0.1], [0.8, 0.9]]), abs=0.02)
    spans = prior_spans(prior, 50.0)
    assert spans[0].start == pytest.approx(20, abs=1) and spans[0].score > spans[1].score
    with pytest.raises(ValueError, match="one span or more"):
        fit_prior(np.zeros((0, 2)), 3)


def test_relative_bounds() -> None:
    rows = relative_bounds([[Span(start=1, end=2)], [Span(start=0, end=5), Span(start=5, end=10)]], [4.0, 10.0])
    assert rows.tolist() == [[0.25, 0.5], [0.0, 0.5], [0.5, 1.0]]


def test_random_spans_are_everywhere_and_of_the_same_lengths() -> None:
    bounds = np.array([[0.0, 0.1], [0.5, 0.8]])
    spans = random_spans(np.random.default_rng(0), bounds, 20.0, 4000)
    lengths = np.array([span.length for span in spans])
    assert {round(length, 6) for length in lengths} == {2.0, 6.0} and np.mean(lengths < 4) == pytest.approx(
        0.5, abs=0.03
    )
    assert all(0 <= span.start and span.end <= 20 + 1e-9 for span in spans)
    starts = np.array([span.start for span in spans if span.length < 4])
    assert starts.mean() == pytest.approx(9.0, abs=0.5)


def test_refinement_lifts_what_is_like_the_best_and_lowers_the_background() -> None:
    rng = np.random.default_rng(0)
    moment = np.zeros(60, bool)
    moment[20:30] = True
    axes = np.eye(16)
    vectors = np.where(moment[:, None], axes[0], axes[1]) + 0.05 * rng.standard_normal((60, 16))
    values = 0.5 * moment + 0.35 * rng.standard_normal(60)  # the text hardly tells, the film's own vectors do
    curve = SimilarityCurve(
        values=values, bounds=np.stack([np.arange(60.0), np.arange(60.0) + 1], axis=1), duration=60.0
    )

    def separation(scores: np.ndarray) -> float:
        return float((scores[moment].mean() - scores[~moment].mean()) / scores.std())

    refined = refine_curve(curve, vectors, Refinement())
    assert separation(refined.values) > separation(values) + 0.5
    assert np.array_equal(refined.values, refine_curve(curve, vectors, Refinement()).values)
    alone = refine_curve(curve, vectors, Refinement(weight=0.0)).values
    assert np.corrcoef(alone, values)[0, 1] == pytest.approx(1.0)


def test_refinement_of_next_to_nothing_is_none() -> None:
    curve = SimilarityCurve(values=np.array([1.0]), bounds=np.array([[0.0, 1.0]]), duration=1.0)
    assert refine_curve(curve, np.ones((1, 4)), Refinement()) is curve
    flat = SimilarityCurve(values=np.zeros(8), bounds=np.stack([np.arange(8.0), np.arange(8.0) + 1], 1), duration=8.0)
    assert np.isfinite(refine_curve(flat, np.ones((8, 4)), Refinement(steps=3)).values).all()


def test_gradients_are_those_of_autograd() -> None:
    generator = torch.Generator().manual_seed(0)
    windows = F.normalize(torch.randn(7, 5, generator=generator, dtype=torch.float64), dim=-1)
    prototype = torch.randn(5, generator=generator, dtype=torch.float64, requires_grad=True)
    labels, weights = torch.tensor([1.0, 1, 0, 0, 0, 0, 0]).double(), torch.rand(7, generator=generator).double()
    logits = windows @ F.normalize(prototype, dim=0) / 0.1
    F.binary_cross_entropy_with_logits(logits, labels, weight=weights, reduction="sum").backward()
    ours = loss_gradient(prototype.detach().numpy(), windows.numpy(), labels.numpy(), weights.numpy(), 0.1)
    assert ours == pytest.approx(prototype.grad.numpy())
