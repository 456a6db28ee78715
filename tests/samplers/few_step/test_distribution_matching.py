"""Distribution matching with denoisers that are known: the student ends at the data's law, from its own clips alone."""

import pytest
import torch
from torch import nn

from vidgen.diffusion.noise import draw_normal
from vidgen.diffusion.paths import FlowPath, expand_level
from vidgen.samplers.evaluation.closed_forms import GaussianData, MixtureData, moments_of
from vidgen.samplers.few_step.distribution_matching import draw_steps, matching_loss, roll_out

FLOW = FlowPath()


def clips(x: torch.Tensor) -> torch.Tensor:
    """Numbers as clips of one cell."""
    return x.view(-1, 1, 1, 1, 1)


def empirical_denoiser(samples: torch.Tensor):
    """Return E[x0 | x_t] where x0 is one of the samples: what a critic of them would learn."""
    samples = samples.detach().flatten()

    def denoise(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        level = expand_level(t, x)
        alpha, sigma = FLOW.alpha(level), FLOW.sigma(level)
        scores = -0.5 * ((x[..., None] - alpha[..., None] * samples) / sigma[..., None]) ** 2
        return (scores.softmax(-1) * samples).sum(-1)

    return denoise


def test_the_loss_has_the_difference_of_the_estimates_for_a_gradient():
    g = torch.Generator().manual_seed(0)
    x0 = draw_normal((4, 2, 3, 2, 2), g).double().requires_grad_(True)
    eps, t = draw_normal(x0.shape, g).double(), torch.linspace(0.2, 0.8, 4, dtype=torch.float64)
    real, critic = GaussianData().denoiser(FLOW), GaussianData(mean=1.0).denoiser(FLOW)
    matching_loss(x0, real, critic, t, eps, FLOW).sum().backward()
    x = FLOW.alpha(expand_level(t, x0)) * x0.detach() + FLOW.sigma(expand_level(t, x0)) * eps
    size = (x0.detach() - real(x, t)).abs().flatten(1).mean(1).view(-1, 1, 1, 1, 1)
    torch.testing.assert_close(x0.grad, (critic(x, t) - real(x, t)) / size / x0[0].numel())
    same = x0.detach().requires_grad_(True)
    matching_loss(same, real, real, t, eps, FLOW).sum().backward()
    assert not same.grad.any()


def test_a_one_step_student_of_a_gaussian_is_the_exact_affine_map():
    data, g = GaussianData(mean=0.4, std=0.6), torch.Generator().manual_seed(0)
    scale, shift = nn.Parameter(torch.tensor(1.5)), nn.Parameter(torch.tensor(-0.5))
    optimizer = torch.optim.Adam([scale, shift], lr=0.02)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 0.02 * (1.0 - step / 400)
        noise = clips(draw_normal((512,), g))
        x0 = roll_out(lambda x, t: scale * x + shift, noise, torch.tensor([1.0, 0.0]), FLOW, steps=1)
        critic = GaussianData(mean=shift.item(), std=scale.item()).denoiser(FLOW)
        t = torch.rand(512, generator=g) * 0.96 + 0.02
        loss = matching_loss(x0, data.denoiser(FLOW), critic, t, draw_normal(x0.shape, g), FLOW).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    one = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
    start, end = torch.tensor(1.0, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
    at_one, at_zero = (float(data.carry(value * one, start, end, FLOW)) for value in (1.0, 0.0))
    assert float(shift) == pytest.approx(at_zero, abs=0.02)
    assert abs(float(scale)) == pytest.approx(at_one - at_zero, abs=0.02)


def train_student(seed: int) -> torch.Tensor:
    """Draws of a one-step student of a mixture, after 600 steps against the exact critic of its own samples."""
    data, g = MixtureData(), torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(1, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1))

    def student(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return clips(network(x.view(-1, 1)))

    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for step in range(600):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1.0 - step / 600)
        x0 = roll_out(student, clips(draw_normal((128,), g)), torch.tensor([1.0, 0.0]), FLOW, steps=1)
        with torch.no_grad():
            others = student(clips(draw_normal((512,), g)), torch.ones(()))
        t = torch.rand(128, generator=g) * 0.78 + 0.2  # below, few of the critic's samples count
        loss = matching_loss(x0, data.denoiser(FLOW), empirical_denoiser(others), t, draw_normal(x0.shape, g), FLOW)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    with torch.no_grad():
        return student(clips(draw_normal((20000,), g)), torch.ones(())).double()


@pytest.mark.slow
def test_one_step_students_reach_the_moments_of_a_mixture():
    """How much of each mode is made is the least certain: from student to student the mean differs by some 0.05 and the
    cube root of the third moment by 0.15, so the mean of four is held."""
    drawn = torch.tensor([moments_of(train_student(seed)) for seed in range(4)]).mean(0)
    for moment, expected, tolerance in zip(drawn.tolist(), MixtureData().moments(), (0.1, 0.1, 0.3), strict=True):
        assert moment == pytest.approx(expected, abs=tolerance)


def test_a_student_meets_its_own_clips_and_never_the_data():
    """What is wrong with the first step comes back in the second: noised data would hide it."""
    g = torch.Generator().manual_seed(0)
    times, inputs = torch.tensor([1.0, 0.5, 0.25, 0.0]), []

    def student(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        inputs.append(x)
        return torch.full_like(x, 7.0) + 0.0 * x + weight * float(t)

    weight = nn.Parameter(torch.tensor(2.0))
    noise = clips(draw_normal((4096,), g))
    out = roll_out(student, noise, times, FLOW, steps=3, generator=g)
    torch.testing.assert_close(inputs[0], noise)
    for x, level, before in [(inputs[1], 0.5, 1.0), (inputs[2], 0.25, 0.5)]:
        assert float(x.detach().mean()) == pytest.approx((1.0 - level) * (7.0 + 2.0 * before), abs=0.05)
        assert float(x.detach().std()) == pytest.approx(level, abs=0.02)
    assert not inputs[2].requires_grad  # gradients go through the last step alone
    out.mean().backward()
    assert float(weight.grad) == pytest.approx(0.25)


def test_any_step_is_trained():
    g = torch.Generator().manual_seed(0)
    counts = torch.bincount(torch.tensor([draw_steps(4, g) for _ in range(400)]), minlength=5)
    assert counts[0] == 0 and counts[1:].min() > 70
