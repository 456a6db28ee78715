"""Labelled points whose answer is known."""

import numpy as np
import pytest

CLASSES, EACH, WIDTH = 3, 40, 8


@pytest.fixture(scope="session")
def blobs():
    """blobs(spread): features and labels of one Gaussian a class, in random order; 24 groups of five, the last eight
    for test."""

    def make(spread: float, seed: int = 0):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.repeat(np.arange(CLASSES), EACH))
        centres = rng.normal(size=(CLASSES, WIDTH)) * 5
        X = (centres[labels] + rng.normal(size=(len(labels), WIDTH)) * spread).astype(np.float32)
        groups = np.arange(len(labels)) // 5
        split = np.where(groups < 16, "train", "test")
        return X, [f"c{i}" for i in labels], split, [f"g{i}" for i in groups]

    return make
