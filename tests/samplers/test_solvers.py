"""For Gaussian data the ideal denoiser is known and the ODE has a closed solution: each solver's order is measured."""

import math

import pytest
import torch

from vidgen.denoiser import make_denoiser
from vidgen.errors import VidgenError
from vidgen.noise import TimeDistribution
from vidgen.paths import PARAMETRISATIONS, FlowPath, add_noise, expand_level
from vidgen.samplers.guidance import cfg
from vidgen.samplers.schedules import schedule
from vidgen.samplers.solvers import SAMPLERS

MEAN, STD, PATH = 0.4, 0.6, FlowPath()
ORDER = {"euler": 1, "heun": 2}


def ideal(x, t):
    """E[x0 | x_t] for x0 ~ N(MEAN, STD^2)."""
    level = expand_level(t, x)
    alpha, sigma = PATH.alpha(level), PATH.sigma(level)
    gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
    return MEAN + gain * (x - alpha * MEAN)


def exact(noise):
    """Where the probability-flow ODE carries noise x_1: quantiles are kept, so x_0 = MEAN + STD x_1."""
    return MEAN + STD * noise


@pytest.fixture
def noise():
    return torch.randn(2, 3, 4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SAMPLERS)
def test_order_of_convergence(name, noise):
    errors = [
        (SAMPLERS[name](ideal, noise, schedule(n), PATH) - exact(noise)).abs().max().item() for n in (16, 32, 64, 128)
    ]
    slopes = [math.log2(a / b) for a, b in zip(errors[:-1], errors[1:], strict=True)]
    assert errors[-1] < 0.03
    assert all(slope > ORDER[name] - 0.25 for slope in slopes), (slopes, errors)
    assert slopes[-1] < ORDER[name] + 0.5, "a higher order than claimed: the table of orders is wrong"


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_parametrisation_gives_the_same_clip(name, noise):
    clips = []
    for kind, parametrisation in PARAMETRISATIONS.items():

        def network(x, t, kind=parametrisation):
            level = expand_level(t, x)
            alpha, sigma = PATH.alpha(level), PATH.sigma(level)
            x0 = ideal(x, t)
            return kind.target(x0, (x - alpha * x0) / sigma, alpha, sigma)

        times = schedule(8) * 0.98  # eps says nothing of x0 at t = 1, where alpha is 0
        clips.append(SAMPLERS[name](make_denoiser(network, PATH, kind), noise, times, PATH))
    assert all(torch.allclose(clip, clips[0], atol=1e-9) for clip in clips)


@pytest.mark.parametrize("kind", PARAMETRISATIONS)
def test_parametrisation_round_trip(kind, noise):
    eps, t = torch.randn_like(noise), torch.tensor([0.3, 0.8], dtype=torch.float64)
    level, parametrisation = expand_level(t, noise), PARAMETRISATIONS[kind]
    alpha, sigma = PATH.alpha(level), PATH.sigma(level)
    target = parametrisation.target(noise, eps, alpha, sigma)
    back = parametrisation.to_x0(target, add_noise(noise, eps, t, PATH), alpha, sigma)
    assert torch.allclose(back, noise, atol=1e-12)


@pytest.mark.parametrize("name", SAMPLERS)
def test_input_is_not_written_to_and_callback_sees_every_step(name, noise):
    before, steps = noise.clone(), []
    SAMPLERS[name](ideal, noise, schedule(5), PATH, callback=lambda i, x, x0: steps.append(i))
    assert torch.equal(noise, before) and steps == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", SAMPLERS)
def test_levels_per_frame(name, noise):
    times = schedule(6)[:, None, None].expand(-1, 2, 4)
    assert torch.allclose(SAMPLERS[name](ideal, noise, times, PATH), SAMPLERS[name](ideal, noise, schedule(6), PATH))
    clean = times.clone()
    clean[:, :, 0] = 0.0  # a frame that is given stays as it is
    out = SAMPLERS[name](ideal, noise, clean, PATH)
    assert torch.equal(out[:, :, 0], noise[:, :, 0])
    plain = SAMPLERS[name](ideal, noise, schedule(6), PATH)
    assert torch.allclose(out[:, :, 1:], plain[:, :, 1:])  # and the others keep their solver's order beside it


def test_nan_stops_with_the_step(noise):
    with pytest.raises(VidgenError, match="step 1 of 3"):
        SAMPLERS["euler"](lambda x, t: x * float("nan"), noise, schedule(3), PATH)


def test_guidance_is_linear_and_one_is_none(noise):
    def cond(x, t):
        return x + 1.0

    def uncond(x, t):
        return x

    assert cfg(cond, uncond, 1.0) is cond
    t = torch.tensor(0.5)
    assert torch.allclose(cfg(cond, uncond, 3.0)(noise, t), noise + 3.0)
    assert torch.allclose(cfg(cond, uncond, 3.0, interval=(0.6, 1.0))(noise, t), noise + 1.0)


def test_schedule_and_training_share_the_shift():
    time = TimeDistribution(shift=3.0)
    assert torch.equal(time.steps(10), schedule(10, shift=3.0))
    assert torch.allclose(time.quantile(torch.linspace(1, 0, 11, dtype=torch.float64)), time.steps(10))
