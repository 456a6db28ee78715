"""Bottlenecks: what stands between encoder and decoder, by name, behind one interface and one result type.

Continuous: `ae`, `kl`. Discrete: `vq` and `residual` with learned codebooks (see `vector_quantizer`), `fsq`, `lfq`,
`bsq` and `residual` with implicit ones (see `implicit_quantizers`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

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
        mean, logvar = h.to(torch.promote_types(h.dtype, torch.float32)).chunk(2, dim=1)
        posterior = Gaussian(mean=mean.to(h.dtype), logvar=(logvar + self.start).clamp(*self.bounds).to(h.dtype))
        latents = posterior.sample(generator) if sample else posterior.mean
        return BottleneckOutput(latents=latents, posterior=posterior, losses={"kl": posterior.kl().float().mean()})


def residual(
    latent_channels: int, *, quantizers: int, codebook_size: int = 0, levels: tuple[int, ...] = ()
) -> ResidualVQ | ResidualFSQ:
    """Codes of what the codes before left over: of `vq` where `codebook_size` is given, of `fsq` where `levels` are."""
    if bool(codebook_size) == bool(levels):
        raise VidgenError("bottleneck 'residual' needs one of codebook_size (residual vq) and levels (residual fsq)")
    if levels:
        return ResidualFSQ(latent_channels, quantizers=quantizers, levels=levels)
    return ResidualVQ(latent_channels, quantizers=quantizers, codebook_size=codebook_size)


BOTTLENECKS: dict[str, Callable[..., nn.Module]] = {
    "ae": AE,
    "kl": KL,
    "vq": VQ,
    "fsq": FSQ,
    "lfq": LFQ,
    "bsq": BSQ,
    "residual": residual,
}


EXAMPLES = {"codebook_size": "codebook_size=8192", "levels": "levels=(8, 8, 8, 5, 5, 5)", "quantizers": "quantizers=4"}


def build_bottleneck(
    name: str,
    latent_channels: int,
    *,
    codebook_size: int = 0,
    levels: tuple[int, ...] = (),
    quantizers: int = 0,
    plain_logvar: bool = False,
) -> nn.Module:
    """The bottleneck `name` between `latent_channels` channels; settings that are 0, empty or False are not given.

    Raises VidgenError for an unknown name, a setting that the bottleneck has no use for, and one that it lacks.
    """
    if name not in BOTTLENECKS:
        raise VidgenError(f"bottleneck {name!r} is unknown; choose one of {', '.join(BOTTLENECKS)}")
    if latent_channels < 1:
        raise VidgenError(f"latent_channels={latent_channels}: a latent has one channel at least")
    settings = {
        "codebook_size": codebook_size,
        "levels": tuple(levels),
        "quantizers": quantizers,
        "plain_logvar": plain_logvar,
    }
    given = {key: value for key, value in settings.items() if value}
    known = inspect.signature(BOTTLENECKS[name]).parameters
    if useless := [key for key in given if key not in known]:
        raise VidgenError(f"bottleneck {name!r} has no {useless[0]} (given: {given[useless[0]]}); leave it out")
    needed = [key for key in settings if key in known and known[key].default is inspect.Parameter.empty]
    if lacking := [key for key in needed if key not in given]:
        raise VidgenError(f"bottleneck {name!r} needs {lacking[0]}, e.g. {EXAMPLES[lacking[0]]}")
    return BOTTLENECKS[name](latent_channels, **given)


def describe_size(bottleneck: nn.Module, latent_channels: int) -> str:
    """What a bottleneck lets through, for names: "16ch", or the codes of a codebook: "64k", "1000", "4x1k".

    k is 1,024 or 1,000, whichever divides the size: (8, 8, 8, 5, 5, 5) are 64k, and so are 2^16.
    """
    if not isinstance(bottleneck, Quantizer):
        return f"{latent_channels}ch"
    size = bottleneck.codebook_size
    unit = next((unit for unit in (1024, 1000) if size % unit == 0), None)
    codes = f"{size // unit}k" if unit else f"{size}"
    return codes if bottleneck.quantizers is None else f"{bottleneck.quantizers}x{codes}"
