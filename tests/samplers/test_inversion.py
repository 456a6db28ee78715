"""The flow backwards: the noise of Gaussian data is known, and so is how probable it is."""

import pytest
import torch

from vidgen.diffusion.noise import TimeDistribution
from vidgen.diffusion.paths import PATHS, FlowPath
from vidgen.samplers.evaluation.closed_forms import GaussianData
from vidgen.samplers.inversion import invert, log_likelihood
from vidgen.samplers.solvers import SAMPLERS

schedule = TimeDistribution().steps

DATA = GaussianData()
ENDS = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)


def clips(seed=0):
    noise = torch.randn(2, 2, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return DATA.mean + DATA.std * noise, noise


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("name", [name for name in SAMPLERS if not SAMPLERS[name].stochastic])
def test_inversion_finds_the_noise(kind, name):
    path, (x, noise) = PATHS[kind](), clips()
    mean, std = DATA.marginal(ENDS[0], path)
    steps = 100 if name == "euler" else 40
    found = invert(DATA.denoiser(path), x, schedule(steps), path, sampler=name)
    off = ((found - mean) / std - noise).abs().max()
    assert off < (3e-3 if name in ("midpoint", "rk4", "rk45") else 0.25)


def test_there_and_back_again():
    path, (x, _) = FlowPath(), clips()
    denoise, errors = DATA.denoiser(path), []
    for n in (20, 40):
        noise = invert(denoise, x, schedule(n), path, sampler="heun")
        errors.append((SAMPLERS["heun"](denoise, noise, schedule(n), path) - x).abs().max().item())
    assert errors[1] < errors[0] / 2 and errors[1] < 0.01


def test_inversion_by_drawing_noise_is_refused():
    with pytest.raises(ValueError, match="inversion by 'euler_ancestral': choose one of euler, heun"):
        invert(DATA.denoiser(FlowPath()), clips()[0], schedule(4), FlowPath(), sampler="euler_ancestral")


@pytest.mark.parametrize("kind", PATHS)
def test_likelihood_of_gaussian_data_is_exact(kind):
    path, (x, _) = PATHS[kind](), clips()
    found = log_likelihood(DATA.denoiser(path), x, schedule(25), path, generator=torch.Generator().manual_seed(0))
    # at the end of the EDM path the data's mean is not quite gone: 0.4 / 80 in each of 24 numbers
    assert torch.allclose(found, DATA.log_density(x), atol=0.05 if kind == "edm" else 2e-3)
    # whatever the probes: the Jacobian is diagonal
    other = log_likelihood(DATA.denoiser(path), x, schedule(25), path, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(found, other, atol=1e-9)


def test_likelihood_with_dependent_numbers_is_unbiased():
    # Four channels with covariance Q: the denoiser is a matrix, of which Hutchinson's estimate sees the trace only in
    # the mean over probes.
    path = FlowPath()
    root = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.4
    covariance = root @ root.T + 0.2 * torch.eye(4, dtype=torch.float64)

    def denoise(x, t):
        alpha, sigma = path.alpha(t), path.sigma(t)
        gain = (
            alpha * covariance @ torch.linalg.inv(alpha**2 * covariance + sigma**2 * torch.eye(4, dtype=torch.float64))
        )
        return torch.einsum("dc,bcthw->bdthw", gain, x)

    x = torch.randn(1, 4, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 0.5
    truth = torch.distributions.MultivariateNormal(torch.zeros(4, dtype=torch.float64), covariance)
    rows = x.expand(512, -1, -1, -1, -1)  # 512 estimates of one clip
    found = log_likelihood(denoise, rows, schedule(20), path, generator=torch.Generator().manual_seed(3))
    interval = 4.0 * found.std() / 512**0.5
    assert found.std() > 0.05 and abs(found.mean() - truth.log_prob(x.flatten())) < interval + 5e-3
    fewer = log_likelihood(denoise, rows[:64], schedule(20), path, generator=torch.Generator().manual_seed(4), probes=8)
    assert fewer.std() < 0.6 * found.std()
