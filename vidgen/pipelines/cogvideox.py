"""CogVideoX (1.0 and 1.5): its transformer CogVideoXTransformer3DModel, its autoencoder, and its pipeline."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.checkpoints.drafts import draft_diffusers
from vidgen.checkpoints.other_libraries import plain_settings
from vidgen.errors import VidgenError
from vidgen.models.text.encoders import TextEncoding
from vidgen.models.text.prompt_rule import PromptRule
from vidgen.pipelines.pipeline_kind import PipelineKind
from vidgen.pipelines.published_denoiser import Clock, DenoiserConfig, PublishedDenoiser
from vidgen.pipelines.published_schedule import TABLE, CallDefaults
from vidgen.pipelines.whole_clip import WholeClipConfig, WholeClipTokenizer

AUTOENCODER = "AutoencoderKLCogVideoX"


class CogVideoXDenoiser(PublishedDenoiser):
    """Full attention over text and video together, padding of the text included; one noise level for all frames.

    Raises VidgenError for a transformer that wants an image beside the latents.
    """

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

    @classmethod
    def network_class(cls) -> type:
        """Return CogVideoXTransformer3DModel."""
        from diffusers import CogVideoXTransformer3DModel

        return CogVideoXTransformer3DModel

    def arguments(self, x: Tensor, t: Tensor, text: TextEncoding) -> dict[str, Any]:
        """See `PublishedDenoiser.arguments`. Raises VidgenError as `positions`."""
        return {
            "hidden_states": rearrange(x, "b c t h w -> b t c h w"),
            "timestep": t,
            "encoder_hidden_states": text.tokens,
            "image_rotary_emb": self.positions(x) if self.network.config.use_rotary_positional_embeddings else None,
        }

    def positions(self, x: Float[Tensor, "b c t h w"]) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of the rotary positions, as the class's pipeline gives them: of 1.0 stretched over
        the size that it was trained at, of 1.5 cut out of it. Raises VidgenError for sizes beyond what 1.5 has."""
        from diffusers.models.embeddings import get_3d_rotary_pos_embed
        from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid

        c = self.network.config
        r, p, q = self.config.patch
        grid = (x.shape[3] // p, x.shape[4] // q)
        base = (c.sample_height // p, c.sample_width // q)
        if c.patch_size_t is None:
            region = {"crops_coords": get_resize_crop_region_for_grid(grid, base[1], base[0])}
        elif grid[0] > base[0] or grid[1] > base[1]:
            raise VidgenError(
                f"latents of {x.shape[3]}x{x.shape[4]} are larger than {c.sample_height}x{c.sample_width}, and this "
                "CogVideoX 1.5 has no positions beyond; choose a smaller height or width"
            )
        else:
            region = {"crops_coords": None, "grid_type": "slice", "max_size": base}
        return get_3d_rotary_pos_embed(
            c.attention_head_dim, grid_size=grid, temporal_size=x.shape[2] // r, device=x.device, **region
        )

    def latents_of(self, out: Tensor, like: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """Return the class's output with its axes as latents have them."""
        return rearrange(out, "b t c h w -> b c t h w")


class CogVideoXTokenizer(WholeClipTokenizer):
    """AutoencoderKLCogVideoX. Its group norms take their mean over the frames that are in memory together, and how the
    class cuts a clip depends on its length: so it cannot stream.

    The class decodes pairs of latent frames after the first one; where one is left over, it is repeated, and what that
    adds is cut off.
    """

    def frames_of(self, z: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 3 T H W"]:
        """See `WholeClipTokenizer.frames_of`."""
        odd = torch.cat([z, z[:, :, -1:]], dim=2) if z.shape[2] % 2 == 0 else z
        return self.network.decode(odd).sample[:, :, : 1 + (z.shape[2] - 1) * self.config.temporal_compression_ratio]


def read_cogvideox(
    folder: str | os.PathLike, *, dtype: torch.dtype | None = None, device: str = "cpu"
) -> CogVideoXTokenizer:
    """Return the tokenizer of an AutoencoderKLCogVideoX. Raises VidgenError, before a tensor is read, if it does not
    fit."""
    from diffusers import AutoencoderKLCogVideoX

    draft = draft_diffusers(AutoencoderKLCogVideoX, Path(folder))
    c = draft.network.config
    if c.shift_factor is not None or c.latents_mean is not None or c.latents_std is not None:
        raise VidgenError(f"{folder}: {AUTOENCODER} with a shift or statistics of its latents is not supported")
    config = WholeClipConfig.named(
        "cogvideox",
        latent_channels=c.latent_channels,
        temporal_compression_ratio=int(c.temporal_compression_ratio),
        spatial_compression_ratio=spatial_ratio(c),
        settings=plain_settings(c),
    )
    network = draft.fill(dtype=dtype, device=device)
    std = torch.full((c.latent_channels,), 1.0 / c.scaling_factor, device=device)
    return CogVideoXTokenizer(network, config, torch.zeros_like(std), std)


def spatial_ratio(vae: Any) -> int:
    """Return how many pixels a latent cell is wide, from the autoencoder's config: every stage but the last halves."""
    return 2 ** (len(vae.get("block_out_channels", range(4))) - 1)


def cogvideox_defaults(index: dict[str, Any], transformer: Any, vae: dict[str, Any]) -> CallDefaults:
    """Return the defaults of a call, from the sizes that the transformer was trained at."""
    ratio = spatial_ratio(vae)
    return CallDefaults(
        num_frames=transformer["sample_frames"],
        height=ratio * transformer["sample_height"],
        width=ratio * transformer["sample_width"],
        num_inference_steps=50,
        guidance_scale=6.0,
        fps=16.0 if transformer["patch_size_t"] else 8.0,
    )


COGVIDEOX = PipelineKind(
    denoiser=CogVideoXDenoiser,
    autoencoder=AUTOENCODER,
    read_autoencoder=read_cogvideox,
    prompts=PromptRule(length=226),
    schedulers=TABLE,
    defaults=cogvideox_defaults,
)
