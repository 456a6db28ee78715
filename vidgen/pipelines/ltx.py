"""LTX-Video: its transformer LTXVideoTransformer3DModel, its autoencoder, and its pipeline."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
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
from vidgen.pipelines.published_schedule import FLOW, CallDefaults
from vidgen.pipelines.whole_clip import WholeClipConfig, WholeClipTokenizer

DECODE_SEED = 0  # of the noise that some decoders add inside: the same latents give the same frames


class LTXDenoiser(PublishedDenoiser):
    """Full attention over single latent cells, cross-attention to text without its padding, a noise level per frame.

    Its rotary positions are in seconds and pixels: `cell` is the size of a latent cell in frames and pixels (t, h, w),
    and `frame_rate` (frames a second) may be changed between calls. Raises VidgenError for patches of several cells.
    """

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

    @classmethod
    def network_class(cls) -> type:
        """Return LTXVideoTransformer3DModel."""
        from diffusers import LTXVideoTransformer3DModel

        return LTXVideoTransformer3DModel

    def arguments(self, x: Tensor, t: Tensor, text: TextEncoding) -> dict[str, Any]:
        """See `PublishedDenoiser.arguments`."""
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
        """Return the class's tokens as latents of the shape of `like`."""
        _, _, t, h, w = like.shape
        return rearrange(out, "b (t h w) c -> b c t h w", t=t, h=h, w=w)


class LTXTokenizer(WholeClipTokenizer):
    """AutoencoderKLLTXVideo, whose decoder looks at later frames: so it cannot stream.

    Decoders that take a noise level of their latents get `decode_level`, 0 as in diffusers' pipeline unless set;
    nothing is added to the latents.
    """

    decode_level = 0.0

    def frames_of(self, z: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 3 T H W"]:
        """See `WholeClipTokenizer.frames_of`."""
        takes_level = self.network.config.timestep_conditioning
        level = z.new_full((len(z),), self.decode_level) if takes_level else None
        with seeded(z.device):
            return self.network.decode(z, level).sample


@contextmanager
def seeded(device: torch.device) -> Iterator[None]:
    """Start torch's own random numbers at `DECODE_SEED`; afterwards they go on from where they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(DECODE_SEED)
        yield


def read_ltx(folder: str | os.PathLike, *, dtype: torch.dtype | None = None, device: str = "cpu") -> LTXTokenizer:
    """Return the tokenizer of an AutoencoderKLLTXVideo. Raises VidgenError, before a tensor is read, if it does not
    fit."""
    from diffusers import AutoencoderKLLTXVideo

    draft = draft_diffusers(AutoencoderKLLTXVideo, Path(folder))
    network = draft.network
    c = network.config
    config = WholeClipConfig.named(
        "ltx",
        latent_channels=c.latent_channels,
        temporal_compression_ratio=network.temporal_compression_ratio,
        spatial_compression_ratio=network.spatial_compression_ratio,
        settings=plain_settings(c),
    )
    network = draft.fill(dtype=dtype, device=device)
    return LTXTokenizer(network, config, network.latents_mean.float(), network.latents_std.float() / c.scaling_factor)


def ltx_defaults(index: dict[str, Any], transformer: Any, vae: dict[str, Any]) -> CallDefaults:
    """Return the defaults of a call."""
    return CallDefaults(num_frames=161, height=512, width=704, num_inference_steps=50, guidance_scale=3.0, fps=25.0)


def ltx_settings(index: dict[str, Any], vae: WholeClipTokenizer, defaults: CallDefaults) -> dict[str, Any]:
    """Return what the denoiser's positions need: the size of a latent cell, and the rate of frames."""
    c = vae.config
    cell = (c.temporal_compression_ratio, c.spatial_compression_ratio, c.spatial_compression_ratio)
    return {"cell": cell, "frame_rate": defaults.fps}


LTX = PipelineKind(
    denoiser=LTXDenoiser,
    autoencoder="AutoencoderKLLTXVideo",
    read_autoencoder=read_ltx,
    prompts=PromptRule(length=128, attended=False),
    schedulers=FLOW,
    defaults=ltx_defaults,
    settings=ltx_settings,
    by_length=True,
)
