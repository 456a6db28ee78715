"""Sampling a clip of which something is known: frames, parts of frames, or a clip to start from.

Known frames have noise level 0 from the first step to the last, which is how a model with a level per frame is
conditioned (Chen et al. 2024, diffusion forcing). Where only a part of a frame is known, its level cannot say so; there
the estimate x0 is replaced by what is known, in every evaluation, so that x_t carries it with the noise of that level:
the replacement method (Song et al. 2021, score SDE, section 5; Lugmayr et al. 2022, RePaint, eq. 8). It is an
approximation: the rest of the frame sees what is known only through the noise of the moment, and RePaint's jumps back
to more noise, which mend that at many times the cost, are not made. Frames that are known whole are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vidgen.diffusion.noise import Generators
from vidgen.diffusion.paths import ProbabilityPath, add_noise
from vidgen.errors import VidgenError
from vidgen.interfaces import Denoiser
from vidgen.samplers.guidance.batched_guidance import View
from vidgen.samplers.solvers.runge_kutta import path_radius
from vidgen.samplers.solvers.stepping import Callback, Clip, Times


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What is known of clips before they are sampled.

    `latents`: clean, one clip for all (n = 1) or one a clip. `known`: the cells that stay as they are there. The others
    begin as noise, or with `strength` below 1 as these latents at that noise level (Meng et al. 2022, SDEdit).
    `context_noise`: the level at which the network is shown known frames; a little of it hides the small errors of
    frames that were themselves sampled (Chen et al. 2024). `correct`, if there is one, puts every estimate x0 right,
    by what is known of a clip in another way than cell by cell. Raises VidgenError for a level that is none.
    """

    latents: Float[Tensor, "n c t h w"]
    known: Bool[Tensor, "t h w"]
    strength: float = 1.0
    context_noise: float = 0.0
    correct: Callable[[Clip], Clip] | None = None

    def __post_init__(self) -> None:
        check_strength(self.strength)
        if not 0.0 <= self.context_noise < 1.0:
            raise VidgenError(f"context_noise is {self.context_noise}; it is a noise level of 0 or more, below 1")
        if self.latents.shape[2:] != self.known.shape:
            raise ValueError(f"known {tuple(self.known.shape)} is not for latents {tuple(self.latents.shape)}")

    @property
    def frames(self) -> Bool[Tensor, " t"]:
        """The frames that are known whole."""
        return self.known.flatten(1).all(1)


def check_strength(strength: float) -> None:
    """Raises VidgenError unless 0 < strength <= 1."""
    if not 0.0 < strength <= 1.0:
        raise VidgenError(
            f"strength is {strength}; it must lie in (0, 1]: close to 0 keeps the video, 1 keeps nothing of it"
        )


def levels_from(levels: Float[Tensor, " n_plus_1"], strength: float) -> Float[Tensor, " m_plus_1"]:
    """The sampler's levels from `strength` down: that level, and those of `levels` below it. All of them from 1 on."""
    if strength >= levels[0]:
        return levels
    return torch.cat([levels.new_tensor([strength]), levels[levels < strength]])


def times_given(levels: Float[Tensor, " n_plus_1"], given: Conditions, b: int) -> Times:
    """`levels` for b clips, frame by frame, with known frames at the level that they are shown at; shared by all
    frames where none is known."""
    frames = given.frames.to(levels.device)
    if not bool(frames.any()):
        return levels
    times = levels[:, None].expand(-1, len(frames)).masked_fill(frames, given.context_noise)
    return times[:, None].expand(-1, b, -1)


def hide_frames(given: Conditions | None, noise: Clip, level: Tensor, path: ProbabilityPath) -> View | None:
    """What a denoiser is shown of (x, t) that is to know nothing of given frames: these as `noise` alone, at the
    noisiest `level` of the run. None where no frame is given whole.

    Guidance that leads away from what it says is guidance by the frames (Song et al. 2025, history-guided video
    diffusion, section 4: history at full noise stands for none).
    """
    if given is None or not bool(given.frames.any()):
        return None
    frames, plain = given.frames.to(noise.device), path_radius(level, path).to(noise) * noise

    def hide(x: Clip, t: Tensor) -> tuple[Clip, Tensor]:
        return torch.where(frames[:, None, None], plain.to(x), x), torch.where(frames.to(t.device), level.to(t), t)

    return hide


def sample_given(
    solver: Callable[..., Clip],
    denoise: Denoiser,
    noise: Clip,
    levels: Float[Tensor, " n_plus_1"],
    path: ProbabilityPath,
    given: Conditions | None,
    *,
    generator: Generators | None = None,
    callback: Callback | None = None,
) -> Clip:
    """Clips by `solver` from standard normal `noise`, over the sampler's `levels`, with known cells exactly as given.

    Without conditions, or where nothing is known and strength is 1, this is plain sampling from the same noise.
    Raises VidgenError for conditions of another size.
    """
    plain = path_radius(levels[0], path).to(noise) * noise
    if given is None:
        return solver(denoise, plain, levels, path, generator=generator, callback=callback)
    z, known = given.latents.to(noise), given.known.to(noise.device)
    if z.shape[1:] != noise.shape[1:] or len(z) not in (1, len(noise)):
        raise VidgenError(f"conditions are latents {tuple(z.shape)}, and the clips {tuple(noise.shape)}; make them fit")
    z = z.expand_as(noise)
    if bool(known.all()):
        return z.clone()
    times = times_given(levels_from(levels, given.strength), given, len(noise))
    x = add_noise(z, noise, times[0], path)
    if given.strength >= levels[0]:
        x = torch.where(known, x, plain)  # on some paths a trace of the data is left at the noisiest level
    partly = known & ~given.frames.to(known.device)[:, None, None]
    put_right = denoise if given.correct is None else lambda x, t: given.correct(denoise(x, t))

    def replaced(x: Clip, t: Tensor) -> Clip:
        return torch.where(partly, z, put_right(x, t))

    out = solver(replaced if bool(partly.any()) else put_right, x, times, path, generator=generator, callback=callback)
    return torch.where(known, z, out)
