"""IP-Adapter: reference images as tokens beside a prompt's, for how something looks where the prompt is about what it
does."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vidgen.bounds import Depth, Width, check_fields
from vidgen.checkpoints.config_fields import ConfigMapping
from vidgen.checkpoints.pretrained import Pretrained
from vidgen.models.dit.config import check_heads
from vidgen.models.rope import rotary_table
from vidgen.models.text.encoders import TextBlock, TextEncoding


@dataclass(frozen=True, kw_only=True)
class IPAdapterConfig(ConfigMapping):
    """Shape of an IPAdapterEncoder: `tokens` an image, each `text_width` wide, as those of the text encoder."""

    latent_channels: Width = 16
    text_width: Width = 128
    tokens: Width = 8
    width: Width = 128
    depth: Depth = 1
    head_dim: Width = 32

    def __post_init__(self) -> None:
        check_fields(self)
        check_heads(self.width, self.head_dim)


class IPAdapterEncoder(Pretrained):
    """Latents of images (b, c, 1, h, w), of any size, to tokens (b, n, d) in the space of a text encoder's.

    In the manner of Ye et al. 2023 (IP-Adapter, section 3.2): a few tokens of an image that the denoiser attends to
    beside the text's. Here its own attention to the text reads them too, with no weights added to it. Learned queries
    go through a transformer together with the cells, each of which is given its neighbors and its position first.
    """

    config_class = IPAdapterConfig
    former_names = ("ImagePromptEncoder",)

    def __init__(self, config: IPAdapterConfig) -> None:
        super().__init__(config)
        width = config.width
        self.near = nn.Conv2d(config.latent_channels, width, 3, padding=1)
        self.far = nn.Conv2d(width, width, 3, padding=1)
        self.place = nn.Linear(config.head_dim, width)
        self.queries = nn.Parameter(torch.randn(config.tokens, width))
        self.blocks = nn.ModuleList([TextBlock(width, config.head_dim) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, config.text_width)

    def forward(self, latents: Float[Tensor, "b c 1 h w"]) -> Float[Tensor, "b n d"]:
        """Return the tokens of images. Raises ValueError for latents of another shape."""
        c = self.config
        weight = self.near.weight
        if latents.ndim != 5 or latents.shape[1] != c.latent_channels or latents.shape[2] != 1:
            raise ValueError(
                f"latents {tuple(latents.shape)} are not those of single images, (b, {c.latent_channels}, 1, h, w)"
            )
        grid = (1, *latents.shape[3:])
        cells = self.near(latents[:, :, 0].to(weight.dtype))
        cells = cells + self.far(F.gelu(cells))
        positions = torch.cat(rotary_table(grid, c.head_dim // 2, 0.0, weight.device, weight.dtype), dim=-1)
        x = rearrange(cells, "b d h w -> b (h w) d") + self.place(positions)
        x = torch.cat([repeat(self.queries, "n d -> b n d", b=len(x)), x], dim=1)
        for block in self.blocks:
            x = block(x, None)
        return self.out(self.norm(x[:, : c.tokens]))


def beside_text(
    text: TextEncoding, images: Float[Tensor, "b n d"], shown: Bool[Tensor, " b"] | None = None
) -> TextEncoding:
    """Return the text with the tokens of images before its own; in rows where `shown` is False they are hidden.

    Before, because a text's padding stands at its end, where networks may cut it.
    """
    mask = torch.ones(images.shape[:2], dtype=torch.bool, device=images.device)
    if shown is not None:
        mask = mask & shown[:, None].to(mask.device)
    tokens = images * mask[..., None].to(images.dtype)  # what is hidden is silent, as padding is
    return replace(
        text, tokens=torch.cat([tokens.to(text.tokens), text.tokens], 1), mask=torch.cat([mask, text.mask], 1)
    )
