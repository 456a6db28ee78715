"""A clip of pictures: an image model's first frame, moved, and the frames made side by side (Text2Video-Zero)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.noise import draw_normal
from vidgen.errors import VidgenError
from vidgen.models.warping import warp
from vidgen.pipelines.control.calls import ClipCall, call_by_clip
from vidgen.pipelines.control.pictures import check_box, encode_pixels, find_subject, make_picture, middle_of
from vidgen.pipelines.output import PipelineOutput, decode_pixels
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.conditioning.frame_conditioning import FrameConditioning
from vidgen.samplers.conditioning.read_pixels import Image
from vidgen.samplers.control.cross_frame_attention import cross_frame_attention, shared_layers
from vidgen.samplers.control.motion_fields import Box, Shifts, translation_field
from vidgen.samplers.control.motion_warp import jump_start
from vidgen.samplers.control.trajectories import Trajectory, drag_box


def animate(
    pipe: VideoPipeline,
    prompt: str | Sequence[str],
    trajectory: Trajectory,
    *,
    subject: bool = True,
    image: Image | None = None,
    box: Box | None = None,
    warp_at: float = 0.0,
    start: float = 0.6,
    blocks: Sequence[int] | None = (0,),
    shared_noise: bool = True,
    **settings: Any,
) -> PipelineOutput:
    """Return clips whose frames an image model makes, coherent by motion warp and cross-frame attention (Khachatryan et
    al. 2023, Text2Video-Zero, algorithm 1): no frame but the first is made from noise alone.

    The first frame is denoised to the level `warp_at`, moved, given noise up to the level `start` (the forward jump),
    and all frames are denoised side by side, attending to the first one. Any VideoDiT that makes a clip of one frame
    will do. Clips of a call do not depend on each other. Raises VidgenError as the pipeline's call, and for levels that
    do not rise.

    Args:
        pipe: The image model.
        prompt: One, or several: what every frame shows.
        trajectory: What the middle of the subject passes; of the whole picture, its shift since the first point.
        subject: Whether the subject moves over a resting ground, or the picture as a whole, its border repeated.
        image: The first frame; None has the model make it of the prompt.
        box: Of the subject in the first frame, in pixels (left, top, right, bottom); None has it found, see
            `find_subject`.
        warp_at: The level at which the first frame is moved, of the sampler's the next one below; in cells of latents,
            linear between. 0 moves the finished picture, pixel by pixel, which is finer by the compression ratio.
        start: The level from which the frames are made; higher ones change more from frame to frame.
        blocks: Whose attention is to the first frame: the paper has all of them (None). A small model whose places
            are told by attention rests with it where its first frame is.
        shared_noise: Whether the jump has the same noise in all frames; the paper has new noise in each.
        settings: Go to the pipeline's call, `num_frames`, `seed` and `generator` among them.
    """
    if not 0.0 <= warp_at < start < 1.0:
        raise VidgenError(f"warp_at {warp_at:g} and start {start:g}: levels must rise, 0 <= warp_at < start < 1")
    if image is not None and warp_at > 0.0:
        raise VidgenError(f"warp_at {warp_at:g} moves a frame that is being made, and an image is given: leave it at 0")
    shared_layers(pipe.transformer, blocks)  # before any work: its errors

    def make(call: ClipCall) -> Tensor:
        num_frames, *size = call.size
        moved, level = move_first(pipe, call, trajectory, image, subject, box, warp_at)
        noise = draw_normal((1 if shared_noise else num_frames, *moved.shape[1:]), call.generator)
        clean, noise = jump_start(moved, noise.expand_as(moved).to(moved), level, start, pipe.path)
        with cross_frame_attention(pipe.transformer, num_frames, blocks=blocks):
            frames = pipe(
                [call.prompt] * num_frames,
                num_frames=1,
                height=size[0],
                width=size[1],
                generator=[call.generator] * num_frames,
                latents=noise,
                conditioning=FrameConditioning.of_start(clean, start),
                output_type="latent",
                **call.settings,
            ).latents
        video = rearrange(torch.cat([decode_pixels(pipe.vae, z[None]) for z in frames]), "k c 1 h w -> 1 c k h w")
        return encode_pixels(pipe, video)  # one clip, as any other's latents

    with torch.inference_mode():
        return call_by_clip(pipe, prompt, make, **settings)


def move_first(
    pipe: VideoPipeline,
    call: ClipCall,
    trajectory: Trajectory,
    image: Image | None,
    subject: bool,
    box: Box | None,
    warp_at: float,
) -> tuple[Float[Tensor, "k c 1 h w"], float]:
    """Return the first frame as latents at about the level `warp_at`, moved as each frame has it, and that level."""
    num_frames, *size = call.size
    passing: list[tuple[float, Tensor]] = []
    times = pipe.times_for(pipe.latent_shape(1, *size), call.settings.get("num_inference_steps"), None)
    quiet = {name: value for name, value in call.settings.items() if name != "callback_on_step_end"}

    def watch(step: int, x: Tensor, x0: Tensor) -> None:
        passing.append((float(times[step + 1]), x))

    pixels, still = make_picture(
        pipe, call.prompt, image, size, generator=[call.generator], callback_on_step_end=watch, **quiet
    )
    positions = trajectory.positions(num_frames)
    shifts = positions - positions[0]
    if subject:
        box = find_subject(pipe, call.prompt, still) if box is None else box
        check_box(box, size)
        shifts = positions - middle_of(box)
    if warp_at == 0.0:
        video = move_picture(pixels, shifts, box if subject else None)
        return encode_pixels(pipe, rearrange(video, "c k h w -> k c 1 h w")), 0.0
    level, x = next(((level, x) for level, x in passing if level <= warp_at), passing[-1])
    f = pipe.vae.config.spatial_compression_ratio
    cells = None if not subject else tuple(side / f for side in box)
    return rearrange(move_picture(x[0, :, 0].float(), shifts / f, cells), "c k h w -> k c 1 h w"), level


def move_picture(picture: Float[Tensor, "c h w"], shifts: Shifts, box: Box | None) -> Float[Tensor, "c k h w"]:
    """Return the frames of a picture that moves as a whole, or in which a box does."""
    if box is None:
        return warp(picture[None], translation_field(shifts, *picture.shape[1:]).to(picture))[0]
    return drag_box(picture, box, shifts)[0]
