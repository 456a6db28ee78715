"""Predictive objectives: closed forms, what counts and what does not, and relations that ignore rotations."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from vidgen.errors import VidgenError
from vidgen.train.objectives.contrastive import info_nce
from vidgen.train.objectives.predictive import (
    cpc,
    masked_regression,
    normal_kl,
    relation_distillation,
    stochastic_prediction,
)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


@pytest.mark.parametrize(("distance", "power"), [("l1", 1), ("l2", 2)])
def test_only_masked_tokens_count_unless_visible_ones_are_weighed(distance, power):
    predictions, targets = draw(2, 6, 4), draw(2, 6, 4, seed=1)
    masked = torch.tensor([[1, 1, 0, 0, 0, 0], [1, 0, 0, 1, 1, 0]], dtype=torch.bool)
    error = (predictions - targets).abs().pow(power).mean(-1)
    loss, parts = masked_regression(predictions, targets, masked, distance=distance)
    assert loss.item() == pytest.approx(error[masked].mean().item(), rel=1e-5)
    grad = torch.autograd.grad(loss, predictions)[0]
    assert (grad[~masked] == 0).all() and (grad[masked] != 0).all()
    dense, _ = masked_regression(predictions, targets, masked, distance=distance, visible=0.5)
    assert dense.item() == pytest.approx((loss + 0.5 * error[~masked].mean()).item(), rel=1e-5)
    assert parts["visible"].item() == pytest.approx(error[~masked].mean().item(), rel=1e-5)
    with pytest.raises(VidgenError, match="nothing is masked"):
        masked_regression(predictions, targets, torch.zeros_like(masked))


def test_cpc_is_info_nce_over_clips_and_steps():
    p, z = draw(3, 4, 5), draw(3, 4, 5, seed=1)
    assert cpc(p, z)[0].item() == info_nce(p.reshape(12, 5), z.reshape(12, 5))[0].item()


def test_the_divergence_of_normal_laws():
    mean, log_std, other_mean, other_log_std = (0.5 * draw(3, 4, seed=i) for i in range(4))
    expected = kl_divergence(Normal(mean, log_std.exp()), Normal(other_mean, other_log_std.exp())).sum(-1)
    kl = normal_kl(mean, log_std, other_mean, other_log_std)
    assert torch.allclose(kl, expected, atol=1e-5)
    error = draw(3, 2, 2)
    loss, _ = stochastic_prediction(error, torch.zeros_like(error), kl, kl_weight=0.1)
    assert loss.item() == pytest.approx((error.square().mean() + 0.1 * kl.mean()).item(), rel=1e-5)


def test_relations_ignore_rotation_and_scale_and_see_the_rest():
    tokens = draw(2, 3, 4, 6).detach()
    rotation = torch.linalg.qr(torch.randn(8, 6, generator=torch.Generator().manual_seed(1)))[0]
    loss, _ = relation_distillation(tokens, 5.0 * tokens @ rotation.T, margin=0.0)
    assert loss.item() == pytest.approx(0.0, abs=1e-5)
    moved = tokens.clone()
    moved[:, 1] = tokens[:, 1] @ torch.linalg.qr(rotation[:6])[0]  # a frame turned in itself: its own relations stay
    _, parts = relation_distillation(moved, tokens, margin=0.0)
    assert parts["spatial"].item() == pytest.approx(0.0, abs=1e-5) and parts["temporal"].item() > 0.05
    wide, _ = relation_distillation(moved, tokens, margin=2.0)  # no cosines are further apart
    assert wide.item() == 0.0
    with pytest.raises(VidgenError, match="resample the teacher's first"):
        relation_distillation(tokens, tokens[:, :2])
