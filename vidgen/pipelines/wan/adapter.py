"""Wan's transformers (2.1, and 2.2 with one or two of them): diffusers' class WanTransformer3DModel, or a VideoDiT."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.checkpoints.conversion import KeyedDraft
from vidgen.checkpoints.drafts import Draft, plain_settings
from vidgen.checkpoints.pretrained import read_config
from vidgen.errors import VidgenError
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.models.feature_layers import FeatureInfo
from vidgen.models.text.encoders import TextEncoding
from vidgen.models.text.prepared import PreparedText
from vidgen.pipelines.adapter import Clock, DenoiserConfig, PublishedDenoiser
from vidgen.pipelines.wan.native import NativeWanDenoiser
from vidgen.pipelines.wan.transformer import draft_wan_transformer, is_native


class WanDenoiser(PublishedDenoiser):
    """Full attention with rotary positions, and cross-attention to text tokens, of which padding is part.

    frame_levels: whether it was trained with a noise level for each frame, as Wan 2.2's for text and images was
    (`expand_timesteps` of its pipeline). A transformer for images takes `beside_channels` more than it gives, and
    perhaps image tokens: see `given`.
    """

    network_class = WanTransformer3DModel
    blocks_name = "blocks"

    @classmethod
    def draft(cls, place: Path) -> Draft | KeyedDraft:
        """Natively what is read so, the transformers that make video from text; the others as diffusers' class."""
        return draft_wan_transformer(place) if is_native(read_config(place)) else super().draft(place)

    @classmethod
    def around(cls, network: nn.Module, clock: Clock, **settings: Any) -> PublishedDenoiser:
        """A NativeWanDenoiser for a VideoDiT."""
        return (NativeWanDenoiser if isinstance(network, VideoDiT) else cls)(network, clock, **settings)

    def __init__(self, network: nn.Module, clock: Clock, *, frame_levels: bool = False) -> None:
        c = network.config
        config = DenoiserConfig(
            latent_channels=c.out_channels or c.in_channels,
            patch=tuple(c.patch_size),
            width=c.num_attention_heads * c.attention_head_dim,
            depth=c.num_layers,
            text_width=c.text_dim,
            frame_levels=frame_levels,
            settings=plain_settings(c),
        )
        super().__init__(network, config, clock)
        self.beside_channels = c.in_channels - config.latent_channels
        self.beside: Tensor | None = None
        self.image_tokens: Tensor | None = None

    def given(
        self, beside: Float[Tensor, "1 k t h w"], image_tokens: Float[Tensor, "i n e"] | None = None
    ) -> WanDenoiser:
        """The same network with channels that go in beside every clip's latents, and tokens of i images."""
        twin = copy.copy(self)
        twin.beside, twin.image_tokens = beside, image_tokens
        return twin

    def arguments(self, x: Tensor, t: Tensor, text: TextEncoding) -> dict[str, Any]:
        if t.ndim == 2:  # one a token
            _, p, q = self.config.patch
            t = t.repeat_interleave((x.shape[3] // p) * (x.shape[4] // q), dim=1)
        call = {"hidden_states": x, "timestep": t, "encoder_hidden_states": text.tokens}
        if self.beside_channels:
            if self.beside is None:
                raise VidgenError("this WanTransformer3DModel makes clips from an image: give it one (image=...)")
            call["hidden_states"] = torch.cat([x, self.beside.to(x).expand(len(x), -1, -1, -1, -1)], dim=1)
        if self.image_tokens is not None:
            call["encoder_hidden_states_image"] = self.image_tokens.to(x).repeat(len(x), 1, 1)
        return call

    def latents_of(self, out: Tensor, like: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        return out


class TextOfTwo:
    """A text, prepared for each of two denoisers when it is first run with it; one that prepares none gets it as it is.

    A run is long in the one and then in the other, so the keys and values of the first are let go.
    """

    def __init__(self, text: TextEncoding) -> None:
        self.text, self.owner, self.prepared = text, None, text

    def of(self, denoiser: nn.Module) -> TextEncoding | PreparedText:
        if self.owner is not denoiser and hasattr(denoiser, "prepare_text"):
            self.owner, self.prepared = denoiser, denoiser.prepare_text(self.text)
        return self.prepared


class TwoWanDenoisers(nn.Module):
    """Wan 2.2's two transformers: `high` where the timestep is `boundary` (a share of all) or more, `low` below."""

    def __init__(self, high: PublishedDenoiser, low: PublishedDenoiser, boundary: float) -> None:
        super().__init__()
        if high.config != low.config:
            raise VidgenError("the two transformers have different settings; they do not belong together")
        self.high, self.low, self.boundary = high, low, boundary
        self.config, self.beside_channels = high.config, high.beside_channels

    def forward(
        self, x: Float[Tensor, "b c t h w"], t: Float[Tensor, " b"], text: TextEncoding | TextOfTwo | None = None
    ) -> Float[Tensor, "b c t h w"]:
        """The prediction of the transformer that the level belongs to. ValueError for levels of both in one batch."""
        part = self._at(t)
        return part(x, t, text.of(part) if isinstance(text, TextOfTwo) else text)

    def iter_features(
        self, x: Float[Tensor, "b c t h w"], t: Float[Tensor, " b"], text: TextEncoding | TextOfTwo | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        part = self._at(t)
        return part.iter_features(x, t, text.of(part) if isinstance(text, TextOfTwo) else text)

    def prepare_text(self, text: TextEncoding) -> TextOfTwo:
        """See `NativeWanDenoiser.prepare_text`."""
        return TextOfTwo(text)

    def _at(self, t: Tensor) -> PublishedDenoiser:
        noisy = self.high.clock(t) >= self.boundary * self.high.clock.steps
        if bool(noisy.all()):
            return self.high
        if bool(noisy.any()):
            raise ValueError(f"noise levels {t.flatten().tolist()} lie on both sides of {self.boundary}; give one side")
        return self.low

    def given(
        self, beside: Float[Tensor, "1 k t h w"], image_tokens: Float[Tensor, "i n e"] | None = None
    ) -> TwoWanDenoisers:
        """Both networks with the same image: see `WanDenoiser.given`."""
        high, low = (part.given(beside, image_tokens) for part in (self.high, self.low))
        return TwoWanDenoisers(high, low, self.boundary)

    def set_attention(self, name: str) -> None:
        """See `PublishedDenoiser.set_attention`."""
        self.high.set_attention(name)
        self.low.set_attention(name)

    def save_pretrained(self, folder: Any, *, dtype: torch.dtype | None = None) -> None:
        """Raises VidgenError: a published pipeline is its folder."""
        self.high.save_pretrained(folder, dtype=dtype)

    def fresh(self) -> TwoWanDenoisers:
        """The same architecture with new random weights."""
        return TwoWanDenoisers(self.high.fresh(), self.low.fresh(), self.boundary)

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """The layers of the transformer that a level belongs to."""
        return self.high.feature_info
