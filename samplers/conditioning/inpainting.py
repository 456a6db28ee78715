"""Sampling clips of which something is known: frames, parts of frames, or a clip to start from.

Known frames have noise level 0 from the first step to the last, which is how a model with a level per frame is
conditioned (Chen et al. 2024, diffusion forcing). Where only a part of a frame is known, its level cannot say so; there
the estimate x0 is replaced by what is known, in every evaluation, so that x_t carries it with the noise of that level:
the replacement method (Song et al. 2021, score SDE, section 5; Lugmayr et al. 2022, RePaint, eq. 8). It is an
approximation: the rest of the frame sees what is known only through the noise of the moment, and RePaint's jumps back
to more noise, which mend that at many times the cost, are not made. Frames that are known whole are exact. A model that
was trained for inpainting is shown the known part clean instead (`shows_known`), as in its training.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.deprecation import renamed_attributes
from vidgen.diffusion.noise import Generators
from vidgen.diffusion.paths import ProbabilityPath, add_noise, expand_level
from vidgen.errors import VidgenError
from vidgen.interfaces import Denoiser
from vidgen.samplers.conditioning.frame_conditioning import FrameConditioning
from vidgen.samplers.guidance.batched_guidance import View
from vidgen.samplers.solvers.runge_kutta import path_radius
from vidgen.samplers.solvers.stepping import Callback, Clip, Times


def levels_from(levels: Float[Tensor, " n_plus_1"], strength: float) -> Float[Tensor, " m_plus_1"]:
    """Return the sampler's levels from `strength` down: it, and those of `levels` below. All of them from 1 on."""
    if strength >= levels[0]:
        return levels
    return torch.cat([levels.new_tensor([strength]), levels[levels < strength]])


def conditioned_times(levels: Float[Tensor, " n_plus_1"], conditioning: FrameConditioning, b: int) -> Times:
    """Return `levels` for b clips, frame by frame, with known frames at the level that they are shown at.

    Where no frame is known, all frames share them.
    """
    frames = conditioning.frames.to(levels.device)
    if not bool(frames.any()):
        return levels
    times = levels[:, None].expand(-1, len(frames)).masked_fill(frames, conditioning.context_noise)
    return times[:, None].expand(-1, b, -1)


def hide_frames(
    conditioning: FrameConditioning | None, noise: Clip, level: Tensor, path: ProbabilityPath
) -> View | None:
    """Return what of (x, t) is shown to a denoiser that is to know nothing of the known frames; None if there are none.

    These are `noise` alone there, at the noisiest `level` of the run. Guidance that leads away from what such a
    denoiser says is guidance by the frames (Song et al. 2025, history-guided video diffusion, section 4: history at
    full noise stands for none).
    """
    if conditioning is None or not bool(conditioning.frames.any()):
        return None
    frames, plain = conditioning.frames.to(noise.device), path_radius(level, path).to(noise) * noise

    def hide(x: Clip, t: Tensor) -> tuple[Clip, Tensor]:
        return torch.where(frames[:, None, None], plain.to(x), x), torch.where(frames.to(t.device), level.to(t), t)

    return hide


def sample_conditioned(
    solver: Callable[..., Clip],
    denoise: Denoiser,
    noise: Clip,
    levels: Float[Tensor, " n_plus_1"],
    path: ProbabilityPath,
    conditioning: FrameConditioning | None,
    *,
    generator: Generators | None = None,
    callback: Callback | None = None,
    shows_known: bool = False,
) -> Clip:
    """Return clips by `solver` from standard normal `noise`, with known cells exactly as the conditioning has them.

    Without conditioning, or where nothing is known and strength is 1, this is plain sampling from the same noise.
    Below the conditioning's `release`, known cells of parts of frames are sampled as all others.
    Raises VidgenError for conditioning of another size.

    Args:
        solver: One of SAMPLERS, or a function like those.
        denoise: The denoiser.
        noise: Standard normal noise, a row a clip.
        levels: The sampler's noise levels, from the noisiest down.
        path: That of the denoiser.
        conditioning: What is known of the clips.
        generator: Noise for stochastic solvers, one a clip.
        callback: Called by the solver after each step.
        shows_known: Whether the denoiser is shown what is known of a part of a frame, without noise.
    """
    plain = path_radius(levels[0], path).to(noise) * noise
    if conditioning is None:
        return solver(denoise, plain, levels, path, generator=generator, callback=callback)
    z, known = conditioning.latents.to(noise), conditioning.known.to(noise.device)
    if z.shape[1:] != noise.shape[1:] or len(z) not in (1, len(noise)):
        raise VidgenError(f"conditions are latents {tuple(z.shape)}, and the clips {tuple(noise.shape)}; make them fit")
    z = z.expand_as(noise)
    if bool(known.all()):
        return z.clone()
    times = conditioned_times(levels_from(levels, conditioning.strength), conditioning, len(noise))
    x = add_noise(z, noise, times[0], path)
    if conditioning.strength >= levels[0]:
        x = torch.where(known, x, plain)  # on some paths a trace of the data is left at the noisiest level
    partly = known & ~conditioning.frames.to(known.device)[:, None, None]
    correct = conditioning.correct
    corrected = denoise if correct is None else lambda x, t: correct(denoise(x, t))

    def replaced(x: Clip, t: Tensor) -> Clip:
        leads = partly & (expand_level(t, x) > conditioning.release)
        shown = torch.where(leads, z, x) if shows_known else x
        return torch.where(leads, z, corrected(shown, t))

    out = solver(replaced if bool(partly.any()) else corrected, x, times, path, generator=generator, callback=callback)
    return torch.where(known ^ partly if conditioning.release else known, z, out)


__getattr__ = renamed_attributes(__name__, {"Conditions": "FrameConditioning"})
