"""Clips of any length, window by window: each window is sampled after the last latent frames of the one before."""

from __future__ import annotations

import inspect
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vidgen.bounds import Count, Frames, Range, check_fields
from vidgen.data.frames import Fit, fit_frame, to_tensor
from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.interfaces import Tokenizer
from vidgen.models.dit.label_embedding import task_labels
from vidgen.models.placement import device_of
from vidgen.pipelines.streaming.chunk_sampler import ContextConfig, is_causal
from vidgen.pipelines.streaming.chunks import Chunk, PromptSchedule, prompt_at, read_prompts
from vidgen.pipelines.streaming.stream import stream
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.conditioning.frame_conditioning import FrameConditioning, check_strength
from vidgen.samplers.conditioning.generation_tasks import IMAGE_TO_VIDEO, PREDICTION
from vidgen.samplers.conditioning.read_pixels import Image, Video, read_frame_conditioning

Rollout = Generator[Chunk, str | None, None]  # what is sent is the prompt from the next window or chunk on

STREAM_ARGUMENTS = frozenset(inspect.signature(stream).parameters)


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """How a long clip is cut. `num_frames` of a window, None: the model's own. `overlap`: latent frames that it shares
    with the window before, 1 or more; None: half of them. `context_noise`: see `FrameConditioning`."""

    num_frames: Frames | None = None
    overlap: Count | None = None
    context_noise: Annotated[float, Range(0.0, 1.0, below=True)] = 0.0

    def __post_init__(self) -> None:
        check_fields(self)

    def overlap_of(self, latent_frames: int) -> int:
        """Return the overlap of windows of so many latent frames. Raises VidgenError where they could not go on."""
        overlap = max(1, latent_frames // 2) if self.overlap is None else self.overlap
        if not 1 <= overlap < latent_frames:
            raise VidgenError(
                f"windows of {latent_frames} latent frames cannot overlap by {overlap}; "
                f"{f'choose 1 to {latent_frames - 1}' if latent_frames > 1 else 'make them longer'}"
            )
        return overlap


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A clip of other resolution, or of another model, that every window starts from at noise level `strength`: what
    is larger than the noise stays, and what is finer is made anew. `fit`: how its frames get to the clip's size."""

    frames: UInt8[np.ndarray, "T h w 3"]
    strength: float
    fit: Fit = "crop"

    def __post_init__(self) -> None:
        check_strength(self.strength)

    def latents(self, vae: Tokenizer, first: int, size: tuple[int, int, int]) -> Float[Tensor, "1 c t h w"]:
        """Return those of the `size` (frames, height, width) of a window from frame `first` on.

        The last frame stands for those that are not there.
        """
        numbers = np.arange(first, first + size[0]).clip(max=len(self.frames) - 1)
        frames = np.stack([fit_frame(frame, size[1:], self.fit) for frame in self.frames[numbers]])
        return vae.encode(to_tensor(frames)[None].to(device_of(vae))).latents

    def under(self, conditioning: FrameConditioning | None, latents: Float[Tensor, "1 c t h w"]) -> FrameConditioning:
        """Return conditioning that starts from these latents wherever nothing is known."""
        if conditioning is None:
            return FrameConditioning.of_start(latents, self.strength)
        z = torch.where(conditioning.known.to(latents.device), conditioning.latents.to(latents), latents)
        return replace(conditioning, latents=z, strength=self.strength)


def reencode_context(
    pipe: VideoPipeline,
    frames: UInt8[np.ndarray, "n H W 3"],
    latents: Float[Tensor, "1 c k h w"],
    num_latents: int,
    context_noise: float,
) -> FrameConditioning:
    """Return the conditioning of a window of `num_latents` that starts with `latents`, which decode to `frames` last.

    A window's first latent frame is one frame alone, as all that the model has seen in training: so the last frame of
    the first one is coded again, as an image. The others stay as they were sampled, and lose nothing on the way.
    """
    image = to_tensor(frames[-1 - (latents.shape[2] - 1) * pipe.vae.config.temporal_compression_ratio, None])
    first = pipe.vae.encode(image[None].to(device_of(pipe.vae))).latents
    z = torch.cat([first.to(latents), latents[:, :, 1:]], dim=2)
    return FrameConditioning.of_first(z, num_latents, context_noise)


def is_streamed(pipe: VideoPipeline, windows: WindowConfig) -> bool:
    """Return whether a pipeline makes long clips chunk by chunk: if it is causal, unless windows are to overlap."""
    return is_causal(pipe.transformer) and windows.overlap is None


def long_clip_maker(pipe: VideoPipeline, windows: WindowConfig, **settings: Any) -> VideoPipeline:
    """Return what makes long clips under these arguments of a call: of the pipeline's makers (see `maker`) a student
    only where it streams, since windows go on from frames that are given."""
    maker = pipe.maker(**settings)
    return maker if is_streamed(maker, windows) else pipe


@torch.inference_mode()
def rollout(
    pipe: VideoPipeline,
    prompt: str | PromptSchedule,
    num_frames: int,
    *,
    windows: WindowConfig = WindowConfig(),  # noqa: B008 (frozen)
    height: int | None = None,
    width: int | None = None,
    seed: int = 0,
    generator: torch.Generator | None = None,
    image: Image | None = None,
    video: Video | None = None,
    draft: Draft | None = None,
    **settings: Any,
) -> Rollout:
    """Yield one clip of `num_frames` in chunks: latents and frames of a window, and no more in memory than that.

    Windows are denoised with the frames that they share at noise level 0, or `context_noise` (Chen et al. 2024,
    diffusion forcing; here all new frames of a window share their level). The frames are those that the tokenizer
    decodes from all latents as one clip. Each window is sampled whole and takes its noise from one stream, so a longer
    clip of the same seed begins with the shorter one. A causal model makes a clip chunk by chunk instead, as `stream`
    does, unless it is to refine a draft or windows are to overlap: it sees `windows.num_frames` at once. What is sent
    into the generator is the prompt from there on.

    Raises VidgenError as the pipeline's call does, for prompts or windows that do not go on, and for a draft that is
    shorter than the clip.

    Args:
        pipe: A model with a noise level for each frame.
        prompt: One; or a schedule of several (Villegas et al. 2022, Phenaki), of which each holds from the first window
            whose new frames begin at its frame or later.
        num_frames: Of the clip.
        windows: How it is cut.
        height, width: In pixels; None is the model's own.
        seed: Of the noise; `generator` takes its place.
        image, video: The first window is `pipe(prompt, image=..., video=...)`.
        draft: A whole clip that this one refines: of a long one at low resolution, windows at high resolution keep the
            course (two phases, as in Brooks et al. 2022, Generating Long Videos of Dynamic Scenes). It does not know
            how the window before was refined, which costs some likeness across seams.
        settings: Go to the pipeline's call.
    """
    pixels = {"image": image, "video": video}
    unknown = {name for name, value in settings.items() if value is not None} - STREAM_ARGUMENTS
    if is_streamed(pipe, windows) and draft is None and not unknown:
        seen = None if windows.num_frames is None else pipe.latent_frames(windows.num_frames)
        context = ContextConfig(window=seen, context_noise=windows.context_noise)
        own = {name: value for name, value in settings.items() if name in STREAM_ARGUMENTS}
        own |= {"height": height, "width": width, "seed": seed, "generator": generator, **pixels}
        yield from stream(pipe, prompt, num_frames, context=context, **own)
        return
    schedule, s = read_prompts(prompt), pipe.scheduler
    size = (windows.num_frames or s.num_frames, height or s.height, width or s.width)
    window, f_t = pipe.latent_shape(*size)[1], pipe.vae.config.temporal_compression_ratio
    if num_frames < 1:
        raise VidgenError(f"num_frames is {num_frames}; it must be 1 or more")
    total = pipe.latent_frames(num_frames)
    if total > window and not pipe.vae.streams:
        raise VidgenError(
            f"a clip of {num_frames} frames is made window by window, and {pipe.vae.config.name} decodes in one go: "
            f"{size[0]} frames at most, or more in a window"
        )
    if draft is not None and len(draft.frames) < num_frames:
        raise VidgenError(f"the draft has {len(draft.frames)} frames, and the clip {num_frames}; ask for no more")
    overlap = windows.overlap_of(window) if total > window else 0
    if overlap:  # before the first window: the error of a model that cannot make the second
        task_labels(pipe.transformer, [PREDICTION if overlap > 1 else IMAGE_TO_VIDEO])
    noise = generator or sample_generator(seed, 0)
    conditioning = read_frame_conditioning(pipe.vae, size, image=image, video=video)
    settings |= {"num_frames": size[0], "height": size[1], "width": size[2], "generator": [noise]}
    done, shared, state = 0, 0, None  # latent frames of the clip, and of the next window those that are among them
    while done < total:
        start = 0 if done == 0 else 1 + (done - 1) * f_t
        holds = prompt_at(schedule, start)
        if draft is not None:
            first = max(done - shared, 0) * f_t  # the window's first latent frame is one frame, the last of its own
            conditioning = draft.under(conditioning, draft.latents(pipe.vae, first, size))
        latents = pipe(holds, conditioning=conditioning, output_type="latent", **settings).latents
        new = latents[:, :, shared : shared + total - done]
        decoded = list(pipe.decode_onwards(new, state))
        frames, state = np.concatenate([part for part, _ in decoded]), decoded[-1][1]
        done += new.shape[2]
        switch = yield Chunk(latents=new, frames=frames[: num_frames - start], start=start, prompt=holds)
        schedule = schedule if switch is None else [(0, switch)]
        if done < total:
            shared = overlap
            # The frame that stands for the first shared latent may be of the chunk before, where few are new.
            tail = frames if start == 0 else np.concatenate([tail, frames])
            tail = tail[-1 - (overlap - 1) * f_t :].copy()
            conditioning = reencode_context(pipe, tail, latents[:, :, -overlap:], window, windows.context_noise)
