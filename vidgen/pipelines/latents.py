"""Latents of a call: the noise that they begin as, and their way to pixels, latent frame by latent frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.noise import draw_per_sample
from vidgen.errors import VidgenError
from vidgen.interfaces import Tokenizer
from vidgen.models.placement import device_of
from vidgen.samplers.finite import require_finite


def draw_noise(
    shape: tuple[int, ...], generators: Sequence[torch.Generator], latents: Tensor | None
) -> Float[Tensor, "b c t h w"]:
    """Return the first noise of clips, from one generator a clip; `latents`, if there are any, in its place.

    Raises VidgenError for another number of generators, and for latents of another shape, or not finite.
    """
    if len(generators) != shape[0]:
        raise VidgenError(f"{len(generators)} generators for {shape[0]} clips; give one a clip")
    noise = draw_per_sample(shape[1:], generators)  # also where it is not used, so that later noise is not the first
    if latents is None:
        return noise
    require_finite(latents, "the latents given hold", "start from others")
    if tuple(latents.shape) != shape:
        raise VidgenError(f"latents are {tuple(latents.shape)}, {shape[0]} clips of {shape[1:]} are asked for")
    return latents


def iter_decoded(
    vae: Tokenizer, latents: Float[Tensor, "b c t h w"], state: Any = None
) -> Iterator[tuple[Float[Tensor, "b 3 k H W"], Any]]:
    """Yield (pixels, the tokenizer's state after them) of one latent frame after the other; state None starts a clip.

    Of a tokenizer that does not stream, all of them at once.
    """
    count = 1 if vae.streams else latents.shape[2]
    for z in latents.to(device_of(vae)).split(count, dim=2):
        x, state = vae.decode_chunk(z, state)
        yield x, state


def decode_pixels(vae: Tokenizer, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 3 T H W"]:
    """Return all frames of latents in float32, clamped to [-1, 1]."""
    return torch.cat([x.float() for x, _ in iter_decoded(vae, latents)], dim=2).clamp(-1.0, 1.0)
