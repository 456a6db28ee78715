"""Frame conditioning: what is known of clips before they are sampled, in latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.samplers.solvers.stepping import Clip


@dataclass(frozen=True, kw_only=True)
class FrameConditioning:
    """What is known of clips before they are sampled. Raises VidgenError for a noise level that is none.

    Args:
        latents: Clean latents, of one clip for all (n = 1) or of each.
        known: The cells that stay as they are there. The others begin as noise.
        strength: Below 1, the others begin as `latents` at this noise level instead (Meng et al. 2022, SDEdit).
        context_noise: The level at which the network is shown known frames; a little of it hides the small errors of
            frames that were themselves sampled (Chen et al. 2024).
        release: The level below which known parts of frames are free again; above it they lead the clip (Singer et al.
            2025, Time-to-Move, with `strength` below 1 for the other cells). Whole frames are kept.
        correct: Optional function applied to every estimate x0, for knowledge that is not per cell (e.g. a blurred
            observation).
    """

    latents: Float[Tensor, "n c t h w"]
    known: Bool[Tensor, "t h w"]
    strength: float = 1.0
    context_noise: float = 0.0
    release: float = 0.0
    correct: Callable[[Clip], Clip] | None = None

    def __post_init__(self) -> None:
        check_strength(self.strength)
        if not 0.0 <= self.context_noise < 1.0:
            raise VidgenError(f"context_noise is {self.context_noise}; it is a noise level of 0 or more, below 1")
        if not 0.0 <= self.release <= 1.0:
            raise VidgenError(f"release is {self.release}; it is a noise level of 0 to 1")
        if self.latents.shape[2:] != self.known.shape:
            raise ValueError(f"known {tuple(self.known.shape)} is not for latents {tuple(self.latents.shape)}")

    @property
    def frames(self) -> Bool[Tensor, " t"]:
        """The frames that are known whole."""
        return self.known.flatten(1).all(1)

    def part(self, start: int, stop: int) -> FrameConditioning | None:
        """Return the conditioning of latent frames `start` to `stop` alone; None where there is none of them.

        Raises VidgenError for knowledge of the whole clip that no part of it has.
        """
        if self.correct is not None:
            raise VidgenError("this conditioning is of the whole clip, and a causal model makes it chunk by chunk")
        known, latents = self.known[start:stop], self.latents[:, :, start:stop]
        later = (0, 0, 0, 0, 0, stop - start - len(known))  # frames behind the last one, of which none is known
        known, latents = F.pad(known, later), F.pad(latents, later)
        if self.strength == 1.0 and not bool(known.any()):
            return None
        return replace(self, latents=latents, known=known)

    @classmethod
    def of_first(
        cls, latents: Float[Tensor, "n c k h w"], num_latents: int, context_noise: float = 0.0
    ) -> FrameConditioning:
        """Return the conditioning of clips of `num_latents` latent frames by their first k."""
        count = latents.shape[2]
        rest = latents.new_zeros(*latents.shape[:2], num_latents - count, *latents.shape[3:])
        known = torch.zeros(num_latents, *latents.shape[3:], dtype=torch.bool)
        known[:count] = True
        return cls(latents=torch.cat([latents, rest], dim=2), known=known, context_noise=context_noise)

    @classmethod
    def of_start(cls, latents: Float[Tensor, "n c t h w"], strength: float, **settings: Any) -> FrameConditioning:
        """Return the conditioning of clips that start from `latents` at noise level `strength`, with nothing known."""
        known = torch.zeros(latents.shape[2:], dtype=torch.bool)
        return cls(latents=latents, known=known, strength=strength, **settings)

    def after(self, context: Float[Tensor, "n c k h w"]) -> FrameConditioning:
        """Return the same of clips with k known frames, `context`, before them."""
        count = context.shape[2]
        known = torch.cat([torch.ones(count, *self.known.shape[1:], dtype=torch.bool), self.known])
        latents = torch.cat([context.to(self.latents), self.latents], dim=2)
        correct = self.correct
        if correct is not None:

            def correct(x0: Clip) -> Clip:
                return torch.cat([x0[:, :, :count], self.correct(x0[:, :, count:])], dim=2)

        return replace(self, latents=latents, known=known, correct=correct)


def check_strength(strength: float) -> None:
    """Raise VidgenError unless 0 < strength <= 1."""
    if not 0.0 < strength <= 1.0:
        raise VidgenError(
            f"strength is {strength}; it must lie in (0, 1]: close to 0 keeps the video, 1 keeps nothing of it"
        )
