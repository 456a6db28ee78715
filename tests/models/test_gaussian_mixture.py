"""Mixtures of Gaussians against the closed form, torch's and scikit-learn's own, and a grid."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from vidgen.models.gaussian_mixture import LOGVAR_RANGE, GaussianMixture, GaussianMixtureHead


def make_mixture(*shape: int, components: int = 5, channels: int = 3, dtype=torch.float64) -> GaussianMixture:
    g = torch.Generator().manual_seed(3)
    logits = torch.randn(*shape, components, generator=g, dtype=dtype)
    mean = 2.0 * torch.randn(*shape, components, channels, generator=g, dtype=dtype)
    logvar = 0.7 * torch.randn(*shape, components, channels, generator=g, dtype=dtype)
    return GaussianMixture(logits=logits, mean=mean, logvar=logvar)


def test_one_component_is_a_gaussian():
    mixture = make_mixture(2, 4, components=1)
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    var = mixture.logvar[:, :, 0].exp()
    closed = 0.5 * ((x - mixture.mean[:, :, 0]) ** 2 / var + torch.log(2 * math.pi * var)).sum(-1)
    assert torch.allclose(mixture.nll(x), closed, atol=1e-12)
    assert torch.equal(mixture.average(), mixture.mean[:, :, 0])
    assert torch.allclose(mixture.mode(), mixture.mean[:, :, 0], atol=1e-12)


def test_likelihood_is_that_of_torch():
    mixture = make_mixture(2, 4)
    normals = Independent(Normal(mixture.mean, torch.exp(0.5 * mixture.logvar)), 1)
    peer = MixtureSameFamily(Categorical(logits=mixture.logits), normals)
    x = 3.0 * torch.randn(2, 4, 3, dtype=torch.float64)
    assert torch.allclose(mixture.log_prob(x), peer.log_prob(x), atol=1e-12)
    assert torch.allclose(mixture.average(), peer.mean, atol=1e-12)


def test_likelihood_is_that_of_an_em_fit_and_gradients_get_as_far():
    from sklearn.mixture import GaussianMixture as Peer

    rng = np.random.default_rng(0)
    centres, spreads = np.array([[-3.0, 0.0], [2.0, 2.0], [2.0, -3.0]]), np.array([[0.5, 1.0], [1.0, 0.4], [0.8, 0.8]])
    part = rng.choice(3, size=600, p=[0.5, 0.3, 0.2])
    data = centres[part] + spreads[part] * rng.normal(size=(600, 2))
    peer = Peer(3, covariance_type="diag", random_state=0).fit(data)
    mixture = GaussianMixture(
        logits=torch.from_numpy(np.log(peer.weights_)),
        mean=torch.from_numpy(peer.means_),
        logvar=torch.from_numpy(np.log(peer.covariances_)),
    )
    x = torch.from_numpy(data)
    assert mixture.nll(x).mean().item() == pytest.approx(-peer.score(data), abs=1e-9)
    assert np.allclose(mixture.component_log_prob(x).softmax(-1), peer.predict_proba(data), atol=1e-9)

    torch.manual_seed(0)
    head = GaussianMixtureHead(1, 2, components=3).double()
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(300):
        loss = head(torch.ones(1, 1, dtype=torch.float64)).nll(x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < -peer.score(data) + 0.01


def test_draws_have_the_moments_of_the_mixture():
    one = make_mixture(1, channels=2)
    many = GaussianMixture(**{name: v.expand(40000, *v.shape[1:]) for name, v in vars(one).items()})
    x = many.sample(torch.Generator().manual_seed(0))
    weight = one.logits.softmax(-1)[0, :, None]
    mean = one.average()[0]
    variance = (weight * (one.logvar[0].exp() + one.mean[0] ** 2)).sum(0) - mean**2
    assert torch.allclose(x.mean(0), mean, atol=0.05) and torch.allclose(x.var(0), variance, rtol=0.05)
    shares = many.component_log_prob(x).softmax(-1).mean(0)  # E[p(k | x)] = pi_k
    assert torch.allclose(shares, weight[:, 0], atol=0.01)


def test_draws_are_functions_of_the_generator():
    mixture = make_mixture(2, 4, dtype=torch.float32)
    first, again, other = (mixture.sample(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_component_without_weight_is_never_drawn():
    logits = torch.tensor([[-200.0, 0.0, -200.0, 1.0, -200.0]]).expand(2000, 5)
    mean = torch.arange(5.0)[None, :, None].expand(2000, 5, 1)
    mixture = GaussianMixture(logits=logits, mean=mean, logvar=torch.full_like(mean, -14.0))
    x = mixture.sample(torch.Generator().manual_seed(0))
    assert set(x.round().flatten().tolist()) == {1.0, 3.0}


def test_mode_is_the_highest_point_of_a_grid():
    # Two overlapping components make one hill together that is higher than the heavier one on its own.
    mixture = GaussianMixture(
        logits=torch.tensor([0.4, 0.28, 0.32], dtype=torch.float64).log()[None],
        mean=torch.tensor([[[-3.0, 0.0], [2.0, 1.0], [2.6, 0.6]]], dtype=torch.float64),
        logvar=torch.zeros(1, 3, 2, dtype=torch.float64),
    )
    axis = torch.linspace(-5, 5, 501, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).flatten(0, 1)
    best = grid[mixture.log_prob(grid).argmax()]
    found = mixture.mode()
    assert torch.allclose(found[0], best, atol=0.02)
    assert mixture.log_prob(found).item() >= mixture.log_prob(best[None]).item()
    assert (mixture.log_prob(found) > mixture.log_prob(mixture.mean[0])).all()


def test_head_stays_in_float32_under_autocast():
    torch.manual_seed(0)
    head = GaussianMixtureHead(8, 4, components=3)
    hidden = torch.randn(2, 5, 8)
    plain = head(hidden)
    assert [tuple(v.shape) for v in vars(plain).values()] == [(2, 5, 3), (2, 5, 3, 4), (2, 5, 3, 4)]
    with torch.autocast("cpu", torch.bfloat16):
        inside = head(hidden)
        loss = inside.nll(torch.randn(2, 5, 4, dtype=torch.bfloat16))
    assert all(torch.equal(a, b) for a, b in zip(vars(plain).values(), vars(inside).values(), strict=True))
    assert loss.dtype == torch.float32 and loss.shape == (2, 5)
    loss.mean().backward()
    assert head.out.weight.grad.abs().sum() > 0


def test_variances_cannot_vanish_nor_sizes():
    head = GaussianMixtureHead(2, 1, components=2)
    with torch.no_grad():
        head.out.bias.fill_(-1e6)
    assert head(torch.zeros(1, 1, 2)).logvar.min() == LOGVAR_RANGE[0]
    with pytest.raises(ValueError, match="components=0"):
        GaussianMixtureHead(2, 1, components=0)
