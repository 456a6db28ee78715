"""Stochastic solvers: noise from one stream a sample reaches the distribution, and without it they are their ODE's."""

import pytest
import torch

from vidgen.diffusion.noise import TimeDistribution, sample_generator
from vidgen.diffusion.paths import PATHS, FlowPath
from vidgen.samplers.evaluation.closed_forms import GaussianData, MixtureData
from vidgen.samplers.solvers import SAMPLERS, SamplingError, find_solver

schedule = TimeDistribution().steps

DATA, PATH = GaussianData(), FlowPath()
STOCHASTIC = [name for name, solver in SAMPLERS.items() if solver.stochastic]
IDEAL = DATA.denoiser(PATH)


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("name", STOCHASTIC)
def test_two_samples_of_a_mixture_are_not_told_apart(name, kind):
    # Kolmogorov & Smirnov: against draws of the mixture itself, at 3,000 numbers each
    from scipy.stats import ks_2samp

    data, path = MixtureData(), PATHS[kind]()
    x = torch.randn(3, 1, 10, 10, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    times = torch.linspace(1, 0, 201, dtype=torch.float64)
    start = torch.hypot(path.alpha(times[0]), path.sigma(times[0])) * x
    out = SAMPLERS[name](data.denoiser(path), start, times, path, generator=[sample_generator(0, k) for k in range(3)])
    drawn = data.draw(3000, torch.Generator().manual_seed(2))
    assert ks_2samp(out.flatten().numpy(), drawn.numpy()).pvalue > 0.01
    assert ks_2samp(out.flatten().numpy() + 0.15, drawn.numpy()).pvalue < 0.01  # the test does see a difference


@pytest.mark.parametrize(("name", "ode"), [("euler_ancestral", "euler"), ("dpmpp_2m_sde", "dpmpp_2m")])
def test_without_noise_they_are_their_ode_solver(name, ode):
    x = torch.randn(2, 3, 4, 2, 2, dtype=torch.float64)
    assert torch.allclose(
        SAMPLERS[name](IDEAL, x, schedule(9), PATH, eta=0.0),
        SAMPLERS[ode](IDEAL, x, schedule(9), PATH),
        atol=1e-12,
    )


def test_an_exact_student_is_sampled_in_any_number_of_steps():
    """Its x0 has the data's law at every level, so that noise and student in turn change nothing."""
    consistency = find_solver("consistency")

    def student(x, t):
        return DATA.carry(x, t, torch.zeros_like(t), PATH)

    x = torch.randn(4, 1, 20, 20, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for steps in (1, 2, 4):
        generators = [sample_generator(0, k) for k in range(4)]
        out = consistency(student, x, schedule(steps), PATH, generator=generators)
        assert abs(out.mean() - DATA.mean) < 0.02 and abs(out.std() - DATA.std) < 0.02
    wrong = consistency(IDEAL, x, schedule(4), PATH, generator=generators)  # a mean of many clips has no variance
    assert wrong.std() < 0.75 * DATA.std
    plain = consistency(student, x, schedule(4), PATH, eta=0.0)
    torch.testing.assert_close(plain, SAMPLERS["euler"](student, x, schedule(4), PATH))


def test_ancestral_steps_are_draws_of_the_posterior():
    # Ho et al. 2020, eq. 7: mean and variance of q(x_s | x_t, x0) by Bayes' rule on the path
    t, s, x = torch.tensor(0.7, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64), torch.tensor(0.9)
    alpha_t, sigma_t, alpha_s, sigma_s = PATH.alpha(t), PATH.sigma(t), PATH.alpha(s), PATH.sigma(s)
    a = alpha_t / alpha_s
    left = sigma_t**2 - a**2 * sigma_s**2  # variance of x_t given x_s
    x0 = IDEAL(x.double().expand(1, 1, 1, 1, 1), t).squeeze()
    variance = 1.0 / (a**2 / left + 1.0 / sigma_s**2)
    mean = variance * (a * x / left + alpha_s * x0 / sigma_s**2)
    start = x.double().expand(1, 1, 1, 1, 1)
    out = [
        SAMPLERS["euler_ancestral"](
            IDEAL, start, torch.stack([t, s]), PATH, noise_sampler=lambda like, z=z: torch.full_like(like, z)
        ).item()
        for z in (0.0, 1.0)
    ]
    assert out[0] == pytest.approx(mean.item()) and out[1] - out[0] == pytest.approx(variance.sqrt().item())


@pytest.mark.parametrize("name", STOCHASTIC)
def test_levels_must_fall(name):
    with pytest.raises(ValueError, match="levels must not grow"):
        SAMPLERS[name](IDEAL, torch.zeros(1, 1, 1, 1, 1), schedule(4).flip(0)[1:], PATH)


def test_rk45_says_when_it_cannot_reach_its_tolerance():
    def jumping(x, t):
        return torch.sign(x - 0.3) * torch.sign((40.0 * t.reshape(-1, 1, 1, 1, 1)).sin()).to(x)

    x = torch.randn(1, 2, 2, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for limits in ({"rtol": 1e-12, "atol": 1e-12, "most_evaluations": 400}, {"rtol": 1e-14, "atol": 1e-14}):
        with pytest.raises(SamplingError, match="raise rtol and atol") as stop:
            SAMPLERS["rk45"](jumping, x, schedule(4), PATH, **limits)
        assert stop.value.latents.shape == x.shape and torch.isfinite(stop.value.latents).all()
