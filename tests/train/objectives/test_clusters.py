"""Cluster objectives: assignments are optimal transport, and lightly's numbers where it is installed."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from vidgen.train.objectives.clusters import dino, move_center, perplexity, prototype_cross_entropy, sinkhorn, swav


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def test_sinkhorn_is_the_optimal_transport_of_equal_masses():
    scores = draw(6, 3).detach()
    q = sinkhorn(scores, epsilon=0.01, iterations=4000)
    assert torch.allclose(q.sum(1), torch.ones(6)) and torch.allclose(q.sum(0), torch.full((3,), 2.0), atol=1e-3)
    rows = np.kron(np.eye(6), np.ones(3))
    columns = np.kron(np.ones(6), np.eye(3))
    best = linprog(-scores.numpy().ravel(), A_eq=np.vstack([rows, columns]), b_eq=[1] * 6 + [2] * 3, method="highs")
    assert (q * scores).sum().item() == pytest.approx(-best.fun, abs=0.06)


def test_sinkhorn_is_the_entropic_optimum():
    """The optimum is diag(u) exp(scores / epsilon) diag(v): its logarithm less the scores has rank one and one."""
    scores = draw(5, 4).detach().double()
    q = sinkhorn(scores, epsilon=0.5, iterations=300)
    rest = q.log() - scores / 0.5
    assert torch.allclose(rest - rest[:1] - rest[:, :1] + rest[0, 0], torch.zeros_like(rest), atol=1e-8)


def test_a_view_predicts_the_other_views_codes():
    a, b, c = (draw(8, 5, seed=i) for i in range(3))
    codes = [sinkhorn(x) for x in (a, b)]
    pairs = [(b, codes[0]), (c, codes[0]), (a, codes[1]), (c, codes[1])]
    expected = sum(prototype_cross_entropy(x, code) for x, code in pairs) / 4
    assert swav([a, b, c])[0].item() == pytest.approx(expected.item(), rel=1e-6)


def test_perplexity_counts_the_clusters_in_use():
    assert perplexity(torch.eye(4)).item() == pytest.approx(4.0)
    assert perplexity(torch.eye(4)[[0, 0, 1, 1]]).item() == pytest.approx(2.0)


def test_dino_of_a_flat_teacher_is_the_logarithm_of_the_prototypes():
    flat = torch.zeros(3, 7)
    loss, parts = dino([flat, flat], [flat, flat], torch.zeros(7))
    assert loss.item() == pytest.approx(math.log(7)) and parts["teacher_entropy"].item() == pytest.approx(math.log(7))
    moved, _ = dino([flat, flat], [flat + 3.0, flat + 3.0], torch.full((7,), 3.0))  # the centre takes it out
    assert moved.item() == pytest.approx(math.log(7))


def test_the_centre_is_a_moving_mean():
    teacher = draw(6, 4)
    center = move_center(torch.ones(4), teacher, momentum=0.75)
    assert torch.allclose(center, 0.75 + 0.25 * teacher.mean(0).detach()) and not center.requires_grad


def test_lightly_has_the_same_numbers():
    losses = pytest.importorskip("lightly.loss", reason="lightly is not installed")
    student, teacher = [draw(6, 5, seed=i) for i in range(3)], [draw(6, 5, seed=i) for i in (10, 11)]
    theirs = losses.DINOLoss(output_dim=5, warmup_teacher_temp_epochs=0, teacher_temp=0.04)
    ours = dino(student, teacher, torch.zeros(5))[0]
    value = theirs(teacher, student, epoch=0)
    assert ours.item() == pytest.approx(value.item(), rel=1e-6)
    for x in student:
        grads = (torch.autograd.grad(loss, x, retain_graph=True)[0] for loss in (ours, value))
        assert torch.allclose(*grads, atol=1e-6)
    codes = losses.swav_loss.sinkhorn(teacher[0].detach())
    assert torch.allclose(sinkhorn(teacher[0]), codes, atol=1e-6)
