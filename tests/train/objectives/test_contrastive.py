"""Contrastive objectives: closed forms, each other's special cases, and lightly's numbers where it is installed."""

import math

import pytest
import torch
import torch.nn.functional as F

from vidgen.errors import VidgenError
from vidgen.train.objectives import contrastive
from vidgen.train.objectives.contrastive import (
    cycle_contrastive,
    info_nce,
    multi_positive_nce,
    nt_xent,
    sigmoid_contrastive,
    wasserstein_dependency,
)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def test_one_positive_is_cross_entropy():
    q, k = draw(6, 5), draw(6, 5, seed=1)
    logits = F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / 0.2
    loss, parts = info_nce(q, k, temperature=0.2)
    assert loss.item() == pytest.approx(F.cross_entropy(logits, torch.arange(6)).item(), rel=1e-6)
    assert parts["accuracy"] == (logits.argmax(1) == torch.arange(6)).float().mean()
    alone, _ = multi_positive_nce(q, k, torch.eye(6, dtype=torch.bool), temperature=0.2)
    outside, _ = multi_positive_nce(q, k, torch.eye(6, dtype=torch.bool), temperature=0.2, form="outside")
    assert alone.item() == pytest.approx(loss.item(), rel=1e-6) == outside.item()


def test_a_queue_is_part_of_the_denominator_whatever_its_parts(monkeypatch):
    q, k, queue = draw(4, 5), draw(4, 5, seed=1), draw(23, 5, seed=2).detach()
    keys = F.normalize(torch.cat([k, queue]), dim=1)
    expected = F.cross_entropy(F.normalize(q, dim=1) @ keys.T / 0.1, torch.arange(4))
    wanted = torch.autograd.grad(expected, q)[0]
    for part in (3, 8192):
        monkeypatch.setattr(contrastive, "QUEUE_PART", part)
        loss, _ = info_nce(q, k, negatives=queue)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
        assert torch.allclose(torch.autograd.grad(loss, q)[0], wanted, atol=1e-6)


def test_equal_embeddings_leave_the_logarithm_of_the_batch():
    z = torch.ones(8, 3)
    assert info_nce(z, z)[0].item() == pytest.approx(math.log(8))
    assert nt_xent(z, z)[0].item() == pytest.approx(math.log(15))
    assert cycle_contrastive(torch.ones(4, 3, 2), torch.ones(4, 2))[0].item() == pytest.approx(math.log(4))


def test_several_positives_inside_and_outside_the_logarithm():
    q, k = draw(3, 4), draw(5, 4, seed=1)
    positives = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 1, 0, 1], [0, 0, 0, 0, 0]], dtype=torch.bool)
    p = (F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / 0.1).softmax(1)
    inside = -sum(torch.log(p[i][positives[i]].sum()) for i in range(2)) / 2
    outside = -sum(torch.log(p[i][positives[i]]).mean() for i in range(2)) / 2  # the third has none
    assert multi_positive_nce(q, k, positives)[0].item() == pytest.approx(inside.item(), rel=1e-5)
    assert multi_positive_nce(q, k, positives, form="outside")[0].item() == pytest.approx(outside.item(), rel=1e-5)
    with pytest.raises(VidgenError, match="no query of the batch has a positive"):
        multi_positive_nce(q, k, torch.zeros(3, 5, dtype=torch.bool))


def test_the_sigmoid_form_is_binary_cross_entropy_of_all_pairs():
    a, b = draw(4, 6), draw(4, 6, seed=1)
    scale, bias = torch.tensor(math.log(10.0)), torch.tensor(-10.0)
    logits = 10.0 * F.normalize(a, dim=1) @ F.normalize(b, dim=1).T - 10.0
    expected = F.binary_cross_entropy_with_logits(logits, torch.eye(4), reduction="sum") / 4
    assert sigmoid_contrastive(a, b, log_scale=scale, bias=bias)[0].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_wasserstein_form_is_a_difference_of_means():
    scores = draw(3, 3)
    off = [scores[i, j].item() for i in range(3) for j in range(3) if i != j]
    expected = sum(off) / 6 - scores.diagonal().mean().item()
    assert wasserstein_dependency(scores)[0].item() == pytest.approx(expected, rel=1e-5)


def test_a_cycle_comes_back_to_its_own_video():
    videos = torch.eye(4)
    frames = videos[:, None].expand(4, 3, 4)
    near, far = (cycle_contrastive(frames, rows, temperature=0.05)[0].item() for rows in (videos, videos.roll(1, 0)))
    assert near < 1e-6 and far == pytest.approx(near, abs=1e-6)  # any one-to-one assignment of videos closes the cycle
    merged = videos[[0, 0, 2, 2]]
    assert cycle_contrastive(frames, merged, temperature=0.05)[0].item() > 1.0


@pytest.mark.parametrize("call", [lambda z: info_nce(z, z), lambda z: nt_xent(z, z),
                                  lambda z: cycle_contrastive(z[:, None], z), wasserstein_dependency])  # fmt: skip
def test_one_clip_has_no_negatives(call):
    with pytest.raises(VidgenError, match="set batch_size to 2 or more"):
        call(torch.ones(1, 1))


def test_lightly_has_the_same_numbers():
    losses = pytest.importorskip("lightly.loss", reason="lightly is not installed")
    a, b = draw(6, 5), draw(6, 5, seed=1)
    ours, theirs = nt_xent(a, b, temperature=0.5)[0], losses.NTXentLoss(temperature=0.5)(a, b)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)
    for x in (a, b):
        grads = (torch.autograd.grad(loss, x, retain_graph=True)[0] for loss in (ours, theirs))
        assert torch.allclose(*grads, atol=1e-6)
