"""LTX-Video's transformer: diffusers' class LTXVideoTransformer3DModel."""

from __future__ import annotations

from typing import Any

from diffusers import LTXVideoTransformer3DModel
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.checkpoints.drafts import plain_settings
from vidgen.errors import VidgenError
from vidgen.models.text.encoders import TextEncoding
from vidgen.pipelines.adapter import Clock, DenoiserConfig, PublishedDenoiser


class LTXDenoiser(PublishedDenoiser):
    """Full attention over single latent cells, cross-attention to text without its padding, a noise level per frame.

    Its rotary positions are in seconds and pixels: `cell` is what a latent cell is in frames and pixels (t, h, w), and
    `frame_rate` (frames a second) may be set anew between calls.
    """

    network_class = LTXVideoTransformer3DModel
    blocks_name = "transformer_blocks"

    def __init__(self, network: nn.Module, clock: Clock, *, cell: tuple[int, int, int], frame_rate: float) -> None:
        c = network.config
        if (c.patch_size, c.patch_size_t) != (1, 1) or c.in_channels != (c.out_channels or c.in_channels):
            raise VidgenError(
                f"LTXVideoTransformer3DModel with patch_size={c.patch_size}, patch_size_t={c.patch_size_t} and "
                f"{c.in_channels} channels in, {c.out_channels} out is not supported: only patches of 1, as many out"
            )
        config = DenoiserConfig(
            latent_channels=c.in_channels,
            patch=(1, 1, 1),
            width=c.num_attention_heads * c.attention_head_dim,
            depth=c.num_layers,
            text_width=c.caption_channels,
            frame_levels=True,
            settings={**plain_settings(c), "cell": list(cell), "frame_rate": frame_rate},
        )
        super().__init__(network, config, clock)
        self.cell, self.frame_rate = cell, frame_rate

    def arguments(self, x: Tensor, t: Tensor, text: TextEncoding) -> dict[str, Any]:
        frames, h, w = x.shape[2:]
        return {
            "hidden_states": rearrange(x, "b c t h w -> b (t h w) c"),
            "timestep": t.repeat_interleave(h * w, dim=1) if t.ndim == 2 else t,
            "encoder_hidden_states": text.tokens,
            "encoder_attention_mask": text.mask,
            "num_frames": frames,
            "height": h,
            "width": w,
            "rope_interpolation_scale": (self.cell[0] / self.frame_rate, self.cell[1], self.cell[2]),
        }

    def latents_of(self, out: Tensor, like: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        _, _, t, h, w = like.shape
        return rearrange(out, "b (t h w) c -> b c t h w", t=t, h=h, w=w)
