"""Restoring a degraded clip: by a model that was trained for it, by projection with any model, or by both.

A model with generation tasks is shown the degraded clip as known frames before those that it makes. Projection is the
null-space method (Wang et al. 2023, DDNM, algorithm 1) by way of a tokenizer: an estimate is decoded, its pixels are
projected onto those that the degraded clip allows, and coded again. What the tokenizer itself loses stays lost there,
so the pixels are projected once more at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

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
from vidgen.samplers.conditioning.generation_tasks import RESTORATIONS, find_restoration
from vidgen.samplers.conditioning.read_pixels import latent_mask

Latents = Float[Tensor, "b c t h w"]
Method = Literal["projection", "task", "both"]
METHODS: tuple[Method, ...] = get_args(Method)


def available_methods(pipe: VideoPipeline, task: str | None) -> tuple[Method, ...]:
    """Return the ways in which a model can undo what is the task of restoration `task`, the best one last."""
    return METHODS if task in task_names(pipe.transformer) else METHODS[:1]


def choose_method(pipe: VideoPipeline, degradation: Degradation, by: Method | None = None) -> Method:
    """Return how a clip is restored: as asked, else by both where the model was trained for the task, and by projection
    where it was not.

    Raises VidgenError for a method that is none, and for a task that the model was not trained for.
    """
    task = find_restoration(degradation)
    available = available_methods(pipe, task)
    if by is None:
        return available[-1]
    if by not in METHODS:
        raise VidgenError(f"restoration by {by!r} is unknown; choose of {', '.join(METHODS)}")
    if by not in available:
        trained = ", ".join(task_names(pipe.transformer)) or "no generation tasks"
        raise VidgenError(
            f"restoration by {by} needs a model that was trained for {task}, and this one was trained for {trained}: "
            "restore by projection, or take another model"
        )
    return by


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


def choose_guidance(by: Method, task: str | None, scale: float | None = None) -> float | None:
    """Return the guidance scale of a restoration: as asked, else 1 where the model is shown the degraded clip, which
    leaves the prompt little to decide and guidance much to overdo. None is the model's own."""
    return 1.0 if scale is None and by != "projection" and task in RESTORATIONS else scale


def sampled_frames(pipe: VideoPipeline, degradation: Degradation, num_frames: int, by: Method | None = None) -> int:
    """Return how many frames are sampled to restore `num_frames`: where the degraded clip stands before them, as many
    as twice their latent frames hold."""
    if isinstance(degradation, Mask) or choose_method(pipe, degradation, by) == "projection":
        return num_frames
    return 1 + (2 * pipe.latent_frames(num_frames) - 1) * pipe.vae.config.temporal_compression_ratio


def condition_on(
    pipe: VideoPipeline, start: Float[Tensor, "1 3 t h w"], degradation: Degradation, conditioning: FrameConditioning
) -> FrameConditioning:
    """Return the conditioning by which a model that was trained for it is shown A^+ y, `start`: its latents as frames
    before those of the clip, or for inpainting as the cells that are kept."""
    if not isinstance(degradation, Mask):
        return conditioning.after(conditioning.latents)
    config = pipe.vae.config
    keep = ~degradation.mask.cpu().expand(start.shape[2:])
    known = latent_mask(keep, config.temporal_compression_ratio, config.spatial_compression_ratio)
    return replace(conditioning, known=known)


@torch.inference_mode()
def restore(
    pipe: VideoPipeline,
    prompt: str | Sequence[str],
    degraded: Float[Tensor, "1 k t i j"],
    degradation: Degradation,
    *,
    by: Method | None = None,
    strength: float = 1.0,
    output_type: str = "np",
    **settings: Any,
) -> PipelineOutput:
    """Return clips of the prompt of which `degraded` is left, y = A x.

    Raises VidgenError as the pipeline's call does, for a y that is not of such a degradation, and for a task that the
    model was not trained for.

    Args:
        pipe: Any pipeline of ours.
        prompt: One, or several.
        degraded: y, pixels in [-1, 1].
        degradation: A.
        by: "task": by a model that was trained for it, which is shown A^+ y, coded, as known frames before those of the
            clip (for inpainting the cells that are kept); nothing holds the result to y. "projection": by the prompt
            and the projection of every estimate, which takes a decoding and an encoding more an evaluation. "both".
            None: see `choose_method`.
        strength: Below 1, starts from A^+ y at that noise level instead of from noise: closer to it, and faster.
        output_type: As of the pipeline's call.
        settings: Go to the pipeline's call, whose other conditioning cannot be given. Without a guidance of its own
            see `choose_guidance`.
    """
    check_output_type(output_type)
    by = choose_method(pipe, degradation, by)
    task = find_restoration(degradation)
    if "guidance" not in settings:
        settings["guidance_scale"] = choose_guidance(by, task, settings.get("guidance_scale"))
    start = degradation.invert(degraded).clamp(-1.0, 1.0)
    if start.ndim != 5 or len(start) != 1 or start.shape[1] != 3:
        raise VidgenError(f"what is degraded is {tuple(degraded.shape)}; one clip is wanted, (1, channels, t, h, w)")
    num_frames, height, width = start.shape[2:]
    pipe.latent_shape(num_frames, height, width)  # before any work: its errors
    latents = pipe.vae.encode(start.to(device_of(pipe.vae))).latents
    correct = None if by == "task" else make_projection(pipe.vae, degraded, degradation, num_frames)
    conditioning = FrameConditioning.of_start(latents, strength, correct=correct)
    settings |= {"num_frames": sampled_frames(pipe, degradation, num_frames, by), "height": height, "width": width}
    if by != "projection":
        conditioning = condition_on(pipe, start, degradation, conditioning)
    if task_names(pipe.transformer):
        settings["task"] = TEXT_TO_VIDEO if by == "projection" else task
    out = pipe(prompt, output_type="latent", conditioning=conditioning, **settings)
    out = PipelineOutput(frames=None, latents=out.latents[:, :, -latents.shape[2] :], fps=out.fps)
    if output_type == "latent":
        return out
    frames = []
    for z in out.latents:
        pixels = decode_pixels(pipe.vae, z[None])[:, :, :num_frames]
        if by != "task":
            pixels = project(pixels, degraded.to(pixels), degradation)
        frames.append(clamp_to_uint8(pixels)[0])
    return PipelineOutput(frames=convert_frames(frames, output_type), latents=out.latents, fps=out.fps)
