"""Objectives of two branches: closed forms, the exact Gaussian statistic, and lightly's numbers where it is there."""

import pytest
import torch
import torch.nn.functional as F

from vidgen.errors import VidgenError
from vidgen.train.objectives.siamese import (
    barlow_twins,
    cosine_regression,
    covariance_term,
    epps_pulley,
    sigreg,
    variance_term,
    vicreg,
)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def test_byol_is_the_distance_of_unit_vectors_and_twice_simsiam():
    p, z = draw(5, 4), draw(5, 4, seed=1)
    loss, parts = cosine_regression(p, z)
    distance = (F.normalize(p, dim=1) - F.normalize(z, dim=1)).square().sum(1).mean()
    simsiam = -F.cosine_similarity(p, z.detach()).mean()
    assert loss.item() == pytest.approx(distance.item(), rel=1e-5)
    assert parts["cosine"].item() == pytest.approx(-simsiam.item(), rel=1e-6)
    assert torch.allclose(torch.autograd.grad(loss, p)[0], 2 * torch.autograd.grad(simsiam, p)[0], atol=1e-7)
    with pytest.raises(RuntimeError):  # the target's branch gets no gradient
        torch.autograd.grad(cosine_regression(p.detach(), z)[0], z)


def test_barlow_of_equal_decorrelated_views_is_nothing():
    z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert barlow_twins(z, z, eps=0.0)[0].item() == pytest.approx(0.0, abs=1e-6)
    assert barlow_twins(z, -z, eps=0.0)[0].item() == pytest.approx(2 * (1 + 1) ** 2)
    same = z[:, :1].expand(4, 2)  # both channels say the same: C is all ones
    assert barlow_twins(same, same, off_diagonal=0.5, eps=0.0)[0].item() == pytest.approx(0.5 * 2)


def test_vicreg_is_its_three_parts():
    a, b = draw(8, 5), draw(8, 5, seed=1)
    loss, parts = vicreg(a, b, invariance=3.0, variance=5.0, covariance=7.0)
    assert parts["invariance"].item() == pytest.approx((a - b).square().mean().item(), rel=1e-5)
    assert parts["variance"].item() == pytest.approx((variance_term(a) + variance_term(b)).item() / 2, rel=1e-5)
    cov = torch.cov(a.T)
    off = (cov.square().sum() - cov.diagonal().square().sum()) / 5
    assert covariance_term(a).item() == pytest.approx(off.item(), rel=1e-4)
    weighted = 3.0 * parts["invariance"] + 5.0 * parts["variance"] + 7.0 * parts["covariance"]
    assert loss.item() == pytest.approx(weighted.item(), rel=1e-6)
    assert variance_term(torch.zeros(4, 3)).item() == pytest.approx(1 - 0.01)


def test_sigreg_is_the_exact_statistic_of_its_directions():
    z = draw(40, 6).detach()
    loss, _ = sigreg(z, generator=torch.Generator().manual_seed(3), directions=64)
    axes = F.normalize(torch.randn(6, 64, generator=torch.Generator().manual_seed(3)), dim=0)
    assert loss.item() == pytest.approx(epps_pulley(z.double() @ axes.double()).mean().item(), rel=1e-3)


def test_sigreg_is_least_for_a_standard_normal_law():
    z = draw(2000, 8).detach()
    laws = {"normal": z, "collapsed": 0.01 * z, "wide": 3 * z, "flat": z * torch.tensor([1.0] * 4 + [0.0] * 4),
            "moved": z + 0.5}  # fmt: skip
    losses = {name: sigreg(x, generator=torch.Generator().manual_seed(0))[0].item() for name, x in laws.items()}
    assert all(losses["normal"] * 10 < loss for name, loss in losses.items() if name != "normal")


@pytest.mark.parametrize("call", [lambda z: barlow_twins(z, z), lambda z: vicreg(z, z),
                                  lambda z: sigreg(z, generator=torch.Generator())])  # fmt: skip
def test_one_row_has_no_variance(call):
    with pytest.raises(VidgenError, match="a batch of 1 row has no variance"):
        call(torch.ones(1, 4))


def same(ours, theirs, *inputs):
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6, abs=1e-6)
    for x in inputs:
        grads = (torch.autograd.grad(loss, x, retain_graph=True)[0] for loss in (ours, theirs))
        assert torch.allclose(*grads, atol=1e-6)


def test_lightly_has_the_same_numbers():
    losses = pytest.importorskip("lightly.loss", reason="lightly is not installed")
    a, b = draw(8, 5), draw(8, 5, seed=1)
    same(barlow_twins(a, b)[0], losses.BarlowTwinsLoss()(a, b), a, b)
    same(vicreg(a, b)[0], losses.VICRegLoss()(a, b), a, b)
    lejepa = pytest.importorskip("lightly.loss.lejepa_loss", reason="this lightly has no SIGReg")
    torch.manual_seed(0)
    theirs = lejepa.SIGReg(t_max=5.0, num_vectors=32)(a)
    same(sigreg(a, generator=torch.Generator().manual_seed(0), directions=32)[0], theirs, a)
