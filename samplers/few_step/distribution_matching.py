"""Distribution matching: a student's clips are moved to where the teacher finds them more probable than a critic does.

The critic is a denoiser of the student's own clips, trained beside it. Where both say the same of noised clips, the
student's distribution is the data's (Yin et al. 2024, DMD, eq. 4; DMD2 leaves the regression to the teacher's clips
out).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.noise import Generators, draw_like
from vidgen.diffusion.paths import ProbabilityPath, add_noise
from vidgen.interfaces import Denoiser
from vidgen.samplers.solvers.stepping import Clip


def roll_out(
    student: Denoiser,
    noise: Clip,
    times: Float[Tensor, " n_plus_1"],
    path: ProbabilityPath,
    *,
    steps: int,
    generator: Generators | None = None,
) -> Clip:
    """Return the student's x0 after `steps` of its own steps from noise, with gradients through the last one alone.

    A student is trained on what it meets in generation, its own clips of the step before, and never on noised data
    (DMD2, Yin et al. 2024, section 4.5; Self-Forcing, Huang et al. 2025, algorithm 1).

    Args:
        student: The denoiser that is trained.
        noise: Standard normal.
        times: The levels of its steps; the first is the noisiest.
        path: That of the student.
        steps: From 1 to len(times) - 1.
        generator: Of the noise that is added between steps.
    """
    x = path.sigma(times[0]).to(noise) * noise
    with torch.no_grad():
        for level, after in zip(times[: steps - 1], times[1:steps], strict=True):
            x0 = student(x, level)
            x = add_noise(x0, draw_like(x0, generator), after, path)
    return student(x, times[steps - 1])


def matching_loss(
    x0: Clip, real: Denoiser, critic: Denoiser, t: Tensor, eps: Clip, path: ProbabilityPath
) -> Float[Tensor, " b"]:
    """Return a loss whose gradient with respect to the student's clips x0 is the difference of the two estimates.

    g = (critic(x_t) - real(x_t)) / mean |x0 - real(x_t)| (DMD, eq. 7 and 8), and the loss 1/2 |x0 - (x0 - g)|^2 with
    what is in brackets held.

    Args:
        x0: The student's clips, with gradients.
        real: The teacher, guided if the student is to be.
        critic: The denoiser of the student's clips.
        t: Levels at which both look, (b,) or one a frame.
        eps: The noise for that.
        path: That of all three.
    """
    with torch.no_grad():
        x = add_noise(x0, eps, t, path)
        estimate = real(x, t)
        size = (x0 - estimate).abs().flatten(1).mean(1).clamp(min=1e-6)
        gradient = (critic(x, t) - estimate) / size[:, None, None, None, None]
        target = x0 - gradient
    return 0.5 * (x0 - target).square().flatten(1).mean(1)


def draw_steps(count: int, generator: torch.Generator) -> int:
    """Draw after how many steps of a rollout the student is trained: any of them, equally often."""
    return int(torch.randint(1, count + 1, (), generator=generator))
