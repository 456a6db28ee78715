"""Sampling a clip, its side stream, or both, from whatever of the two is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.noise import draw_per_sample, sample_generator
from vidgen.errors import VidgenError
from vidgen.models.dit.joint_network import JointNetwork
from vidgen.models.dit.side_stream import join_streams, rows_of_latents, split_streams, values_of_rows
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.conditioning.frame_conditioning import FrameConditioning
from vidgen.samplers.conditioning.inpainting import sample_conditioned
from vidgen.samplers.conditioning.side_modes import StreamStates, find_states
from vidgen.samplers.guidance.registry import Guidance
from vidgen.samplers.solvers import find_solver


@dataclass(frozen=True, kw_only=True)
class SideStreamOutput:
    """What was made: latents of clips, and the side stream's values of each frame; None for what was not asked for."""

    latents: Float[Tensor, "b c t h w"] | None
    side: Float[Tensor, "b T a"] | None


@torch.inference_mode()
def sample_side_stream(
    pipe: VideoPipeline,
    mode: str,
    prompts: Sequence[str],
    *,
    latents: Float[Tensor, "b c t h w"] | None = None,
    side: Float[Tensor, "b T a"] | None = None,
    context: int = 0,
    num_frames: int | None = None,
    seed: int = 0,
    num_inference_steps: int | None = None,
    guidance_scale: float = 1.0,
    sampler: str | Callable[..., Tensor] | None = None,
) -> SideStreamOutput:
    """Return what a mode of `SIDE_MODES` asks for, one a prompt: "policy" values from the first frames, "forward"
    frames from the first ones and values, "inverse" values from all frames, "video" frames alone, "joint" both.

    What is known comes out bit for bit. Clip k is a function of (seed, k), its prompt and what is known of it. Raises
    VidgenError for a model without a side stream, and where what a mode starts from is missing or of another size.

    Args:
        pipe: A pipeline that task `side_stream` has trained.
        mode: What is known, wanted and absent.
        prompts: One a clip; "" where nothing is to be said.
        latents: Clean latents of whole clips; of those the mode reads the first `context`, or all.
        side: The side stream's value of each frame, for the mode "forward".
        context: Latent frames that are known; the first one is one frame, the others `temporal_compression_ratio`.
        num_frames: Frames of clips, where no latents say it; None is the checkpoint's.
        seed: Of the noise.
        num_inference_steps: Steps of the sampler; None is the checkpoint's.
        guidance_scale: Of classifier-free guidance by the prompt.
        sampler: One of SAMPLERS, or a function like those; None is the checkpoint's.
    """
    s, ratio, b = pipe.scheduler, pipe.vae.config.temporal_compression_ratio, len(prompts)
    channels = pipe.transformer.config.side_channels
    shape = pipe.latent_shape(num_frames or s.num_frames, s.height, s.width)
    shape = shape if latents is None else tuple(latents.shape[1:])
    states = find_states(mode, shape[1], context)
    network = JointNetwork(transformer=pipe.transformer, absent=states.absent.to(pipe.device))
    rows = torch.zeros(b, shape[1], channels) if side is None else rows_of_latents(side, ratio)
    known = torch.zeros(b, *shape) if latents is None else latents
    check_known(states, mode, latents is None, side is None, known, rows, (b, shape[1], channels))
    generators = [sample_generator(seed, i) for i in range(b)]
    noise = join_streams(draw_per_sample(shape, generators), draw_per_sample(rows.shape[1:], generators))
    times = pipe.times_for(shape, num_inference_steps, guidance_scale)
    tokens = (pipe.tokens_of(shape) + 1) * shape[1]
    denoise = pipe.denoiser(list(prompts), "", Guidance(scale=guidance_scale), tokens, times=times, network=network)
    conditioning = FrameConditioning(
        latents=join_streams(known.float(), rows.float()),
        known=states.fixed[:, None, None].expand(-1, *shape[2:]),
    )
    both = sample_conditioned(
        find_solver(sampler or s.sampler),
        denoise,
        noise.to(pipe.device),
        times,
        pipe.path,
        conditioning,
        generator=generators,
    )
    x, out = split_streams(both.cpu(), channels)
    frames_wanted, rows_wanted = states.wanted
    return SideStreamOutput(
        latents=x if frames_wanted else None, side=values_of_rows(out, ratio) if rows_wanted else None
    )


def check_known(
    states: StreamStates,
    mode: str,
    no_latents: bool,
    no_side: bool,
    latents: Tensor,
    rows: Tensor,
    shape: tuple[int, int, int],
) -> None:
    """Raise VidgenError where a mode starts from what is missing, or of other clips: rows of `shape` (b, t, k)."""
    frames, side = states.known.chunk(2)
    for missing, needed, name in ((no_latents, frames, "latents"), (no_side, side, "side")):
        if missing and bool(needed.any()):
            raise VidgenError(f"mode {mode} starts from {name}: give them, or another mode or context")
    if tuple(rows.shape) != shape or len(latents) != shape[0]:
        raise VidgenError(
            f"{shape[0]} prompts, latents {tuple(latents.shape)}, a side stream of rows {tuple(rows.shape)}: give one "
            f"of each a clip, and rows of {shape[1:]}"
        )


def encode_clips(pipe: VideoPipeline, clips: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b c t h w"]:
    """Return the latents of clips in [-1, 1], in float32 on the CPU."""
    with torch.inference_mode():
        return pipe.vae.encode(clips.to(pipe.vae.device, pipe.vae.dtype)).latents.float().cpu()


def decode_clips(pipe: VideoPipeline, latents: Float[Tensor, "b c t h w"], num_frames: int) -> list[np.ndarray]:
    """Return the uint8 frames (T, H, W, 3) of latents."""
    f = pipe.vae.config.spatial_compression_ratio
    return pipe.decode(latents.to(pipe.vae.device), num_frames, latents.shape[3] * f, latents.shape[4] * f)
