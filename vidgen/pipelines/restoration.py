"""Restoring a degraded clip with a model that never saw one: what is known of its pixels goes into every estimate.

The null-space method (Wang et al. 2023, DDNM, algorithm 1) by way of a tokenizer: an estimate is decoded, its pixels
are projected onto those that the degraded clip allows, and coded again. What the tokenizer itself loses stays lost
there, so the pixels are projected once more at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.data.frames import clamp_to_uint8
from vidgen.errors import VidgenError
from vidgen.interfaces import Tokenizer
from vidgen.models.dit.label_embedding import TEXT_TO_VIDEO, task_names
from vidgen.models.placement import device_of
from vidgen.pipelines.output import PipelineOutput, check_output_type, convert_frames, decode_pixels
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.conditioning.degradations import Degradation, Mask, project
from vidgen.samplers.conditioning.frame_conditioning import FrameConditioning
from vidgen.samplers.conditioning.generation_tasks import find_restoration
from vidgen.samplers.conditioning.read_pixels import latent_mask

Latents = Float[Tensor, "b c t h w"]


def make_projection(
    vae: Tokenizer, y: Tensor, degradation: Degradation, num_frames: int
) -> Callable[[Latents], Latents]:
    """Return the function from latents to those of the nearest clip that fits y, as far as `vae` can code it."""

    def project_latents(x0: Latents) -> Latents:
        if not bool(torch.isfinite(x0).all()):
            return x0  # the solver names the step that this comes from
        pixels = decode_pixels(vae, x0)[:, :, :num_frames]
        fitting = project(pixels, y.to(pixels).expand(len(pixels), *y.shape[1:]), degradation).clamp(-1.0, 1.0)
        return vae.encode(fitting).latents.to(x0)

    return project_latents


def sampled_frames(pipe: VideoPipeline, degradation: Degradation, num_frames: int) -> int:
    """Return how many frames are sampled to restore `num_frames`: where the degraded clip stands before them, as many
    as twice their latent frames hold."""
    if isinstance(degradation, Mask) or find_restoration(degradation) not in task_names(pipe.transformer):
        return num_frames
    return 1 + (2 * pipe.latent_frames(num_frames) - 1) * pipe.vae.config.temporal_compression_ratio


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
    """Return clips of the prompt of which `degraded` is left, y = A x.

    A model that was trained for the task is shown A^+ y, coded, as known frames before those of the clip (for
    inpainting the cells that are kept); others know y by its projection alone. Every evaluation takes a decoding and an
    encoding more. Raises VidgenError as the pipeline's call does, and for a y that is not of such a degradation.

    Args:
        pipe: Any pipeline of ours.
        prompt: One, or several.
        degraded: y, pixels in [-1, 1].
        degradation: A.
        strength: Below 1, starts from A^+ y at that noise level instead of from noise: closer to it, and faster.
        output_type: As of the pipeline's call.
        settings: Go to the pipeline's call, whose other conditioning cannot be given.
    """
    check_output_type(output_type)
    start = degradation.invert(degraded).clamp(-1.0, 1.0)
    if start.ndim != 5 or len(start) != 1 or start.shape[1] != 3:
        raise VidgenError(f"what is degraded is {tuple(degraded.shape)}; one clip is wanted, (1, channels, t, h, w)")
    num_frames, height, width = start.shape[2:]
    config = pipe.vae.config
    pipe.latent_shape(num_frames, height, width)  # before any work: its errors
    latents = pipe.vae.encode(start.to(device_of(pipe.vae))).latents
    correct = make_projection(pipe.vae, degraded, degradation, num_frames)
    settings |= {"num_frames": num_frames, "height": height, "width": width}
    conditioning = FrameConditioning.of_start(latents, strength, correct=correct)
    own = latents.shape[2]
    task = find_restoration(degradation)
    if task not in task_names(pipe.transformer):
        task = TEXT_TO_VIDEO
    elif isinstance(degradation, Mask):
        keep = ~degradation.mask.cpu().expand(num_frames, height, width)
        known = latent_mask(keep, config.temporal_compression_ratio, config.spatial_compression_ratio)
        conditioning = replace(conditioning, known=known)
    else:
        settings["num_frames"] = sampled_frames(pipe, degradation, num_frames)
        conditioning = conditioning.after(latents)
    if task_names(pipe.transformer):
        settings["task"] = task
    out = pipe(prompt, output_type="latent", conditioning=conditioning, **settings)
    out = PipelineOutput(frames=None, latents=out.latents[:, :, -own:], fps=out.fps)
    if output_type == "latent":
        return out
    frames = []
    for z in out.latents:
        pixels = decode_pixels(pipe.vae, z[None])[:, :, :num_frames]
        frames.append(clamp_to_uint8(project(pixels, degraded.to(pixels), degradation))[0])
    return PipelineOutput(frames=convert_frames(frames, output_type), latents=out.latents, fps=out.fps)
