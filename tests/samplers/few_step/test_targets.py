"""Distillation on a Gaussian, where every student is an affine map that is known."""

import pytest
import torch

from vidgen.diffusion.paths import PATHS, FlowPath
from vidgen.samplers.evaluation.closed_forms import GaussianData, even_normal
from vidgen.samplers.few_step.targets import (
    consistency_tangent,
    consistency_target,
    continuous_consistency_target,
    progressive_target,
    velocity,
)
from vidgen.samplers.solvers import SAMPLERS

DATA = GaussianData(mean=0.4, std=0.6)
FLOW = FlowPath()
NOISE = even_normal((8, 1, 1, 4, 4))
LEVELS = torch.linspace(1.0, 0.0, 33, dtype=torch.float64)


class Affine:
    """A student a x + b with coefficients for each level; at level 0 it is the identity."""

    def __init__(self) -> None:
        self.coefficients = {0.0: (1.0, 0.0)}

    def fit(self, t: float, x: torch.Tensor, target: torch.Tensor) -> None:
        columns = torch.stack([x.flatten(), torch.ones_like(x).flatten()], dim=1)
        fitted = torch.linalg.lstsq(columns, target.flatten()).solution
        torch.testing.assert_close((columns @ fitted).view_as(target), target, atol=1e-9, rtol=0)  # it is affine
        self.coefficients[t] = tuple(fitted.tolist())

    def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        a, b = self.coefficients[float(t)]
        return a * x + b


def euler(levels: torch.Tensor) -> torch.Tensor:
    return SAMPLERS["euler"](DATA.denoiser(FLOW), NOISE, levels, FLOW)


def test_progressive_distillation_halves_the_steps_of_a_gaussian_exactly():
    teacher, levels = DATA.denoiser(FLOW), LEVELS
    while len(levels) > 2:
        student = Affine()
        for t, middle, s in zip(levels[:-2:2], levels[1:-1:2], levels[2::2], strict=True):
            student.fit(float(t), NOISE, progressive_target(teacher, NOISE, t, middle, s, FLOW))
        teacher, levels = student, levels[::2]
    one_step = SAMPLERS["euler"](teacher, NOISE, LEVELS[[0, -1]], FLOW)
    torch.testing.assert_close(one_step, euler(LEVELS), atol=1e-8, rtol=0)  # all 32 of the teacher's
    exact = DATA.carry(NOISE, LEVELS[0], LEVELS[-1], FLOW)
    assert 1e-3 < (one_step - exact).abs().max() < 0.1  # as far off as the teacher's steps are


def test_consistency_distillation_carries_a_gaussian_as_the_teacher_does():
    teacher, student = DATA.denoiser(FLOW), Affine()
    for t, s in zip(LEVELS[:-1].flip(0), LEVELS[1:].flip(0), strict=True):  # from little noise to much
        student.fit(float(t), NOISE, consistency_target(student, teacher, NOISE, t, s, FLOW))
    torch.testing.assert_close(student(NOISE, LEVELS[0]), euler(LEVELS), atol=1e-8, rtol=0)


def exact_student(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return DATA.carry(x, t, torch.zeros_like(t), FLOW)


@pytest.mark.parametrize("path", [PATHS["flow"](), PATHS["cosine"]()])
def test_velocity_is_how_the_flow_moves(path):
    t = torch.full((8,), 0.6, dtype=torch.float64)
    x, step = NOISE * 0.8, 1e-5
    moved = DATA.carry(x, t, t + step, path) - DATA.carry(x, t, t - step, path)
    found = velocity(x, DATA.denoiser(path)(x, t), t, path)
    torch.testing.assert_close(found, moved / (2.0 * step), atol=1e-8, rtol=0)


def test_the_exact_map_is_where_continuous_consistency_rests():
    t = torch.linspace(0.1, 0.9, 8, dtype=torch.float64)
    teacher = DATA.denoiser(FLOW)
    target = continuous_consistency_target(exact_student, teacher, NOISE, t, FLOW)
    torch.testing.assert_close(target, exact_student(NOISE, t), atol=1e-10, rtol=0)


def test_the_tangent_is_the_limit_of_discrete_consistency():
    """(f(x_t, t) - f(x_s, s)) / (t - s), with the teacher's step from t to s, for a student that is wrong."""

    def student(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        level = t.view(-1, 1, 1, 1, 1)
        return (1.0 - 0.7 * level) * x + level**2

    t = torch.linspace(0.2, 0.9, 8, dtype=torch.float64)
    step = 1e-6
    x0, tangent = consistency_tangent(student, DATA.denoiser(FLOW), NOISE, t, FLOW)
    after = consistency_target(student, DATA.denoiser(FLOW), NOISE, t, t - step, FLOW)
    torch.testing.assert_close((x0 - after) / step, tangent, atol=1e-4, rtol=0)
    target = continuous_consistency_target(student, DATA.denoiser(FLOW), NOISE, t, FLOW)
    assert (((x0 - target) * tangent) > 0).all()  # against the tangent
    assert (x0 - target).square().flatten(1).mean(1).sqrt().max() < 1.0  # and no longer than 1
