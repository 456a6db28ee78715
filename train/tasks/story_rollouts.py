"""Stories of a causal student: scene after scene of its own, each under its prompt, from a cache of its own frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.interfaces import Denoiser, Tokenizer
from vidgen.models.causal_attention import iter_chunks
from vidgen.models.placement import dtype_of
from vidgen.models.text.encoders import TextEncoding
from vidgen.pipelines.output import decode_pixels
from vidgen.pipelines.streaming.chunk_sampler import CausalNetwork

Run = Callable[[Denoiser, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Story:
    """What a student goes on from: latents of a clip's first scene, and the texts of the scenes that follow."""

    opening: Float[Tensor, "b c t h w"]
    texts: Sequence[TextEncoding]

    @property
    def scene_frames(self) -> int:
        """Latent frames of each scene after the first."""
        return self.opening.shape[2] - 1


def make_chunks(
    past: CausalNetwork,
    denoise: Denoiser,
    run: Run,
    noise: Float[Tensor, "b c t h w"],
    *,
    done: int = 0,
    goes_on: bool = False,
) -> Float[Tensor, "b c t h w"]:
    """Return what `run` makes of noise chunk by chunk, each from the cache of those before, through which no gradients
    go (Self-Forcing, Huang et al. 2025, section 3.2).

    `done` latent frames are already there, in whole chunks; the last chunk joins them where the clip `goes_on`.
    """
    chunks, total = [], done + noise.shape[2]
    for start, stop in iter_chunks(past.config.causal_chunks, total):
        if start >= done:
            chunks.append(run(denoise, noise[:, :, start - done : stop - done]))
            if stop < total or goes_on:
                past.extend(chunks[-1].detach())
    return torch.cat(chunks, dim=2)


def roll_out_story(
    story: Story,
    past: CausalNetwork,
    denoiser: Callable[[CausalNetwork, TextEncoding], Denoiser],
    run: Run,
    noise: Float[Tensor, "b c t h w"],
    tokenizer: Tokenizer,
) -> Float[Tensor, "b c t h w"]:
    """Return the last scene of a story as latents of a clip of its own, such as teachers know: before the student's
    frames, the one that they go on from is coded as an image. Gradients go through the last scene alone.

    Args:
        story: The opening and the texts.
        past: The student, without frames.
        denoiser: Makes that of the student for a text; it encodes again the frames that are still seen.
        run: Makes a chunk of noise.
        noise: Of as many latent frames as the whole story has.
        tokenizer: Of the latents.
    """
    done, latents = story.opening.shape[2], story.opening
    for start, stop in iter_chunks(past.config.causal_chunks, done):
        past.extend(latents[:, :, start:stop])
    for number, text in enumerate(story.texts):
        is_last = number == len(story.texts) - 1
        part = noise[:, :, done : done + story.scene_frames]
        past.texts.clear()
        with torch.set_grad_enabled(is_last and torch.is_grad_enabled()):
            scene = make_chunks(past, denoiser(past, text), run, part, done=done, goes_on=not is_last)
        if not is_last:
            latents = torch.cat([latents, scene], dim=2)
        done += story.scene_frames
    return torch.cat([code_last_frame(tokenizer, latents), scene], dim=2)


@torch.no_grad()
def code_last_frame(tokenizer: Tokenizer, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c 1 h w"]:
    """Return the last frame of latents as the latents of an image."""
    image = decode_pixels(tokenizer, latents.to(dtype_of(tokenizer)))[:, :, -1:]
    return tokenizer.encode(image.to(dtype_of(tokenizer))).latents.to(latents)
