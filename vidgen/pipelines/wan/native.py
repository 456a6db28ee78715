"""Published transformers that are read into a VideoDiT, behind the interface of the adapted ones."""

from __future__ import annotations

import copy
from collections.abc import Generator
from dataclasses import asdict

from jaxtyping import Float
from torch import Tensor, nn

from vidgen.models.dit.video_dit import VideoDiT
from vidgen.models.text.encoders import TextEncoding
from vidgen.models.text.prepared import PreparedText
from vidgen.pipelines.adapter import Clock, DenoiserConfig, PublishedDenoiser

WHOLE = 1000  # timesteps of noise level 1, as a VideoDiT counts them: see `sinusoidal`


class NativeWanDenoiser(PublishedDenoiser):
    """Wan's text-to-video transformer as a VideoDiT: any attention, prepared text, passes that end early.

    The timesteps that it is shown are those of the pipeline's scheduler, as for the adapted class.
    """

    beside_channels = 0

    def __init__(self, network: VideoDiT, clock: Clock, *, frame_levels: bool = False) -> None:
        c = network.config
        config = DenoiserConfig(
            latent_channels=c.latent_channels,
            patch=c.patch,
            width=c.width,
            depth=c.depth,
            text_width=c.text_width,
            frame_levels=frame_levels,
            settings=asdict(c),
        )
        super().__init__(network, config, clock)

    @property
    def blocks(self) -> nn.ModuleList:
        return self.network.blocks

    def forward(
        self, x: Float[Tensor, "b c t h w"], t: Float[Tensor, b * f], text: TextEncoding | PreparedText | None = None
    ) -> Float[Tensor, "b c t h w"]:
        for _, out in self.iter_features(x, t, text):  # noqa: B007 (the last one is the output)
            pass
        return out

    def iter_features(
        self, x: Float[Tensor, "b c t h w"], t: Float[Tensor, b * f], text: TextEncoding | PreparedText | None = None
    ) -> Generator[tuple[str, Tensor], Tensor | None, None]:
        """See `VideoDiT.iter_features`. Raises VidgenError for latents, levels or text that the network does not take."""
        return self.network.iter_features(x, self.clock(self.check(x, t, text)) / WHOLE, text)

    def prepare_text(self, text: TextEncoding) -> PreparedText:
        """See `VideoDiT.prepare_text`."""
        return self.network.prepare_text(text)

    def set_attention(self, name: str) -> None:
        """See `VideoDiT.set_attention`."""
        self.network.set_attention(name)

    def fresh(self) -> NativeWanDenoiser:
        """The same architecture with new random weights."""
        twin = copy.copy(self)
        twin._modules = {"network": VideoDiT(self.network.config)}
        return twin
