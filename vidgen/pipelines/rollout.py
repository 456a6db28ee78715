"""Clips of any length, window by window: each window is sampled after the last latent frames of the one before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vidgen.data.frames import Fit, fit_frame, to_tensor
from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.conditioning.frames import Image, Video, read_conditions
from vidgen.samplers.conditioning.inpainting import Conditions, check_strength

PromptSchedule = Sequence[tuple[int, str]]  # (the frame from which it holds, prompt), in order


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """The next latents of a clip and the frames that they decode to; `start` is the number of the first of these."""

    latents: Float[Tensor, "1 c k h w"]
    frames: UInt8[np.ndarray, "n H W 3"]
    start: int
    prompt: str


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """How a long clip is cut. `num_frames` of a window, None: the model's own. `overlap`: latent frames that it shares
    with the window before, 1 or more; None: half of them. `context_noise`: see `Conditions`."""

    num_frames: int | None = None
    overlap: int | None = None
    context_noise: float = 0.0

    def overlap_of(self, latent_frames: int) -> int:
        """Raises VidgenError where windows of so many latent frames could not go on."""
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

    def latents(self, vae: Any, first: int, size: tuple[int, int, int]) -> Float[Tensor, "1 c t h w"]:
        """Of the `size` (frames, height, width) of a window from frame `first` on; the last frame stands for those that
        are not there."""
        places = np.arange(first, first + size[0]).clip(max=len(self.frames) - 1)
        frames = np.stack([fit_frame(frame, size[1:], self.fit) for frame in self.frames[places]])
        return vae.encode(to_tensor(frames)[None].to(next(vae.parameters()).device)).latents

    def under(self, given: Conditions | None, latents: Float[Tensor, "1 c t h w"]) -> Conditions:
        """Conditions that start from these latents wherever nothing is known."""
        if given is None:
            known = torch.zeros(latents.shape[2:], dtype=torch.bool)
            return Conditions(latents=latents, known=known, strength=self.strength)
        z = torch.where(given.known.to(latents.device), given.latents.to(latents), latents)
        return replace(given, latents=z, strength=self.strength)


def read_story(prompt: str | PromptSchedule) -> list[tuple[int, str]]:
    """A schedule of prompts. Raises VidgenError unless it starts at frame 0 and goes on from there."""
    story = [(0, prompt)] if isinstance(prompt, str) else list(prompt)
    starts = [start for start, _ in story]
    if not story or starts[0] != 0 or any(b <= a for a, b in zip(starts, starts[1:], strict=False)):
        raise VidgenError(
            f"prompts that hold from frames {starts}: the first must hold from 0, each next from a later one"
        )
    return story


def prompt_at(story: PromptSchedule, frame: int) -> str:
    """The prompt that holds at a frame."""
    return [prompt for start, prompt in story if start <= frame][-1]


def recode_context(
    pipe: VideoPipeline,
    frames: UInt8[np.ndarray, "n H W 3"],
    latents: Float[Tensor, "1 c k h w"],
    total: int,
    context_noise: float,
) -> Conditions:
    """Conditions of a window of `total` latent frames that starts with `latents`, which decode to `frames` last.

    A window's first latent frame is one frame alone, as all that the model has seen in training: so the last frame of
    the first one is coded again, as an image. The others stay as they were sampled, and lose nothing on the way.
    """
    count = latents.shape[2]
    image = to_tensor(frames[-1 - (count - 1) * pipe.vae.config.temporal_compression_ratio, None])
    first = pipe.vae.encode(image[None].to(next(pipe.vae.parameters()).device)).latents
    z = torch.cat([first.to(latents), latents[:, :, 1:]], dim=2)
    rest = z.new_zeros(*z.shape[:2], total - count, *z.shape[3:])
    known = torch.zeros(total, *z.shape[3:], dtype=torch.bool)
    known[:count] = True
    return Conditions(latents=torch.cat([z, rest], dim=2), known=known, context_noise=context_noise)


@torch.inference_mode()
def rollout(
    pipe: VideoPipeline,
    prompt: str | PromptSchedule,
    num_frames: int,
    *,
    windows: Windows = WindowConfig(),  # noqa: B008 (frozen)
    height: int | None = None,
    width: int | None = None,
    seed: int = 0,
    generator: torch.Generator | None = None,
    image: Image | None = None,
    video: Video | None = None,
    draft: Draft | None = None,
    **settings: Any,
) -> Iterator[Chunk]:
    """One clip of `num_frames`, in pieces: latents and frames of a window at a time, and no more in memory than that.

    Windows are denoised with the frames that they share at noise level 0, or `context_noise` (Chen et al. 2024,
    diffusion forcing; here all new frames of a window share their level). The frames are those that the tokenizer
    decodes from all latents as one clip. The first window is `pipe(prompt, image=..., video=...)`; each is sampled
    whole and takes its noise from one stream, so a longer clip of the same seed begins with the shorter one.
    A prompt of a story (Villegas et al. 2022, Phenaki) holds from the first window whose new frames begin at its frame
    or later. `draft` is a whole clip that this one refines: of a long one at low resolution, windows at high resolution
    keep the course (two phases, as in Brooks et al. 2022, Generating Long Videos of Dynamic Scenes). It does not know
    how the window before was refined, which costs some likeness across seams.
    `settings` go to the pipeline's call. Raises VidgenError as that does, for a story or windows that do not go on, and
    for a draft that is shorter than the clip.
    """
    story, s = read_story(prompt), pipe.scheduler
    size = (windows.num_frames or s.num_frames, height or s.height, width or s.width)
    shape, temporal_compression_ratio = pipe.latent_shape(*size), pipe.vae.config.temporal_compression_ratio
    if num_frames < 1:
        raise VidgenError(f"num_frames is {num_frames}; it must be 1 or more")
    wanted = 1 + -(-(num_frames - 1) // temporal_compression_ratio)
    if wanted > shape[1] and not getattr(pipe.vae, "streams", True):
        raise VidgenError(
            f"a clip of {num_frames} frames is made window by window, and {pipe.vae.config.name} decodes in one go: "
            f"{size[0]} frames at most, or more in a window"
        )
    if draft is not None and len(draft.frames) < num_frames:
        raise VidgenError(f"the draft has {len(draft.frames)} frames, and the clip {num_frames}; ask for no more")
    overlap = windows.overlap_of(shape[1]) if wanted > shape[1] else 0
    stream = generator or sample_generator(seed, 0)
    given = read_conditions(pipe.vae, size, image=image, video=video)
    done, shared, state = 0, 0, None
    while done < wanted:
        start = 0 if done == 0 else 1 + (done - 1) * temporal_compression_ratio
        holds = prompt_at(story, start)
        if draft is not None:
            first = (
                max(done - shared, 0) * temporal_compression_ratio
            )  # the window's first latent frame is one frame, the last of its own
            given = draft.under(given, draft.latents(pipe.vae, first, size))
        said = {"num_frames": size[0], "height": size[1], "width": size[2], "generator": [stream], "given": given}
        made = pipe(holds, **said, output_type="latent", **settings).latents
        new = made[:, :, shared : shared + wanted - done]
        decoded = list(pipe.decode_onwards(new, state))
        frames, state = np.concatenate([part for part, _ in decoded]), decoded[-1][1]
        done += new.shape[2]
        yield Chunk(latents=new, frames=frames[: num_frames - start], start=start, prompt=holds)
        if done < wanted:
            shared, last = overlap, made[:, :, -overlap:]
            # The frame that stands for the first shared latent may be of the piece before, where few are new.
            tail = frames if start == 0 else np.concatenate([tail, frames])
            tail = tail[-1 - (overlap - 1) * temporal_compression_ratio :].copy()
            given = recode_context(pipe, tail, last, shape[1], windows.context_noise)
