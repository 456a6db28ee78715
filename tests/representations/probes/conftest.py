"""Labelled points, and banks of them, whose answer is known."""

import json

import numpy as np
import pytest
import torch

from vidgen.representations.bank import BankRow, BankWriter, FeatureBank

NAMES = ("circle", "cross", "ring", "star")
CLASSES, EACH, WIDTH = 3, 40, 8


@pytest.fixture(scope="session")
def blobs():
    """blobs(spread): features and labels of one Gaussian a class, in random order; 24 groups of five, the last eight
    for test."""

    def make(spread: float, seed: int = 0):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.repeat(np.arange(CLASSES), EACH))
        centers = rng.normal(size=(CLASSES, WIDTH)) * 5
        X = (centers[labels] + rng.normal(size=(len(labels), WIDTH)) * spread).astype(np.float32)
        groups = np.arange(len(labels)) // 5
        split = np.where(groups < 16, "train", "test")
        return X, [f"c{i}" for i in labels], split, [f"g{i}" for i in groups]

    return make


@pytest.fixture
def make_bank(tmp_path):
    """make_bank(features, y, split, name): a bank of `features` (arrays by key), labels y, and groups of two clips."""

    def make(features, y, split=None, name="bank", meta=None, source="clips"):
        rows = [
            BankRow(id=f"{i}.mp4", label=None if label is None else str(label), group=f"g{i // 2}",
                    split=None if split is None else split[i], labels={"words": json.dumps([str(label)])})
            for i, label in enumerate(y)
        ]  # fmt: skip
        about = {"pool": "mean", "keys": list(features), "source": source, "model_hash": "a", "prompt": "", "seed": 0}
        about |= {"preprocessing": {"size": [64, 64], "fps": 8.0}, "preprocessing_hash": "b"}
        with BankWriter(tmp_path / name, about | (meta or {})) as writer:
            writer.add(rows, {key: torch.as_tensor(np.asarray(x), dtype=torch.float32) for key, x in features.items()})
        return FeatureBank.load(tmp_path / name)

    return make


@pytest.fixture
def planted():
    """planted(n, spread): features (n, 6) around a center a class, their classes, and splits: half of the groups of two
    clips for train, a quarter each for val and test."""

    def make(n=160, spread=0.3, classes=NAMES, seed=0):
        rng = np.random.default_rng(seed)
        y = rng.permutation(np.resize(np.arange(len(classes)), n))
        centers = 3 * np.random.default_rng(99).normal(size=(len(classes), 6))
        X = centers[y] + spread * rng.normal(size=(n, 6))
        split = np.array(["train", "train", "val", "test"])[np.arange(n) // 2 % 4]
        return X, np.array(classes)[y], split

    return make
