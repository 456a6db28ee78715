"""Restoring a degraded clip with a model that never saw one: what is known of its pixels goes into every estimate.

The null-space method (Wang et al. 2023, DDNM, algorithm 1) by way of a tokenizer: an estimate is decoded, its pixels
are projected onto those that the degraded clip allows, and coded again. What the tokenizer itself loses stays lost
there, so the pixels are projected once more at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.data.frames import to_uint8
from vidgen.errors import VidgenError
from vidgen.pipelines.video import PipelineOutput, VideoPipeline
from vidgen.samplers.conditioning.degradations import Degradation, Pixels, project
from vidgen.samplers.conditioning.inpainting import Conditions


def decode_pixels(pipe: VideoPipeline, latents: Float[Tensor, "b c t h w"]) -> Pixels:
    """All frames of latents, latent frame by latent frame, in [-1, 1]."""
    parts, state = [], None
    for z in latents.to(next(pipe.vae.parameters()).device).split(1, dim=2):
        x, state = pipe.vae.decode_chunk(z, state)
        parts.append(x.float())
    return torch.cat(parts, dim=2).clamp(-1.0, 1.0)


def consistent(
    pipe: VideoPipeline, y: Tensor, degradation: Degradation, num_frames: int
) -> Callable[[Float[Tensor, "b c t h w"]], Float[Tensor, "b c t h w"]]:
    """Latents to those of the nearest clip that fits y, as far as the tokenizer can code it."""

    def correct(x0: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        if not bool(torch.isfinite(x0).all()):
            return x0  # the solver names the step that this comes from
        pixels = decode_pixels(pipe, x0)[:, :, :num_frames]
        fitting = project(pixels, y.to(pixels).expand(len(pixels), *y.shape[1:]), degradation).clamp(-1.0, 1.0)
        return pipe.vae.encode(fitting).latents.to(x0)

    return correct


@torch.inference_mode()
def restore(
    pipe: VideoPipeline,
    prompt: str | Sequence[str],
    degraded: Float[Tensor, "1 k t i j"],
    degradation: Degradation,
    *,
    strength: float = 1.0,
    output_type: str = "np",
    **settings: Any,
) -> PipelineOutput:
    """Clips of the prompt of which `degraded` is left, y = A x, pixels in [-1, 1].

    `strength` below 1 starts from A^+ y at that noise level instead of from noise alone: closer to it, and faster.
    Every evaluation takes a decoding and an encoding more. `settings` go to the pipeline's call, whose other
    conditions can not be given. Raises VidgenError as that does, and for a y that is not of such a degradation.
    """
    start = degradation.invert(degraded).clamp(-1.0, 1.0)
    if start.ndim != 5 or len(start) != 1 or start.shape[1] != 3:
        raise VidgenError(f"what is degraded is {tuple(degraded.shape)}; one clip is wanted, (1, channels, t, h, w)")
    size = tuple(start.shape[2:])
    shape = pipe.latent_shape(*size)
    latents = pipe.vae.encode(start.to(next(pipe.vae.parameters()).device)).latents
    correct = consistent(pipe, degraded, degradation, size[0])
    known = torch.zeros(shape[1:], dtype=torch.bool)
    given = Conditions(latents=latents, known=known, strength=strength, correct=correct)
    sizes = {"num_frames": size[0], "height": size[1], "width": size[2]}
    made = pipe(prompt, given=given, output_type="latent", **sizes, **settings)
    if output_type == "latent":
        return made
    frames = []
    for z in made.latents:
        pixels = decode_pixels(pipe, z[None])[:, :, : size[0]]
        frames.append(to_uint8(project(pixels, degraded.to(pixels), degradation)[0].clamp(-1.0, 1.0)))
    return PipelineOutput(frames=frames, latents=made.latents, fps=made.fps)
