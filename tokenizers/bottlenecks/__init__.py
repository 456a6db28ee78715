"""Bottlenecks between encoder and decoder, by name, behind one interface and one result type.

Continuous: `ae`, `kl`. Discrete: `vq` and `residual` with learned codebooks (see `vector_quantizer`), `fsq`, `lfq`,
`bsq` and `residual` with implicit ones (see `implicit_quantizers`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from vidgen.errors import VidgenError
from vidgen.tokenizers.bottlenecks.implicit_quantizers import BSQ, FSQ, LFQ
from vidgen.tokenizers.bottlenecks.output import BottleneckOutput, Gaussian, Quantizer
from vidgen.tokenizers.bottlenecks.residual_fsq import ResidualFSQ
from vidgen.tokenizers.bottlenecks.vector_quantizer import VQ, ResidualVQ

# Added to the encoder's log-variance: a fresh network then draws with a standard deviation of e^-3, where unit
# noise would drown its latents and hold up the first thousand steps.
LOGVAR_START = -6.0


class AE(nn.Module):
    """No constraint: the encoder's output is the latent."""

    def __init__(self, latent_channels: int) -> None:
        super().__init__()
        self.channels_in = latent_channels

    def forward(self, h: Tensor, *, sample: bool = False, generator: torch.Generator | None = None) -> BottleneckOutput:
        """Return `h` as the latents; there is nothing to `sample`."""
        return BottleneckOutput(latents=h)


class KL(nn.Module):
    """Gaussian posterior (Kingma & Welling 2014): latents are its mode, or a draw where `sample`.

    plain_logvar: the encoder gives the log-variance itself, as published autoencoders do.
    """

    def __init__(self, latent_channels: int, *, plain_logvar: bool = False) -> None:
        super().__init__()
        self.channels_in = 2 * latent_channels
        # Bounds keep exp() finite in every dtype; trained models stay far inside of them.
        self.start, self.bounds = (0.0, (-30.0, 20.0)) if plain_logvar else (LOGVAR_START, (-20.0, 10.0))

    def forward(self, h: Tensor, *, sample: bool = False, generator: torch.Generator | None = None) -> BottleneckOutput:
        """Return mode or draw, the posterior, and `kl`, its mean divergence from the standard normal in nats."""
        mean, logvar = h.to(torch.promote_types(h.dtype, torch.float32)).chunk(2, dim=1)
        posterior = Gaussian(mean=mean.to(h.dtype), logvar=(logvar + self.start).clamp(*self.bounds).to(h.dtype))
        latents = posterior.sample(generator) if sample else posterior.mean
        return BottleneckOutput(latents=latents, posterior=posterior, losses={"kl": posterior.kl().float().mean()})


def residual(
    latent_channels: int, *, quantizers: int, codebook_size: int = 0, levels: tuple[int, ...] = ()
) -> ResidualVQ | ResidualFSQ:
    """Return a residual quantizer: of `vq` where `codebook_size` is given, of `fsq` where `levels` are."""
    if bool(codebook_size) == bool(levels):
        raise VidgenError("bottleneck 'residual' needs one of codebook_size (residual vq) and levels (residual fsq)")
    if levels:
        return ResidualFSQ(latent_channels, quantizers=quantizers, levels=levels)
    return ResidualVQ(latent_channels, quantizers=quantizers, codebook_size=codebook_size)


@dataclass(frozen=True)
class Bottleneck:
    """One kind of bottleneck: `build(latent_channels, **settings)` makes the module, and so does calling it.

    `example` has a usual value of every setting that it cannot do without, for errors to name.
    """

    build: Callable[..., nn.Module]
    example: dict[str, Any] = field(default_factory=dict)

    def __call__(self, latent_channels: int, **settings: Any) -> nn.Module:
        """Return the module between `latent_channels` channels."""
        return self.build(latent_channels, **settings)

    @property
    def settings(self) -> set[str]:
        """The names of the settings that it takes."""
        return set(inspect.signature(self.build).parameters) - {"latent_channels"}


BOTTLENECKS: dict[str, Bottleneck] = {
    "ae": Bottleneck(AE),
    "kl": Bottleneck(KL),
    "vq": Bottleneck(VQ, {"codebook_size": 8192}),
    "fsq": Bottleneck(FSQ, {"levels": (8, 8, 8, 5, 5, 5)}),
    "lfq": Bottleneck(LFQ),
    "bsq": Bottleneck(BSQ),
    "residual": Bottleneck(residual, {"quantizers": 4}),
}


def build_bottleneck(name: str, latent_channels: int, **settings: Any) -> nn.Module:
    """Return the bottleneck `name` between `latent_channels` channels; settings that are 0, empty or False count as
    left out.

    Raises VidgenError for an unknown name, a setting that the bottleneck has no use for, and one that it lacks.
    """
    if name not in BOTTLENECKS:
        raise VidgenError(f"bottleneck {name!r} is unknown; choose one of {', '.join(BOTTLENECKS)}")
    if latent_channels < 1:
        raise VidgenError(f"latent_channels={latent_channels}: a latent has one channel at least")
    bottleneck = BOTTLENECKS[name]
    chosen = {key: value for key, value in settings.items() if value}
    if useless := [key for key in chosen if key not in bottleneck.settings]:
        raise VidgenError(f"bottleneck {name!r} has no {useless[0]} (given: {chosen[useless[0]]}); leave it out")
    if lacking := [key for key in bottleneck.example if key not in chosen]:
        raise VidgenError(f"bottleneck {name!r} needs {lacking[0]}, e.g. {lacking[0]}={bottleneck.example[lacking[0]]}")
    return bottleneck(latent_channels, **chosen)


def describe_size(bottleneck: nn.Module, latent_channels: int) -> str:
    """Return how much a bottleneck lets through, for names: "16ch", or the codes of a codebook: "64k", "1000", "4x1k".

    k is 1,024 or 1,000, whichever divides the size: (8, 8, 8, 5, 5, 5) are 64k, and so are 2^16.
    """
    if not isinstance(bottleneck, Quantizer):
        return f"{latent_channels}ch"
    size = bottleneck.codebook_size
    unit = next((unit for unit in (1024, 1000) if size % unit == 0), None)
    codes = f"{size // unit}k" if unit else f"{size}"
    return codes if bottleneck.quantizers is None else f"{bottleneck.quantizers}x{codes}"
