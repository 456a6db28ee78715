"""Codes of what changes from one latent frame to the next: the actions of clips that come without any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.bounds import Count, Depth, Length, Range, Width, check_fields
from vidgen.checkpoints.config_fields import ConfigMapping
from vidgen.checkpoints.pretrained import Pretrained
from vidgen.tokenizers.bottlenecks.implicit_quantizers import FSQ

Level = Annotated[int, Range(2, 64)]


@dataclass(frozen=True, kw_only=True)
class ChangeCodesConfig(ConfigMapping):
    """Shape of a `ChangeCodes`: `tokens` codes a change, each of `levels`; `size` (h, w) of the latent frames."""

    latent_channels: Width = 16
    size: Annotated[tuple[Width, Width], Length(2, 2)] = (8, 8)
    tokens: Count = 2
    levels: Annotated[tuple[Level, ...], Length(1, 16)] = (5, 5, 5)
    width: Width = 96
    depth: Depth = 3

    def __post_init__(self) -> None:
        check_fields(self)


class ResidualLayer(nn.Module):
    """Two convolutions of a frame beside a way around them; `shift` is what is told of the change, channel by
    channel (Perez et al. 2018, FiLM, without the scale)."""

    def __init__(self, width: int, told: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.shift = nn.Linear(told, width) if told else None

    def forward(self, x: Float[Tensor, "n d h w"], told: Float[Tensor, "n k"] | None = None) -> Tensor:
        """Return the layer's output."""
        y = self.conv1(nn.functional.silu(self.norm1(x)))
        if self.shift is not None:
            y = y + self.shift(told)[:, :, None, None]
        return x + self.conv2(nn.functional.silu(self.norm2(y)))


class ChangeCodes(Pretrained):
    """An inverse model into a few discrete codes and a forward model out of them (Bruce et al. 2024, Genie, section
    2.1; Ren et al. 2025, VideoWorld, section 3.2).

        codes = FSQ(E(z_t, z_{t+1})),  z'_{t+1} = z_t + D(z_t, codes),  loss |z'_{t+1} - z_{t+1}|^2

    So few codes have room for what z_t does not tell: the change. A prior over them is a policy, and what a linear map
    reads of them (`embed`) is the inverse dynamics.
    """

    config_class = ChangeCodesConfig

    def __init__(self, config: ChangeCodesConfig) -> None:
        super().__init__(config)
        c, width = config.latent_channels, config.width
        channels = len(config.levels)
        self.quantizer = FSQ(channels, levels=config.levels)
        self.encode_in = nn.Conv2d(2 * c, width, 3, padding=1)
        self.encoder = nn.ModuleList([ResidualLayer(width, 0) for _ in range(config.depth)])
        self.encode_out = nn.Linear(width * config.size[0] * config.size[1], config.tokens * channels)
        self.decode_in = nn.Conv2d(c, width, 3, padding=1)
        self.place = nn.Parameter(torch.randn(width, *config.size) * 0.1)  # a change moves from where to where
        self.decoder = nn.ModuleList([ResidualLayer(width, config.tokens * channels) for _ in range(config.depth)])
        self.decode_out = nn.Conv2d(width, c, 3, padding=1)
        nn.init.zeros_(self.decode_out.weight), nn.init.zeros_(self.decode_out.bias)

    @property
    def codebook_size(self) -> int:
        """Values of a code."""
        return self.quantizer.codebook_size

    def encode(self, latents: Float[Tensor, "b c t h w"]) -> tuple[Float[Tensor, "b s m k"], Int[Tensor, "b s m"]]:
        """Return the quantized vectors (-1 to 1) and the indices of the `tokens` codes of each of the t - 1 changes.
        Gradients go through the rounding."""
        pairs = torch.cat([latents[:, :, :-1], latents[:, :, 1:]], dim=1)
        b, changes = pairs.shape[0], pairs.shape[2]
        x = self.encode_in(rearrange(pairs, "b c s h w -> (b s) c h w"))
        for layer in self.encoder:
            x = layer(x)
        h = self.encode_out(x.flatten(1)).reshape(b, changes, self.config.tokens, -1)
        out = self.quantizer(rearrange(h, "b s m k -> b k s m 1"))
        return rearrange(out.latents, "b k s m 1 -> b s m k"), out.indices[..., 0]

    def embed(self, indices: Int[Tensor, "b s m"]) -> Float[Tensor, "b s m k"]:
        """Return the vectors of codes."""
        return rearrange(self.quantizer.from_indices(indices[..., None]), "b k s m 1 -> b s m k")

    def apply_changes(
        self, frames: Float[Tensor, "b c s h w"], codes: Float[Tensor, "b s m k"]
    ) -> Float[Tensor, "b c s h w"]:
        """Return the frame after each of `frames`, by the vectors of its change."""
        told = codes.flatten(2).flatten(0, 1)
        z = rearrange(frames, "b c s h w -> (b s) c h w")
        x = self.decode_in(z) + self.place
        for layer in self.decoder:
            x = layer(x, told)
        return rearrange(z + self.decode_out(x), "(b s) c h w -> b c s h w", b=len(frames))

    def roll_out(
        self, first: Float[Tensor, "b c h w"], codes: Float[Tensor, "b s m k"]
    ) -> Float[Tensor, "b c s_plus_1 h w"]:
        """Return the clip that begins with `first` and changes by `codes`, each frame made from the one before."""
        frames = [first[:, :, None]]
        for s in range(codes.shape[1]):
            frames.append(self.apply_changes(frames[-1], codes[:, s : s + 1]))
        return torch.cat(frames, dim=2)

    def forward(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c s h w"]:
        """Return each frame but the first, from the one before and the codes of the change."""
        return self.apply_changes(latents[:, :, :-1], self.encode(latents)[0])
