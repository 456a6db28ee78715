"""Adapters: narrow layers after attention and after the feed-forward of frozen blocks."""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.models.adaptation.config import AdapterConfig
from vidgen.models.adaptation.token_adaptation import TokenAdaptation, attention_blocks
from vidgen.models.attention_patterns import Grid
from vidgen.models.encoders.clip_encoder import refuse_partial
from vidgen.models.encoders.mixers import over_grid
from vidgen.models.encoders.video_vit import VideoViT


class Adapter(nn.Module):
    """h + up gelu(conv(down h)), the identity at first, for `up` starts as zero (Houlsby et al. 2019, section 2.1).

    With a `kernel` there is a depthwise convolution over time and space (Pan et al. 2022, ST-Adapter, eq. 4).
    """

    def __init__(self, width: int, hidden: int, kernel: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.conv = (
            nn.Conv3d(hidden, hidden, kernel, groups=hidden, padding=[k // 2 for k in kernel]) if kernel else None
        )
        for parameter in self.up.parameters():
            nn.init.zeros_(parameter)

    def forward(self, h: Float[Tensor, "b n d"], grid: Grid) -> Float[Tensor, "b n d"]:
        """Return the output for tokens of a grid, or without a convolution for any."""
        z = self.down(h)
        if self.conv is not None:
            z = over_grid(self.conv, z, grid)
        return h + self.up(F.gelu(z))


class AdapterPair(nn.Module):
    """The adapters of a block, on what attention and the feed-forward add to the stream (Houlsby et al. 2019, figure
    2; both of them in an image transformer are AIM's, Yang et al. 2023, section 3.3)."""

    def __init__(self, width: int, config: AdapterConfig) -> None:
        super().__init__()
        self.attention, self.mlp = (Adapter(width, config.hidden, config.kernel) for _ in range(2))


class Adapters(TokenAdaptation):
    """A pair of adapters a block. Raises VidgenError for blocks without attention."""

    def __init__(self, encoder: VideoViT, config: AdapterConfig) -> None:
        super().__init__(encoder, config)
        blocks = attention_blocks(encoder, "adapter", ("joint", "factorised"))
        self.blocks = nn.ModuleList([AdapterPair(encoder.config.width, config) for _ in blocks])

    def iter_tokens(
        self, encoder: VideoViT, video: Tensor, keep: Int[Tensor, "b k"] | None
    ) -> Iterator[Float[Tensor, "b k d"]]:
        """Yield the stream before the first block and after each."""
        x, grid, rotary = encoder.begin(video, keep)
        yield x
        for i, (block, pair) in enumerate(zip(encoder.blocks, self.blocks, strict=True)):
            x = x + pair.attention(block.attention_branch(x, encoder.attention_of(i, grid, rotary)), grid)
            x = x + pair.mlp(block.mlp_branch(x), grid)
            yield x

    def check_partial(self, encoder: VideoViT) -> None:
        """Raise VidgenError where tokens of the clip may not be left out."""
        super().check_partial(encoder)
        if self.config.kernel:
            refuse_partial("an adapter with a kernel", ("adapt.kernel=0",))
