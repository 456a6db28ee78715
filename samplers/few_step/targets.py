"""Targets of distillation: the x0 that a student is to say at (x_t, t), made of a teacher's estimates.

They hold on any path and have no gradients: a student's loss is its distance to them. Guidance is distilled by a guided
teacher (Meng et al. 2023): one pass of the student then stands for two.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidgen.diffusion.paths import ProbabilityPath, expand_level
from vidgen.interfaces import Denoiser
from vidgen.samplers.solvers.stepping import Clip, noise_of, transfer


@torch.no_grad()
def progressive_target(teacher: Denoiser, x: Clip, t: Tensor, middle: Tensor, s: Tensor, path: ProbabilityPath) -> Clip:
    """Return the x0 whose one step from t to s ends where two of the teacher's do, by way of `middle`.

    Progressive distillation (Salimans & Ho 2022, eq. 40), x0 = (x_s - r x_t) / (alpha_s - r alpha_t) with
    r = sigma_s / sigma_t.

    Args:
        teacher: The denoiser of twice the steps.
        x: Clips at level t.
        t: The level that the step begins at, (b,) or one a frame.
        middle: The level between.
        s: The level that it ends at, below t.
        path: That of both.
    """
    half = transfer(x, teacher(x, t), t, middle, path)
    end = transfer(half, teacher(half, middle), middle, s, path)
    start, stop = expand_level(t, x), expand_level(s, x)
    ratio = path.sigma(stop) / path.sigma(start)
    return (end - ratio * x) / (path.alpha(stop) - ratio * path.alpha(start))


@torch.no_grad()
def consistency_target(
    average: Denoiser, teacher: Denoiser, x: Clip, t: Tensor, s: Tensor, path: ProbabilityPath
) -> Clip:
    """Return what the student's average says after the teacher's step from t to s.

    Consistency distillation (Song et al. 2023, eq. 7; latent clips: LCM, Luo et al. 2023, eq. 14). The condition at
    level 0, f(x, 0) = x, is that of every denoiser whose network predicts a velocity or noise.

    Args:
        average: The student with averaged weights.
        teacher: The denoiser that makes the step, guided if the student is to be.
        x: Clips at level t.
        t: The level that the step begins at.
        s: The level that it ends at, below t.
        path: That of both.
    """
    end = transfer(x, teacher(x, t), t, s, path)
    return average(end, s)


def velocity(x: Clip, x0: Clip, t: Tensor, path: ProbabilityPath) -> Clip:
    """Return dx/dt of the probability flow at (x, t), where a denoiser says x0: alpha'(t) x0 + sigma'(t) eps."""
    eps = noise_of(x, x0, t, path)
    level = expand_level(t, x).double()

    def coefficients(level: Tensor) -> tuple[Tensor, Tensor]:
        return path.alpha(level), path.sigma(level)

    (d_alpha, d_sigma) = torch.func.jvp(coefficients, (level,), (torch.ones_like(level),))[1]
    return d_alpha.to(x) * x0 + d_sigma.to(x) * eps


def consistency_tangent(
    student: Denoiser, teacher: Denoiser, x: Clip, t: Tensor, path: ProbabilityPath
) -> tuple[Clip, Clip]:
    """Return the student's x0, and its derivative with t along the teacher's flow, which is 0 for what is wanted.

    Raises RuntimeError for a student that torch.func cannot differentiate forward.
    """
    direction = velocity(x, teacher(x, t), t, path)
    return torch.func.jvp(student, (x, t), (direction, torch.ones_like(t)))


@torch.no_grad()
def continuous_consistency_target(
    student: Denoiser, teacher: Denoiser, x: Clip, t: Tensor, path: ProbabilityPath, *, limit: float = 0.1
) -> Clip:
    """Return the student's x0 less its tangent g: consistency in continuous time (Lu & Song 2024, sCM, eq. 8).

    The tangent is normalized to g / (|g| + limit), |g| being the root mean square of a clip (the same, section 4.2).

    Args:
        student: Differentiable forward by torch.func.
        teacher: The denoiser whose flow is followed, guided if the student is to be.
        x: Clips at level t.
        t: Their levels, (b,) or one a frame.
        path: That of both.
        limit: What keeps a small tangent small.
    """
    x0, tangent = consistency_tangent(student, teacher, x, t, path)
    size = tangent.square().flatten(1).mean(1).sqrt()
    return x0 - tangent / (expand_level(size, x) + limit)
