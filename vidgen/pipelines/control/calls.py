"""Calls of control, clip by clip: each clip has a picture of its own, and does not depend on the others of its call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vidgen.errors import VidgenError
from vidgen.pipelines.call_arguments import read_generators
from vidgen.pipelines.output import PipelineOutput, check_output_type, convert_frames
from vidgen.pipelines.streaming.chunk_sampler import is_causal
from vidgen.pipelines.video import VideoPipeline


@dataclass(frozen=True, kw_only=True)
class ClipCall:
    """One clip of a call: its prompt, its size (frames, height, width), its stream of noise, and what else goes to the
    pipeline's call."""

    prompt: str
    size: tuple[int, int, int]
    generator: torch.Generator
    settings: dict[str, Any]


def call_by_clip(
    pipe: VideoPipeline,
    prompt: str | Sequence[str],
    make: Callable[[ClipCall], torch.Tensor],
    *,
    num_frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    num_videos_per_prompt: int = 1,
    seed: int = 0,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    output_type: str = "np",
    **settings: Any,
) -> PipelineOutput:
    """Return the clips whose latents `make` gives, one for each prompt and copy; arguments as of the pipeline's call.

    Raises VidgenError for a causal model, which makes clips chunk by chunk.
    """
    check_output_type(output_type)
    if is_causal(pipe.transformer):
        raise VidgenError("this model is causal, and control needs whole clips: take a model without causal_chunks")
    s = pipe.scheduler
    size = (num_frames or s.num_frames, height or s.height, width or s.width)
    pipe.latent_shape(*size)  # before any work: its errors
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    rows = [text for text in prompts for _ in range(num_videos_per_prompt)]
    generators = read_generators(generator, seed, len(prompts), num_videos_per_prompt)
    latents = [
        make(ClipCall(prompt=text, size=size, generator=own, settings=settings))
        for text, own in zip(rows, generators, strict=True)
    ]
    latents = torch.cat(latents)
    clips = None if output_type == "latent" else convert_frames(pipe.decode(latents, *size), output_type)
    return PipelineOutput(frames=clips, latents=latents.cpu(), fps=s.fps)
