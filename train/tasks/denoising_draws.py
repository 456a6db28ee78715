"""The random numbers of a batch of the denoising loss: levels, noise, and what of clips is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vidgen.diffusion.noise import TimeDistribution
from vidgen.models.causal_attention import Chunks, chunk_ends


def draw_clean_frames(b: int, frames: int, share: float, generator: torch.Generator) -> Bool[Tensor, "b t"]:
    """Draw which latent frames of a batch are clean, in about `share` of the clips: the first one, the first and the
    last, those up to some moment, or any (each with probability 1/4). At least one frame is left to be denoised."""
    chance, moment, kind = (torch.rand(b, 1, generator=generator) for _ in range(3))
    index = torch.arange(frames)
    first = (index == 0).expand(b, frames)
    ends = first | (index == frames - 1)
    past = index < 1 + (moment * (frames - 1)).floor()
    some = torch.rand(b, frames, generator=generator) < 0.5
    patterns = torch.stack([first, ends, past, some])  # kind b t
    clean = patterns[(kind[:, 0] * len(patterns)).long(), torch.arange(b)]
    return clean & ~clean.all(dim=1, keepdim=True) & (chance < share)


def draw_own_levels(
    time: TimeDistribution, b: int, frames: int, chunks: Chunks, generator: torch.Generator
) -> Float[Tensor, "b t"]:
    """Draw a noise level for each latent frame, or for each chunk of a causal denoiser (diffusion forcing)."""
    if not any(chunks):
        return time.sample((b, frames), generator)
    ends = torch.tensor([0, *chunk_ends(frames, chunks)])
    return time.sample((b, len(ends) - 1), generator).repeat_interleave(ends.diff(), dim=1)


def context_frames(batch: dict[str, Any]) -> int:
    """Return how many latent frames of a batch come before the last scene of its stories; 0 for other clips."""
    scenes = 1 + len(batch.get("earlier", [()])[0])
    frames = batch["latents"].shape[2]
    return 1 + (frames - 1) // scenes * (scenes - 1) if scenes > 1 else 0


@dataclass(frozen=True, kw_only=True)
class Draw:
    """The random numbers of a batch: `dropped` captions, noise levels `t` (0 for clean frames), the noise `eps`, and
    with generation tasks the cells that are `known`."""

    dropped: Bool[Tensor, " b"]
    t: Float[Tensor, "b t"]
    eps: Float[Tensor, "b c t h w"]
    known: Bool[Tensor, "b t h w"] | None = None


def put_behind(
    context: Float[Tensor, "b c t h w"],
    x0: Float[Tensor, "b c t h w"],
    t: Float[Tensor, "b t"],
    eps: Float[Tensor, "b c t h w"],
    known: Bool[Tensor, "b t h w"],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return clips behind others that are known, as they are denoised: latents, levels, noise, and what is known."""
    return (
        torch.cat([context, x0], dim=2),
        torch.cat([torch.zeros_like(t), t], dim=1),
        torch.cat([torch.zeros_like(eps), eps], dim=2),
        torch.cat([torch.ones_like(known), known], dim=1),
    )
