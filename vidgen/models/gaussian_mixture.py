"""Continuous tokens as a mixture of diagonal Gaussians: likelihood, draws, mean and mode; a head that predicts one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.diffusion.noise import draw_normal

# Log-variances are held in this range: a component on a single training token would otherwise shrink without end, as
# the likelihood of a mixture has no bound.
LOGVAR_RANGE = (-14.0, 14.0)


@dataclass(frozen=True, kw_only=True)
class GaussianMixture:
    """p(x) = sum_k pi_k prod_d N(x_d; mean_kd, var_kd), one for each token; `logits` are log pi up to a constant.

    Ge et al. 2024 (Divot), section 3.3, for features of a tokenizer; Tschannen et al. 2023 (GIVT), section 3.2. All of
    it is computed in float32, or in float64 where that is what comes in.
    """

    logits: Float[Tensor, "*n k"]
    mean: Float[Tensor, "*n k d"]
    logvar: Float[Tensor, "*n k d"]

    def component_log_prob(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n k"]:
        """log pi_k + log N(x; mean_k, var_k) in nats."""
        x = x.to(self.mean.dtype)[..., None, :]
        squares = (x - self.mean).square() * torch.exp(-self.logvar)
        densities = -0.5 * (squares + self.logvar + math.log(2.0 * math.pi)).sum(-1)
        return self.logits.log_softmax(-1) + densities

    def log_prob(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n"]:
        """log p(x) of each token in nats, all its channels together."""
        return self.component_log_prob(x).logsumexp(-1)

    def nll(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n"]:
        """Negative log-likelihood of each token, nats: the loss."""
        return -self.log_prob(x)

    def average(self) -> Float[Tensor, "*n d"]:
        """The mean of the distribution, sum_k pi_k mean_k."""
        return (self.logits.softmax(-1)[..., None] * self.mean).sum(-2)

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "*n d"]:
        """A draw for each token: its component by inverting the cumulative weights, then the Gaussian. Both random
        numbers are drawn on CPU from `generator`."""
        cumulative = self.logits.softmax(-1).cumsum(-1)
        u = torch.rand(self.logits.shape[:-1], generator=generator).to(cumulative)
        # Below the last sum, which rounding may leave under 1.
        chosen = torch.searchsorted(cumulative[..., :-1].contiguous(), u[..., None], right=True)
        mean, logvar = (take_component(v, chosen) for v in (self.mean, self.logvar))
        return mean + torch.exp(0.5 * logvar) * draw_normal(mean.shape, generator).to(mean)

    def mode(self, steps: int = 100) -> Float[Tensor, "*n d"]:
        """The point of highest density that hill climbing finds from the mean of every component.

        Each climbs by the fixed-point iteration of Carreira-Perpinan 2000 (section 4), which never goes down. Diagonal
        mixtures can have modes that no component leads to, in two dimensions or more; those are not found.
        """
        precision = torch.exp(-self.logvar)  # *n k d
        x = self.mean  # *n m d, one climber a component
        whole = GaussianMixture(logits=self.logits[..., None, :], mean=self.mean[..., None, :, :],
                                logvar=self.logvar[..., None, :, :])  # fmt: skip
        for _ in range(steps):
            weight = whole.component_log_prob(x).softmax(-1)[..., None] * precision[..., None, :, :]  # *n m k d
            x = (weight * self.mean[..., None, :, :]).sum(-2) / weight.sum(-2)
        return take_component(x, whole.log_prob(x).argmax(-1, keepdim=True))


def take_component(values: Float[Tensor, "*n k d"], chosen: Tensor) -> Float[Tensor, "*n d"]:
    """The rows of `values` that `chosen` (*n, 1) names."""
    return values.gather(-2, chosen[..., None].expand(*chosen.shape, values.shape[-1]))[..., 0, :]


class GaussianMixtureHead(nn.Module):
    """From hidden states (b, n, width) to a mixture of `components` over tokens of `channels`, for every position.

    Computed in float32 whatever autocast says. A fresh head is a broad mixture near zero: equal weights, unit
    variances, and means that are spread, since equal components would have equal gradients for ever.
    """

    def __init__(self, width: int, channels: int, components: int = 16) -> None:
        super().__init__()
        if min(width, channels, components) < 1:
            raise ValueError(f"width={width}, channels={channels}, components={components} must all be 1 or more")
        self.channels, self.components = channels, components
        self.out = nn.Linear(width, components * (1 + 2 * channels))
        nn.init.normal_(self.out.weight, std=0.02)
        with torch.no_grad():
            _, mean, _ = self.out.bias.split(self.sizes)
            self.out.bias.zero_()
            mean.normal_(std=0.5)

    @property
    def sizes(self) -> list[int]:
        """Outputs for logits, means and log-variances."""
        return [self.components, self.components * self.channels, self.components * self.channels]

    def forward(self, hidden: Float[Tensor, "b n width"]) -> GaussianMixture:
        with torch.autocast(hidden.device.type, enabled=False):
            wide = torch.promote_types(self.out.weight.dtype, torch.float32)
            out = nn.functional.linear(hidden.to(wide), self.out.weight.to(wide), self.out.bias.to(wide))
            logits, mean, logvar = out.split(self.sizes, dim=-1)
            mean, logvar = (rearrange(v, "... (k d) -> ... k d", k=self.components) for v in (mean, logvar))
            return GaussianMixture(logits=logits, mean=mean, logvar=logvar.clamp(*LOGVAR_RANGE))
