"""Wan's transformers (Wan 2.1, and 2.2 with 5 billion weights): diffusers' class WanTransformer3DModel."""

from __future__ import annotations

from typing import Any

from diffusers import WanTransformer3DModel
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.errors import VidgenError
from vidgen.models.published.adapter import Clock, DenoiserConfig, PublishedDenoiser
from vidgen.models.published.weights import plain_settings
from vidgen.models.text import TextEncoding


class WanDenoiser(PublishedDenoiser):
    """Full attention with rotary positions, and cross-attention to text tokens, of which padding is part.

    frame_levels: whether it was trained with a noise level for each frame, as Wan 2.2's for text and images was
    (`expand_timesteps` of its pipeline). Raises VidgenError for a transformer that wants an image beside the latents.
    """

    network_class = WanTransformer3DModel
    blocks_name = "blocks"

    def __init__(self, network: nn.Module, clock: Clock, *, frame_levels: bool = False) -> None:
        c = network.config
        if c.image_dim is not None or c.in_channels != (c.out_channels or c.in_channels):
            raise VidgenError(
                f"this WanTransformer3DModel takes {c.in_channels} channels and gives {c.out_channels}: it wants "
                "an image beside the latents, which is not supported"
            )
        config = DenoiserConfig(
            latent_channels=c.in_channels,
            patch=tuple(c.patch_size),
            width=c.num_attention_heads * c.attention_head_dim,
            depth=c.num_layers,
            text_width=c.text_dim,
            frame_levels=frame_levels,
            settings=plain_settings(c),
        )
        super().__init__(network, config, clock)

    def arguments(self, x: Tensor, t: Tensor, text: TextEncoding) -> dict[str, Any]:
        if t.ndim == 2:  # one a token
            _, p, q = self.config.patch
            t = t.repeat_interleave((x.shape[3] // p) * (x.shape[4] // q), dim=1)
        return {"hidden_states": x, "timestep": t, "encoder_hidden_states": text.tokens}

    def latents_of(self, out: Tensor, like: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        return out
