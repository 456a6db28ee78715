"""Patch discriminators of frames and of clips, and the losses that they and a generator are trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.train.runtime import distributed

WIDEST = 8  # times the first layer's width
GROUP = 8  # channels that a GroupNorm takes together


class TimePaddedConv3d(nn.Conv3d):
    """nn.Conv3d that adds its frames of zeros itself.

    Of one frame with an odd number of channels, oneDNN's bfloat16 kernels on AMX (torch 2.14) read frames of padding
    that nobody wrote: what had lain in that memory, NaN at times, comes out.
    """

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d s i j"]:
        """Return the convolution."""
        before, *sides = self.padding
        x = F.pad(x, (0, 0, 0, 0, before, before))
        return F.conv3d(x, self.weight, self.bias, self.stride, (0, *sides))


def patch_layers(convolution: type[nn.Module], width: int, depth: int) -> nn.Sequential:
    """Return `depth` convolutions that halve height and width (and time, but for the first), then one logit a patch.

    The stack of Isola et al. 2017 (section 3.2.2), with group normalization, which a batch of one clip does not upset.
    """
    is_3d = issubclass(convolution, nn.Conv3d)
    layers: list[nn.Module] = []
    before = 3
    for i in range(depth):
        after = width * min(2**i, WIDEST)
        kernel, padding = ((3, 4, 4), (1, 1, 1)) if is_3d else ((4, 4), (1, 1))
        stride = ((1 if i == 0 else 2), 2, 2) if is_3d else (2, 2)
        layers.append(convolution(before, after, kernel, stride=stride, padding=padding))
        if i > 0:
            layers.append(nn.GroupNorm(max(1, after // GROUP), after))
        layers.append(nn.LeakyReLU(0.2))
        before = after
    return nn.Sequential(*layers, convolution(before, 1, 3, padding=1))


def judge(
    layers: nn.Sequential, x: Float[Tensor, "b 3 *n"], prompt: Float[Tensor, "b d"] | None
) -> Float[Tensor, "b 1 *m"]:
    """Return the logits of `patch_layers`; beside a prompt plus the inner product of each patch's features with it
    (the projection of Miyato & Koyama 2018, patch by patch)."""
    features = layers[:-1](x)
    logits = layers[-1](features)
    if prompt is None:
        return logits
    return logits + (features.flatten(2).mT @ prompt[..., None]).reshape(logits.shape) / prompt.shape[-1] ** 0.5


class FramePatches(nn.Module):
    """A discriminator of patches of each frame on its own: (b, 3, t, h, w) -> logits (b, t, i, j). With a `text_width`
    it judges clips beside a text, one vector a clip."""

    def __init__(self, width: int, depth: int, text_width: int = 0) -> None:
        super().__init__()
        self.layers = patch_layers(nn.Conv2d, width, depth)
        self.text_in = nn.Linear(text_width, self.layers[-1].in_channels) if text_width else None

    def forward(self, video: Float[Tensor, "b 3 t h w"], text: Float[Tensor, "b d"] | None = None) -> Tensor:
        """Return the logits (b, t, i, j) of each frame's patches."""
        prompt = None if text is None else self.text_in(text).repeat_interleave(video.shape[2], dim=0)
        logits = judge(self.layers, rearrange(video, "b c t h w -> (b t) c h w"), prompt)
        return rearrange(logits, "(b t) 1 i j -> b t i j", b=video.shape[0]).float()


class ClipPatches(nn.Module):
    """A discriminator of patches of space and time: (b, 3, t, h, w) -> logits (b, s, i, j). One frame is a clip. With a
    `text_width` it judges clips beside a text, one vector a clip."""

    def __init__(self, width: int, depth: int, text_width: int = 0) -> None:
        super().__init__()
        self.layers = patch_layers(TimePaddedConv3d, width, depth)
        self.text_in = nn.Linear(text_width, self.layers[-1].in_channels) if text_width else None

    def forward(self, video: Float[Tensor, "b 3 t h w"], text: Float[Tensor, "b d"] | None = None) -> Tensor:
        """Return the logits (b, s, i, j) of a clip's patches."""
        logits = judge(self.layers, video, None if text is None else self.text_in(text))
        return rearrange(logits, "b 1 s i j -> b s i j").float()


