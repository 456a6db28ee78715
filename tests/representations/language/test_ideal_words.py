"""Ideal words: exact where vectors are sums, nothing where they are not, and the analysis of variance between."""

import numpy as np
import pytest

from vidgen.representations.language.ideal_words import (
    find_ideal_words,
    fit_ideal_words,
    measure_compositionality,
    measure_prompts,
)

COUNTS, WIDTH = (4, 3, 5), 16


def draw_sums(rng):
    """Vectors of all combinations, which are sums of words that sum to zero, and these."""
    words = [rng.normal(size=(count, WIDTH)) for count in COUNTS]
    words = [part - part.mean(axis=0) for part in words]
    mean = rng.normal(size=WIDTH)
    a, b, c = words
    return mean, words, mean + a[:, None, None] + b[None, :, None] + c[None, None, :]


def test_words_of_sums_are_exact():
    mean, words, vectors = draw_sums(np.random.default_rng(0))
    ideal = find_ideal_words(vectors)
    assert np.allclose(ideal.mean, mean) and ideal.explained == pytest.approx(1.0)
    for part, expected in zip(ideal.words, words, strict=True):
        assert np.allclose(part, expected)
    classes = np.array([[0, 2, 4], [3, 0, 1]])
    assert np.allclose(ideal.compose(classes), vectors[classes[:, 0], classes[:, 1], classes[:, 2]])


def test_words_fitted_to_some_sums_give_the_others():
    rng = np.random.default_rng(1)
    _, _, vectors = draw_sums(rng)
    classes = np.argwhere(np.ones(COUNTS))
    seen = rng.permutation(len(classes))[:40]
    fitted = fit_ideal_words(vectors.reshape(-1, WIDTH)[seen], classes[seen], COUNTS)
    assert np.allclose(fitted.compose(classes), vectors.reshape(-1, WIDTH))
    measured = measure_compositionality(vectors, ("colour", "shape", "motion"))
    assert measured.explained == pytest.approx(1.0) and measured.nearest == measured.unseen == 1.0
    assert measured.chance == 1 / 60


def test_shares_are_those_of_the_analysis_of_variance():
    """With an interaction of known variance beside two words of known variance."""
    first = np.array([1.0, -1.0])[:, None, None] * np.array([2.0, 0, 0])
    second = np.array([1.0, -1.0])[None, :, None] * np.array([0, 1.0, 0])
    both = np.outer([1.0, -1.0], [1.0, -1.0])[..., None] * np.array([0, 0, 3.0])
    ideal = find_ideal_words(first + second + both)
    assert ideal.shares == pytest.approx((4 / 14, 1 / 14))
    assert find_ideal_words(both).explained == pytest.approx(0.0)


def test_vectors_at_random_are_no_sums():
    vectors = np.random.default_rng(2).normal(size=(*COUNTS, 400))
    measured = measure_compositionality(vectors, ("colour", "shape", "motion"))
    # of 59 degrees of freedom the words have 3 + 2 + 4
    assert measured.explained == pytest.approx(9 / 59, abs=0.02)
    assert measured.unseen < 0.2


def test_equal_vectors_are_refused():
    with pytest.raises(ValueError, match="nothing varies"):
        find_ideal_words(np.ones((3, 2, 4)))


def test_who_knows_colours_has_words_for_them_alone(color_encoder):
    measured = measure_prompts(color_encoder())
    assert measured.shares["colour"] == pytest.approx(1.0, abs=1e-6)
    assert abs(measured.shares["shape"]) < 1e-9 and measured.nearest == 0.0
