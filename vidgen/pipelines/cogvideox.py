"""CogVideoX's transformers (1.0 and 1.5): diffusers' class CogVideoXTransformer3DModel."""

from __future__ import annotations

from typing import Any

from diffusers import CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.checkpoints.drafts import plain_settings
from vidgen.errors import VidgenError
from vidgen.models.text.encoders import TextEncoding
from vidgen.pipelines.adapter import Clock, DenoiserConfig, PublishedDenoiser


class CogVideoXDenoiser(PublishedDenoiser):
    """Full attention over text and video together, padding of the text included; one noise level for all frames.

    Raises VidgenError for a transformer that wants an image beside the latents.
    """

    network_class = CogVideoXTransformer3DModel
    blocks_name = "transformer_blocks"

    def __init__(self, network: nn.Module, clock: Clock) -> None:
        c = network.config
        if c.ofs_embed_dim is not None or c.in_channels != (c.out_channels or c.in_channels):
            raise VidgenError(
                f"this CogVideoXTransformer3DModel takes {c.in_channels} channels and gives {c.out_channels}: it wants "
                "an image beside the latents, which is not supported"
            )
        config = DenoiserConfig(
            latent_channels=c.in_channels,
            patch=(c.patch_size_t or 1, c.patch_size, c.patch_size),
            width=c.num_attention_heads * c.attention_head_dim,
            depth=c.num_layers,
            text_width=c.text_embed_dim,
            frame_levels=False,
            settings=plain_settings(c),
        )
        super().__init__(network, config, clock)

    def arguments(self, x: Tensor, t: Tensor, text: TextEncoding) -> dict[str, Any]:
        return {
            "hidden_states": rearrange(x, "b c t h w -> b t c h w"),
            "timestep": t,
            "encoder_hidden_states": text.tokens,
            "image_rotary_emb": self.positions(x) if self.network.config.use_rotary_positional_embeddings else None,
        }

    def positions(self, x: Float[Tensor, "b c t h w"]) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the rotary positions, as the class's pipeline gives them: of 1.0 stretched over the
        size that it was trained at, of 1.5 cut out of it."""
        c, (r, p, q) = self.network.config, self.config.patch
        grid, base = (x.shape[3] // p, x.shape[4] // q), (c.sample_height // p, c.sample_width // q)
        if c.patch_size_t is None:
            place = {"crops_coords": get_resize_crop_region_for_grid(grid, base[1], base[0])}
        elif grid[0] > base[0] or grid[1] > base[1]:
            raise VidgenError(
                f"latents of {x.shape[3]}x{x.shape[4]} are larger than {c.sample_height}x{c.sample_width}, and this "
                "CogVideoX 1.5 has no positions beyond; choose a smaller height or width"
            )
        else:
            place = {"crops_coords": None, "grid_type": "slice", "max_size": base}
        return get_3d_rotary_pos_embed(
            c.attention_head_dim, grid_size=grid, temporal_size=x.shape[2] // r, device=x.device, **place
        )

    def latents_of(self, out: Tensor, like: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        return rearrange(out, "b t c h w -> b c t h w")
