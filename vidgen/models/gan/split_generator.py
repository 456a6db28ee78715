"""SplitGenerator: noise, and a text, to a clip in one pass, as a moving foreground before a background that stands."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.checkpoints.pretrained import Pretrained
from vidgen.models.gan.config import SplitGeneratorConfig

GROUP = 8  # channels that a GroupNorm takes together, or fewer where that does not go into all
COLOURS = 3


@dataclass(frozen=True, kw_only=True)
class SplitClip:
    """A clip as its parts: the `mask`, in [0, 1], says where the `foreground` hides the `background`, which stands."""

    mask: Float[Tensor, "b 1 t h w"]
    foreground: Float[Tensor, "b 3 t h w"]
    background: Float[Tensor, "b 3 h w"]

    @property
    def video(self) -> Float[Tensor, "b 3 t h w"]:
        """The clip, m f + (1 - m) b (Vondrick et al. 2016, two-stream architecture)."""
        return self.mask * self.foreground + (1.0 - self.mask) * self.background[:, :, None]


def doubling_layers(convolution: type[nn.Module], channels: list[int]) -> nn.Sequential:
    """Return a stack that doubles all sides of its maps between each two of `channels`, by transposed convolutions.

    Where the paper has batch normalization there is group normalization, so that no clip depends on its batch.
    """
    layers: list[nn.Module] = []
    for before, after in zip(channels[:-1], channels[1:], strict=True):
        layers += [convolution(before, after, 4, stride=2, padding=1), nn.GroupNorm(after // gcd(GROUP, after), after)]
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class SplitGenerator(Pretrained):
    """The two-stream generator of Vondrick et al. 2016 (VGAN), with text beside the noise as a condition
    (Li et al. 2018, "Video generation from text": noise and text make the first maps of both streams).

    A stack of 3-D transposed convolutions makes the foreground and its mask, one of 2-D ones the background.
    """

    config_class = SplitGeneratorConfig

    def __init__(self, config: SplitGeneratorConfig) -> None:
        super().__init__(config)
        channels, (t, h, w) = config.stage_channels, config.first_maps
        inputs = config.noise_channels + config.text_width
        self.moving_in = nn.Linear(inputs, channels[0] * t * h * w)
        self.moving = doubling_layers(nn.ConvTranspose3d, channels)
        self.mask_out = nn.ConvTranspose3d(channels[-1], 1, 4, stride=2, padding=1)
        self.foreground_out = nn.ConvTranspose3d(channels[-1], COLOURS, 4, stride=2, padding=1)
        self.still_in = nn.Linear(inputs, channels[0] * h * w)
        self.still = doubling_layers(nn.ConvTranspose2d, channels)
        self.background_out = nn.ConvTranspose2d(channels[-1], COLOURS, 4, stride=2, padding=1)

    def forward(self, noise: Float[Tensor, "b z"], text: Float[Tensor, "b d"] | None = None) -> SplitClip:
        """Return the clip of standard normal noise, and of a text as one vector. Raises ValueError for a text that the
        model does not take, or that it lacks."""
        if (text is not None) != (self.config.text_width > 0):
            raise ValueError(f"this generator {'needs a' if self.config.text_width else 'takes no'} text")
        inputs = noise.to(self.still_in.weight.dtype)
        if text is not None:
            inputs = torch.cat([inputs, text.to(inputs.dtype)], dim=-1)
        t, h, w = self.config.first_maps
        moving = self.moving(self.moving_in(inputs).relu().unflatten(1, (-1, t, h, w)))
        still = self.still(self.still_in(inputs).relu().unflatten(1, (-1, h, w)))
        return SplitClip(
            mask=self.mask_out(moving).sigmoid(),
            foreground=self.foreground_out(moving).tanh(),
            background=self.background_out(still).tanh(),
        )
