"""Wan's transformers (2.1, and 2.2 with one or two of them) as denoisers: through diffusers' class
WanTransformer3DModel, or natively as a WanTransformer."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.checkpoints.conversion import NetworkDraft
from vidgen.checkpoints.other_libraries import plain_settings
from vidgen.checkpoints.pretrained import read_config
from vidgen.errors import VidgenError
from vidgen.models.dit.transformer import FeatureIterator, last_features
from vidgen.models.feature_layers import FeatureInfo, FeatureMixin
from vidgen.models.placement import PlacedModule
from vidgen.models.text.encoders import TextEncoding
from vidgen.models.text.prepared import PreparedText
from vidgen.pipelines.published_denoiser import Clock, DenoiserConfig, PublishedDenoiser
from vidgen.pipelines.wan.transformer import WanTransformer, draft_wan_transformer, is_native

LEVEL_STEPS = 1000  # timesteps of noise level 1, as a WanTransformer counts them: see `sinusoidal`


class WanDenoiser(PublishedDenoiser):
    """Full attention with rotary positions, and cross-attention to text tokens, of which padding is part.

    frame_levels: whether it was trained with a noise level for each frame, as Wan 2.2's for text and images was
    (`expand_timesteps` of its pipeline). A transformer for images takes `image_channels` more than it gives, and
    perhaps image tokens: see `with_image`.
    """

    blocks_name = "blocks"

    @classmethod
    def network_class(cls) -> type:
        """Return WanTransformer3DModel."""
        from diffusers import WanTransformer3DModel

        return WanTransformer3DModel

    @classmethod
    def draft(cls, folder: Path) -> NetworkDraft:
        """Return the network before its weights are read: natively if it makes video from text, else diffusers'."""
        return draft_wan_transformer(folder) if is_native(read_config(folder)) else super().draft(folder)

    @classmethod
    def wrap(cls, network: nn.Module, clock: Clock, **settings: Any) -> PublishedDenoiser:
        """Return the adapter: a NativeWanDenoiser for a WanTransformer."""
        return (NativeWanDenoiser if isinstance(network, WanTransformer) else cls)(network, clock, **settings)

    def __init__(self, network: nn.Module, clock: Clock, *, frame_levels: bool = False) -> None:
        config = wan_denoiser_config(network.config, plain_settings(network.config), frame_levels)
        super().__init__(network, config, clock)
        self.image_channels = network.config.in_channels - self.config.latent_channels
        self.image_latents: Tensor | None = None
        self.image_tokens: Tensor | None = None

    def with_image(
        self, latents: Float[Tensor, "1 k t h w"], tokens: Float[Tensor, "i n e"] | None = None
    ) -> WanDenoiser:
        """Return the same network with channels that go in beside every clip's latents, and tokens of i images."""
        twin = copy.copy(self)
        twin.image_latents, twin.image_tokens = latents, tokens
        return twin

    def arguments(self, x: Tensor, t: Tensor, text: TextEncoding) -> dict[str, Any]:
        """See `PublishedDenoiser.arguments`. Raises VidgenError where the image is missing."""
        if t.ndim == 2:  # one a token
            _, p, q = self.config.patch
            t = t.repeat_interleave((x.shape[3] // p) * (x.shape[4] // q), dim=1)
        call = {"hidden_states": x, "timestep": t, "encoder_hidden_states": text.tokens}
        if self.image_channels:
            if self.image_latents is None:
                raise VidgenError("this WanTransformer3DModel makes clips from an image: give it one (image=...)")
            call["hidden_states"] = torch.cat([x, self.image_latents.to(x).expand(len(x), -1, -1, -1, -1)], dim=1)
        if self.image_tokens is not None:
            call["encoder_hidden_states_image"] = self.image_tokens.to(x).repeat(len(x), 1, 1)
        return call

    def latents_of(self, out: Tensor, like: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """Return the class's output, which is latents."""
        return out


def wan_denoiser_config(config: Any, settings: dict[str, Any], frame_levels: bool) -> DenoiserConfig:
    """Return what others may know of a denoiser, from a config with the words of WanTransformer3DModel."""
    return DenoiserConfig(
        latent_channels=config.out_channels or config.in_channels,
        patch=tuple(config.patch_size),
        width=config.num_attention_heads * config.attention_head_dim,
        depth=config.num_layers,
        text_width=config.text_dim,
        frame_levels=frame_levels,
        settings=settings,
    )


class NativeWanDenoiser(PublishedDenoiser):
    """Wan's text-to-video transformer as a WanTransformer: any attention, prepared text, passes that end early.

    The timesteps that it gets are those of the pipeline's scheduler, as for the adapted class.
    """

    blocks_name = "blocks"

    def __init__(self, network: WanTransformer, clock: Clock, *, frame_levels: bool = False) -> None:
        config = wan_denoiser_config(network.config, network.config.published(), frame_levels)
        super().__init__(network, config, clock)

    @property
    def blocks(self) -> nn.ModuleList:
        """The network's blocks."""
        return self.network.blocks

    def forward(
        self, x: Float[Tensor, "b c t h w"], t: Float[Tensor, b * f], text: TextEncoding | PreparedText | None = None
    ) -> Float[Tensor, "b c t h w"]:
        """Return the prediction. Raises VidgenError as `iter_features`."""
        return last_features(self.iter_features(x, t, text))

    def iter_features(
        self, x: Float[Tensor, "b c t h w"], t: Float[Tensor, b * f], text: TextEncoding | PreparedText | None = None
    ) -> FeatureIterator:
        """Yield the layers as `WanTransformer.iter_features`. Raises VidgenError for latents, levels or text that the
        network does not take."""
        return self.network.iter_features(x, self.clock(self.check(x, t, text)) / LEVEL_STEPS, text)

    def prepare_text(self, text: TextEncoding) -> PreparedText:
        """Return the text for any number of steps; see `WanTransformer.prepare_text`."""
        return self.network.prepare_text(text)

    def set_attention(self, name: str) -> None:
        """Choose the attention of every layer; see `WanTransformer.set_attention`."""
        self.network.set_attention(name)

    def fresh(self) -> NativeWanDenoiser:
        """Return the same architecture with new random weights."""
        return NativeWanDenoiser(WanTransformer(self.network.config), self.clock, frame_levels=self.config.frame_levels)


class TextOfTwo:
    """A text for two denoisers, prepared for each when it is first run with it, if that prepares texts.

    A run is long in the one and then in the other, so the keys and values of the first are let go.
    """

    def __init__(self, text: TextEncoding) -> None:
        self.text = text
        self.owner: nn.Module | None = None
        self.prepared: TextEncoding | PreparedText = text

    def for_denoiser(self, denoiser: nn.Module) -> TextEncoding | PreparedText:
        """Return the text as that denoiser takes it."""
        if self.owner is not denoiser and isinstance(denoiser, NativeWanDenoiser):
            self.prepared = denoiser.prepare_text(self.text)
            self.owner = denoiser
        return self.prepared


class TwoWanDenoisers(FeatureMixin, PlacedModule):
    """Wan 2.2's two transformers: `high` where the timestep is `boundary` (a share of all) or more, `low` below.

    Raises VidgenError for two that differ in their settings.
    """

    def __init__(self, high: PublishedDenoiser, low: PublishedDenoiser, boundary: float) -> None:
        super().__init__()
        if high.config != low.config:
            raise VidgenError("the two transformers have different settings; they do not belong together")
        self.high, self.low = high, low
        self.boundary = boundary
        self.config = high.config
        self.image_channels = high.image_channels

    def forward(
        self, x: Float[Tensor, "b c t h w"], t: Float[Tensor, " b"], text: TextEncoding | TextOfTwo | None = None
    ) -> Float[Tensor, "b c t h w"]:
        """Return the prediction of the transformer that the level belongs to.

        Raises ValueError for levels of both in one batch.
        """
        part = self._at(t)
        return part(x, t, text.for_denoiser(part) if isinstance(text, TextOfTwo) else text)

    def iter_features(
        self, x: Float[Tensor, "b c t h w"], t: Float[Tensor, " b"], text: TextEncoding | TextOfTwo | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield the layers of the transformer that the level belongs to. Raises as `forward`."""
        part = self._at(t)
        return part.iter_features(x, t, text.for_denoiser(part) if isinstance(text, TextOfTwo) else text)

    def prepare_text(self, text: TextEncoding) -> TextOfTwo:
        """Return the text for any number of steps; see `NativeWanDenoiser.prepare_text`."""
        return TextOfTwo(text)

    def _at(self, t: Tensor) -> PublishedDenoiser:
        """Return the transformer of noise levels. Raises ValueError for levels of both."""
        noisy = self.high.clock(t) >= self.boundary * self.high.clock.steps
        if bool(noisy.all()):
            return self.high
        if bool(noisy.any()):
            raise ValueError(f"noise levels {t.flatten().tolist()} lie on both sides of {self.boundary}; give one side")
        return self.low

    def with_image(
        self, latents: Float[Tensor, "1 k t h w"], tokens: Float[Tensor, "i n e"] | None = None
    ) -> TwoWanDenoisers:
        """Return both networks with the same image: see `WanDenoiser.with_image`."""
        high, low = (part.with_image(latents, tokens) for part in (self.high, self.low))
        return TwoWanDenoisers(high, low, self.boundary)

    def lora_networks(self) -> dict[str, nn.Module]:
        """Return both by diffusers' names, for LoRAs, which are made for one of them."""
        return {"transformer": self.high, "transformer_2": self.low}

    def set_attention(self, name: str) -> None:
        """Choose the attention of both; see `PublishedDenoiser.set_attention`."""
        self.high.set_attention(name)
        self.low.set_attention(name)

    def enable_gradient_checkpointing(self) -> None:
        """Compute every block of both again in the backward pass."""
        self.high.enable_gradient_checkpointing()
        self.low.enable_gradient_checkpointing()

    def disable_gradient_checkpointing(self) -> None:
        """Keep all activations of both for the backward pass."""
        self.high.disable_gradient_checkpointing()
        self.low.disable_gradient_checkpointing()

    def save_pretrained(self, folder: str | os.PathLike, *, dtype: torch.dtype | None = None) -> None:
        """Raise VidgenError: a published pipeline is its folder."""
        self.high.save_pretrained(folder, dtype=dtype)

    def fresh(self) -> TwoWanDenoisers:
        """Return the same architecture with new random weights."""
        return TwoWanDenoisers(self.high.fresh(), self.low.fresh(), self.boundary)

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """The layers of the transformer that a level belongs to."""
        return self.high.feature_info
