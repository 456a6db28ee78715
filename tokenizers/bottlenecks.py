"""Bottlenecks: what stands between encoder and decoder, behind one interface and one result type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.noise import draw_normal


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """Diagonal Gaussian posterior, `mean` and `logvar` of shape (b, c, t, h, w)."""

    mean: Float[Tensor, "b c t h w"]
    logvar: Float[Tensor, "b c t h w"]

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "b c t h w"]:
        """mean + std * noise, with the noise drawn on CPU in float32 from `generator`."""
        noise = draw_normal(self.mean.shape, generator).to(self.mean)
        return self.mean + torch.exp(0.5 * self.logvar) * noise

    def kl(self) -> Float[Tensor, "b c t h w"]:
        """KL divergence from the standard normal, nats per element (Kingma & Welling 2014, appendix B)."""
        return 0.5 * (self.mean**2 + self.logvar.exp() - 1.0 - self.logvar)


@dataclass(frozen=True, kw_only=True)
class BottleneckOutput:
    """What every bottleneck returns: `latents` for the decoder, integer `indices` or None, `posterior` or None,
    and named `losses` (scalars) that training weighs."""

    latents: Float[Tensor, "b c t h w"]
    indices: Int[Tensor, "b t h w"] | None = None
    posterior: Gaussian | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)


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
    """Gaussian posterior (Kingma & Welling 2014): latents are its mode, or a draw where `sample`."""

    def __init__(self, latent_channels: int) -> None:
        super().__init__()
        self.channels_in = 2 * latent_channels

    def forward(self, h: Tensor, *, sample: bool = False, generator: torch.Generator | None = None) -> BottleneckOutput:
        mean, logvar = h.float().chunk(2, dim=1)
        # Bounds keep exp() finite in every dtype; trained models stay far inside of them.
        posterior = Gaussian(mean=mean.to(h.dtype), logvar=(logvar + LOGVAR_START).clamp(-20.0, 10.0).to(h.dtype))
        latents = posterior.sample(generator) if sample else posterior.mean
        return BottleneckOutput(latents=latents, posterior=posterior, losses={"kl": posterior.kl().float().mean()})


BOTTLENECKS: dict[str, Callable[..., nn.Module]] = {"ae": AE, "kl": KL}
