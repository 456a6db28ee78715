"""Streams: a clip of a causal model, chunk by chunk as it is made, of any length and under prompts that change."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np
import torch

from vidgen.bounds import Frames, check_value
from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.models.causal_attention import iter_chunks
from vidgen.pipelines.streaming.chunk_sampler import ContextConfig, is_causal, make_chunk_sampler
from vidgen.pipelines.streaming.chunks import Chunk, PromptSchedule, prompt_at, read_prompts
from vidgen.samplers.conditioning.ip_adapter import Reference, encode_reference
from vidgen.samplers.conditioning.read_pixels import Image, Video, read_frame_conditioning
from vidgen.samplers.guidance.registry import Guidance, read_guidance
from vidgen.samplers.solvers import find_solver

if TYPE_CHECKING:
    from vidgen.pipelines.video import VideoPipeline

Stream = Generator[Chunk, str | None, None]  # what is sent is the prompt from the next chunk on


@torch.inference_mode()
def stream(
    pipe: VideoPipeline,
    prompt: str | PromptSchedule,
    num_frames: int | None = None,
    *,
    context: ContextConfig = ContextConfig(),  # noqa: B008 (frozen)
    negative_prompt: str = "",
    height: int | None = None,
    width: int | None = None,
    num_inference_steps: int | None = None,
    guidance: str | Guidance = "cfg",
    guidance_scale: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    guidance_rescale: float | None = None,
    sampler: str | None = None,
    seed: int = 0,
    generator: torch.Generator | None = None,
    reference: Reference | None = None,
    image: Image | None = None,
    video: Video | None = None,
) -> Stream:
    """Yield one clip chunk by chunk, as it is made, from a cache of what is done; None for `num_frames` is without end.

    The frames are those that the whole call makes of the same seed, and a longer clip begins with the shorter one.
    What is sent into the generator is the prompt from the next chunk on: `frames.send("a red star")`.

    Raises VidgenError for a model that is not causal, and as the pipeline's call.

    Args:
        pipe: A pipeline whose transformer has `causal_chunks`.
        prompt: One; or a schedule of several, of which each holds from the first chunk that begins at its frame or
            later. A warning says where that is later.
        num_frames: Of the clip.
        context: What is seen of the frames before.
        negative_prompt: What guidance leads away from.
        height, width: In pixels; None is the model's own.
        num_inference_steps: Of each chunk.
        guidance, guidance_scale, guidance_interval, guidance_rescale, sampler: As in the pipeline's call.
        seed: Of the noise; `generator` takes its place.
        reference: Pictures of how the subject looks, or `LearnedTokens`.
        image, video: The clip begins with these frames.
    """
    s = pipe.scheduler
    if not is_causal(pipe.transformer):
        student = pipe.student is not None and is_causal(pipe.student.transformer)
        hint = "use rollout, or stream its causal student, pipe.student" if student else "use rollout"
        raise VidgenError(f"this model's frames see later ones too, so it makes whole windows: {hint}")
    check_value(num_frames, Frames | None, "num_frames")
    size = (num_frames or s.num_frames, height or s.height, width or s.width)
    schedule = read_prompts(prompt)
    shape = pipe.latent_shape(*size)
    times = pipe.times_for(shape, num_inference_steps, guidance_scale)
    chunks = make_chunk_sampler(
        pipe,
        context,
        solver=find_solver(sampler or s.sampler),
        times=times,
        shape=shape,
        generators=[generator or sample_generator(seed, 0)],
        conditioning=read_frame_conditioning(pipe.vae, size, image=image, video=video),
    )
    fields = {"scale": guidance_scale, "interval": guidance_interval, "rescale": guidance_rescale, "passes": None}
    guidance = read_guidance(guidance, **fields)
    picture = None
    if reference is not None:
        picture = encode_reference(pipe.image_prompt, pipe.vae, reference, (s.height, s.width))
    tokens = pipe.tokens_of(shape) * max(chunks.chunks)
    text, state, start = None, None, 0
    total = None if num_frames is None else pipe.latent_frames(num_frames)
    for first, stop in iter_chunks(chunks.chunks, total):
        if (holds := prompt_at(schedule, start)) != text:
            text = holds
            warn_late(schedule, start)
            chunks.network.texts.clear()
            denoise = pipe.denoiser(
                [text], negative_prompt, guidance, tokens, None, None, picture, times, chunks.network
            )
        latents = chunks.sample(denoise, first, stop, goes_on=stop != total)
        decoded = list(pipe.decode_onwards(latents, state))
        frames, state = np.concatenate([part for part, _ in decoded]), decoded[-1][1]
        frames = frames if num_frames is None else frames[: num_frames - start]
        switch = yield Chunk(latents=latents, frames=frames, start=start, prompt=text)
        start += len(frames)
        if switch is not None:
            schedule = [(0, switch)]


def warn_late(schedule: PromptSchedule, start: int) -> None:
    """Warn where the prompt that holds at frame `start` was to hold from a frame within the chunk before."""
    wanted = max(frame for frame, _ in schedule if frame <= start)
    if 0 < wanted < start:
        warnings.warn(
            f"the prompt of frame {wanted} holds from frame {start} on: frame {wanted} is within a chunk",
            stacklevel=3,
        )