DISCRIMINATORS: dict[str, type[nn.Module]] = {"2d": FramePatches, "3d": ClipPatches}


class FeatureHead(nn.Module):
    """Logits of features, one at each position: layer norm and a small MLP (Sauer et al. 2024, section 3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))

    def forward(self, features: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
        """Return the logits."""
        return self.layers(features).squeeze(-1)


def hinge_discriminator(real: Float[Tensor, "*n"], fake: Float[Tensor, "*n"]) -> Float[Tensor, ""]:
    """Return half the sum of mean max(0, 1 - real) and mean max(0, 1 + fake) (Lim & Ye 2017)."""
    return 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())


def hinge_generator(fake: Float[Tensor, "*n"]) -> Float[Tensor, ""]:
    """Return minus the mean logit of what was generated (Lim & Ye 2017)."""
    return -fake.mean()


def r1_penalty(discriminator: Callable[[Tensor], Tensor], real: Float[Tensor, "b c t h w"]) -> Float[Tensor, ""]:
    """Return the mean over clips of |grad D(x)|^2 at real x (Mescheder et al. 2018, eq. 9), in float32, with its graph.

    D is the sum of a clip's logits, and the result is divided by their number: so it means the same at every size.
    """
    with torch.autocast(real.device.type, enabled=False):
        real = real.detach().float().requires_grad_(True)
        logits = discriminator(real)
        (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return gradient.square().sum() / logits.numel()


class LeCam(nn.Module):
    """A regularizer that keeps a discriminator's logits near running means of the other kind's (Tseng et al. 2021).

    With anchors a: mean (D(real) - a_fake)^2 + mean (D(fake) - a_real)^2. The anchors are buffers.
    """

    real: Tensor
    fake: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("real", torch.zeros(()))
        self.register_buffer("fake", torch.zeros(()))

    def forward(self, real: Float[Tensor, "*n"], fake: Float[Tensor, "*n"]) -> Float[Tensor, ""]:
        """Return the penalty of these logits."""
        return (real - self.fake).square().mean() + (fake - self.real).square().mean()

    @torch.no_grad()
    def follow(self, real: Float[Tensor, "*n"], fake: Float[Tensor, "*n"]) -> None:
        """Move the anchors towards the means of these logits, over all processes."""
        if distributed.world_size() > 1:
            means = distributed.all_reduce_mean({"real": real.mean().item(), "fake": fake.mean().item()})
            real, fake = real.new_tensor(means["real"]), fake.new_tensor(means["fake"])
        self.real.lerp_(real.mean(), 1.0 - self.decay)
        self.fake.lerp_(fake.mean(), 1.0 - self.decay)


@dataclass(frozen=True, kw_only=True)
class Balance:
    """`weight` of the adversarial loss, and the `ratio` |adversarial| / |reconstruction| of gradients before it."""

    weight: float
    ratio: float


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, layer: list[nn.Parameter]) -> Balance:
    """Return |grad reconstruction| / (|grad adversarial| + 1e-6) on `layer` (Esser et al. 2021, eq. 7), at most 10^4.

    Both losses keep their graphs.
    """
    norms = []
    for loss in (reconstruction, adversarial):
        gradients = torch.autograd.grad(loss, layer, retain_graph=True)
        norms.append(torch.stack([g.float().square().sum() for g in gradients]).sum().sqrt().item())
    reconstruction_norm, adversarial_norm = norms
    weight = min(reconstruction_norm / (adversarial_norm + 1e-6), 1e4)
    return Balance(weight=weight, ratio=adversarial_norm / max(reconstruction_norm, 1e-12))


def last_layer(decoder: nn.Module) -> list[nn.Parameter]:
    """Return the weights of the last part of a decoder that has any: what every pixel of its output goes through."""
    for part in reversed(list(decoder.children())):
        if weights := [p for p in part.parameters() if p.ndim > 1 and p.requires_grad]:
            return weights
    raise ValueError(f"{type(decoder).__name__} has no trainable weights in its parts")
