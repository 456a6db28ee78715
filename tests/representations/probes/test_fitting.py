"""A grid trained as one module is its members trained alone; attention is what its formula says."""

import numpy as np
import pytest
import torch
from torch import nn

from vidgen.representations.probes import fitting
from vidgen.representations.probes.attentive import PARTS, AttentiveGrid, other_decays
from vidgen.representations.probes.attentive import SETTINGS as RATES
from vidgen.representations.probes.fitting import StackedAdamW, by_grid, by_stacked_grid
from vidgen.representations.probes.recurrent import RecurrentGrid

SETTINGS = ((5e-3, 0.01), (1e-3, 0.8), (1e-4, 0.1))


@pytest.mark.parametrize(
    "make, target_type",
    [(AttentiveGrid, "regression"), (AttentiveGrid, "multilabel"), (AttentiveGrid, "class"),
     (RecurrentGrid, "regression")],
)  # fmt: skip
def test_a_grid_is_its_members_trained_alone(make, target_type, monkeypatch):
    monkeypatch.setattr(fitting, "LEAST_STEPS", 20)
    rng = np.random.default_rng(0)
    X, others = rng.normal(size=(2, 24, 5, 6))
    y = {"regression": X[:, 0, :2], "multilabel": (X[:, 0, :2] > 0).astype(int), "class": rng.choice(list("abc"), 24)}
    predict = by_grid(make)
    whole = predict(SETTINGS, X, y[target_type], others, target_type, seed=3)
    for setting, predictions in zip(SETTINGS, whole, strict=True):
        (alone,) = predict([setting], X, y[target_type], others, target_type, seed=3)
        if target_type == "regression":
            np.testing.assert_allclose(predictions, alone, rtol=1e-6, atol=1e-8)
        else:
            assert (predictions == alone).all()
    if target_type == "regression":
        assert not np.allclose(whole[0], whole[1], atol=1e-3) and not np.allclose(whole[0], whole[2], atol=1e-3)


def test_attention_is_its_formula():
    grid = AttentiveGrid(members=2, length=5, width=32, outputs=3, seed=0, dtype=torch.float64)
    g = torch.Generator().manual_seed(0)
    for part in grid.parameters():
        part.data += 0.1 * torch.randn(part.shape, generator=g, dtype=part.dtype)
    x = torch.randn(4, 5, 32, generator=g, dtype=torch.float64)
    for k, outputs in enumerate(grid(x)):
        query, key, place, value, out, bias = (getattr(grid, name)[k] for name in PARTS)
        heads = []
        for n in range(4):
            scores = (x @ key[:, n]) @ query[n] / 8**0.5 + place[n]
            heads.append((scores.softmax(-1)[..., None] * (x @ value[:, n])).sum(1))
        torch.testing.assert_close(outputs, torch.cat(heads, -1) @ out + bias)


def test_place_and_order_are_seen():
    """Which of five tokens is marked, and which way a mark moves: neither is in the set of tokens."""
    rng = np.random.default_rng(0)
    places = rng.integers(0, 5, 120)
    X = 0.1 * rng.normal(size=(120, 5, 4))
    X[np.arange(120), places, 0] += 3.0
    where = np.where(places < 2, "early", "late")
    (predictions,) = by_grid(AttentiveGrid)([(2e-2, 0.01)], X[:80], where[:80], X[80:], "class", 0)
    assert (predictions == where[80:]).mean() > 0.8
    up = rng.random(120) < 0.5
    ramp = np.linspace(-1, 1, 5)[None, :, None] * np.where(up, 1, -1)[:, None, None]
    X = ramp + 0.1 * rng.normal(size=(120, 5, 1))
    words = np.where(up, "up", "down")
    (predictions,) = by_grid(RecurrentGrid)([(1e-2, 0.01)], X[:80], words[:80], X[80:], "class", 0)
    assert (predictions == words[80:]).all()


def test_stacked_adamw_is_torchs_for_each_member():
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    stacked = nn.Parameter(start.expand(3, 4, 3).clone())
    alone = [nn.Parameter(start.clone()) for _ in SETTINGS]
    optimizer = StackedAdamW([stacked], SETTINGS)
    others = [torch.optim.AdamW([p], lr=lr, weight_decay=wd) for p, (lr, wd) in zip(alone, SETTINGS, strict=True)]
    for _ in range(5):
        gradient = torch.randn(3, 4, 3, generator=generator, dtype=torch.float64)
        stacked.grad = gradient
        optimizer.step()
        for p, g, other in zip(alone, gradient, others, strict=True):
            p.grad = g
            other.step()
    torch.testing.assert_close(stacked.detach(), torch.stack([p.detach() for p in alone]), rtol=1e-12, atol=1e-14)


def test_rate_then_decay_is_a_path_through_the_grid():
    grid = {setting for rate in RATES for setting in (rate, *other_decays(rate))}
    assert len(grid) == 24 and len(RATES) + len(other_decays(RATES[0])) == 9


@pytest.mark.parametrize("target_type", ["class", "regression", "multilabel"])
def test_folds_side_by_side_are_each_as_alone(target_type, monkeypatch):
    """Of other sizes, so that batches end at other rows, and one of fewer classes, which is another kind."""
    monkeypatch.setattr(fitting, "CHOOSING_STEPS", fitting.LEAST_STEPS)  # as many as alone
    rng = np.random.default_rng(0)
    X, numbers = rng.normal(size=(90, 3, 8)), rng.normal(size=(90, 2))
    y = {"regression": numbers, "multilabel": (numbers > 0).astype(int), "class": rng.choice(list("abc"), 90)}
    y = y[target_type]
    parts = [(X[:70], y[:70], X[70:]), (X[:71], y[:71], X[71:80])]
    if target_type == "class":
        parts.append((X[y != "a"], y[y != "a"], X[:10]))
    settings = [(2e-2, 0.01), (3e-3, 0.4)]
    together = by_stacked_grid(AttentiveGrid)(settings, parts, target_type, 0)
    for part, predictions in zip(parts, together, strict=True):
        alone = by_grid(AttentiveGrid)(settings, *part, target_type, 0)
        for one, other in zip(predictions, alone, strict=True):
            assert one.shape == other.shape
            assert np.array_equal(one, other) if target_type != "regression" else np.allclose(one, other, atol=1e-8)
