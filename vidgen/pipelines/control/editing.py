"""Edits of a clip by a new prompt, without training: by the difference of velocities, or by inversion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.pipelines.call_arguments import read_generators
from vidgen.pipelines.control.pictures import encode_pixels
from vidgen.pipelines.output import PipelineOutput, check_output_type, convert_frames
from vidgen.pipelines.streaming.chunk_sampler import is_causal
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.conditioning.read_pixels import Video, read_video
from vidgen.samplers.flow_edit import flow_edit
from vidgen.samplers.guidance.registry import Guidance, read_guidance
from vidgen.samplers.inversion import invert

METHODS = ("flow_edit", "inversion")
SOURCE_SCALE = 1.5  # of guidance towards the clip's own prompt


def edit_video(
    pipe: VideoPipeline,
    prompt: str | Sequence[str],
    video: Video,
    source_prompt: str,
    *,
    method: str = "flow_edit",
    strength: float = 0.65,
    num_inference_steps: int | None = None,
    guidance: str | Guidance = "cfg",
    guidance_scale: float | None = None,
    negative_prompt: str = "",
    seed: int = 0,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    callback_on_step_end: Callable[..., Any] | None = None,
    output_type: str = "np",
) -> PipelineOutput:
    """Return a clip as `prompt` has it, near a video that `source_prompt` describes: what both say alike stays.

    "flow_edit" goes from the video by the difference of the two prompts' velocities (Kulikov et al. 2025); "inversion"
    takes the video to the noise that it would be sampled from under its own prompt, and samples from there under the
    new one (Song et al. 2021, DDIM, section 5.4), without anything random. Raises VidgenError for another method, a
    causal model, and a path that is not straight for "flow_edit".

    Args:
        pipe: The model.
        prompt: One, or several, each of which makes a clip.
        video: In the size of the clips.
        source_prompt: What the video shows.
        method: One of METHODS.
        strength: Of "flow_edit": the noise level to start from; higher ones may change more.
        num_inference_steps: Of sampling; inversion takes as many.
        guidance: Towards the new prompt, as of the pipeline's call.
        guidance_scale: Its scale; None is the model's.
        negative_prompt: As of the pipeline's call.
        seed: Of the noise of "flow_edit"; `generator`, one a clip or one for all, takes its place.
        generator: See `seed`.
        callback_on_step_end: Called as (step, x, x0).
        output_type: As of the pipeline's call.
    """
    check_output_type(output_type)
    if method not in METHODS:
        raise VidgenError(f"method {method!r} is unknown; choose one of {', '.join(METHODS)}")
    if is_causal(pipe.transformer):
        raise VidgenError("this model is causal, and an edit needs whole clips: take a model without causal_chunks")
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    sources = [source_prompt] * len(prompts)
    size = tuple(video.shape[:3]) if video.shape[-1] == 3 else tuple(video.shape[1:])
    shape = pipe.latent_shape(*size)
    guidance = read_guidance(guidance, scale=guidance_scale, interval=None, rescale=None, passes=None)
    with torch.inference_mode():
        z = encode_pixels(pipe, read_video(video, size, whole=True)[None]).to(pipe.device)
        z = z.expand(len(prompts), -1, -1, -1, -1)
        if method == "inversion":
            times = pipe.times_for(shape, num_inference_steps, None)
            noise = invert(pipe.unguided(sources), z, times, pipe.path, sampler="heun")
            own = {"num_inference_steps": num_inference_steps, "guidance": guidance, "output_type": output_type}
            own["negative_prompt"] = negative_prompt
            call = {"num_frames": size[0], "height": size[1], "width": size[2], "latents": noise}
            return pipe(prompts, callback_on_step_end=callback_on_step_end, seed=seed, **call, **own)
        latents = edit_latents(
            pipe,
            (sources, prompts),
            z,
            guidance,
            negative_prompt,
            steps=num_inference_steps,
            strength=strength,
            generator=read_generators(generator, seed, len(prompts), 1),
            callback=callback_on_step_end,
        )
        clips = None if output_type == "latent" else convert_frames(pipe.decode(latents, *size), output_type)
    return PipelineOutput(frames=clips, latents=latents.cpu(), fps=pipe.scheduler.fps)


def edit_latents(
    pipe: VideoPipeline,
    prompts: tuple[list[str], list[str]],
    z: Float[Tensor, "b c t h w"],
    guidance: Guidance,
    negative_prompt: str,
    *,
    steps: int | None,
    **settings: Any,
) -> Float[Tensor, "b c t h w"]:
    """Return latents edited from the first prompts to the second, by `flow_edit`, whose arguments `settings` are."""
    shape = tuple(z.shape[1:])
    tokens = pipe.tokens_of(shape) * shape[1]
    source = pipe.denoiser(prompts[0], "", Guidance(scale=SOURCE_SCALE), tokens)
    target = pipe.denoiser(prompts[1], negative_prompt, guidance, tokens)
    return flow_edit(source, target, z, pipe.times_for(shape, steps, guidance.scale), pipe.path, **settings)
