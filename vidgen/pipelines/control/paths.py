"""A clip whose subject follows a path: a crude clip of a cut-out leads the sampling, and is let go of on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from einops import reduce
from jaxtyping import Bool
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.pipelines.control.calls import ClipCall, call_by_clip
from vidgen.pipelines.control.pictures import check_box, encode_pixels, find_subject, make_picture, middle_of
from vidgen.pipelines.output import PipelineOutput
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.conditioning.frame_conditioning import FrameConditioning
from vidgen.samplers.conditioning.read_pixels import Image
from vidgen.samplers.control.motion_fields import Box
from vidgen.samplers.control.trajectories import Trajectory, drag_box

LED_FROM = 0.3  # the share of a latent cell's pixels from which it is led
# Of the model's own scale of guidance, which leads to motions that prompts have: on 16 paths of the default model the
# object was 3.2 pixels off at half of it, and 4.6 on 32 at the whole.
GUIDANCE_SHARE = 0.5


def led_cells(pasted: Bool[Tensor, "T h w"], temporal_ratio: int, spatial_ratio: int) -> Bool[Tensor, "t i j"]:
    """Return the latent cells of which a share of `LED_FROM` or more is pasted; all frames of a latent frame count."""
    head = pasted[:1].expand(temporal_ratio - 1, -1, -1)
    tail = pasted[-1:].expand(-(len(pasted) - 1) % temporal_ratio, -1, -1)
    share = torch.cat([head, pasted, tail]).float()
    ratios = {"r": temporal_ratio, "p": spatial_ratio, "q": spatial_ratio}
    return reduce(share, "(t r) (i p) (j q) -> t i j", "mean", **ratios) >= LED_FROM


def follow_path(
    pipe: VideoPipeline,
    prompt: str | Sequence[str],
    trajectory: Trajectory,
    *,
    image: Image | None = None,
    box: Box | None = None,
    strength: float = 0.8,
    release: float = 0.3,
    **settings: Any,
) -> PipelineOutput:
    """Return clips whose subject follows a trajectory, without training (Singer et al. 2025, Time-to-Move).

    The subject is cut out of a picture and pasted along the path, over the picture with its place filled. Sampling
    starts from that crude clip at the noise level `strength`; down to the level `release` the estimates are the crude
    clip's where the cut-out is, then the model makes all of it. Clips of a call do not depend on each other.
    Raises VidgenError as the pipeline's call, and for a box that is none.

    Args:
        pipe: A video model.
        prompt: One, or several; it names the subject, and may say how it moves.
        trajectory: What the middle of the subject passes, in pixels.
        image: The picture; None has the model make it of the prompt.
        box: Of the subject in the picture, in pixels (left, top, right, bottom); None has it found, see
            `find_subject`.
        strength: Lower ones keep more of the picture's ground.
        release: Lower ones keep closer to the path, and to the cut-out itself.
        settings: Go to the pipeline's call, `num_frames`, `seed` and `generator` among them. Without a scale of
            guidance, it is half of the model's own.
    """
    if settings.get("guidance_scale") is None and getattr(settings.get("guidance"), "scale", None) is None:
        settings["guidance_scale"] = max(1.0, GUIDANCE_SHARE * pipe.scheduler.guidance_scale)
    if not 0.0 <= release < strength:
        raise VidgenError(f"release {release:g} and strength {strength:g}: give levels 0 <= release < strength <= 1")

    def make(call: ClipCall) -> Tensor:
        num_frames, *size = call.size
        streams = {"generator": [call.generator]}
        quiet = {name: value for name, value in call.settings.items() if name != "callback_on_step_end"}
        pixels, still = make_picture(pipe, call.prompt, image, size, **streams, **quiet)
        place = find_subject(pipe, call.prompt, still) if box is None else box
        check_box(place, size)
        crude, pasted = drag_box(pixels, place, trajectory.positions(num_frames) - middle_of(place))
        config = pipe.vae.config
        conditioning = FrameConditioning(
            latents=encode_pixels(pipe, crude[None]),
            known=led_cells(pasted, config.temporal_compression_ratio, config.spatial_compression_ratio),
            strength=strength,
            release=release,
        )
        clip = {"num_frames": num_frames, "height": size[0], "width": size[1], "output_type": "latent"}
        return pipe(call.prompt, conditioning=conditioning, **clip, **streams, **call.settings).latents

    with torch.inference_mode():
        return call_by_clip(pipe, prompt, make, **settings)
