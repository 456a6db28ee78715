"""A made-up tokenizer whose errors are known: latents are the frames themselves."""

import pytest
import torch
from einops import rearrange
from torch import Tensor

from vidgen.tokenizers.model import StreamState, TokenizerConfig, VideoTokenizer

RATE = 4
CONFIG = TokenizerConfig(bottleneck="ae", latent_channels=3 * RATE, patch_t=RATE, patch=1, widths=(4,), temporal=())


class FrameTokenizer(VideoTokenizer):
    """Four frames as one latent frame of twelve channels, exactly, but for an `offset` at position `spoiled`."""

    def __init__(self, spoiled: int | None = None, offset: float = 0.2) -> None:
        super().__init__(CONFIG)
        self.spoiled, self.offset = spoiled, offset

    def encode_hidden(self, video: Tensor, state: StreamState | None, last: bool) -> tuple[Tensor, StreamState]:
        if state is None:
            video = torch.cat([video[:, :, :1].expand(-1, -1, RATE - 1, -1, -1), video], dim=2)
        elif state.pending is not None:
            video = torch.cat([state.pending, video], dim=2)
        short = -video.shape[2] % RATE
        if last and short:
            video = torch.cat([video, video[:, :, -1:].expand(-1, -1, short, -1, -1)], dim=2)
        ready = video.shape[2] // RATE * RATE
        hidden = rearrange(video[:, :, :ready], "b c (t r) h w -> b (c r) t h w", r=RATE)
        return hidden, StreamState(cache={}, pending=video[:, :, ready:])

    def decode_chunk(self, latents: Tensor, state: StreamState | None = None) -> tuple[Tensor, StreamState]:
        x = rearrange(latents, "b (c r) t h w -> b c t r h w", r=RATE).clone()
        if self.spoiled is not None:
            x[:, :, (0 if state else 1) :, self.spoiled] += self.offset
        x = rearrange(x, "b c t r h w -> b c (t r) h w")
        return (x if state else x[:, :, RATE - 1 :]), StreamState(cache={})


@pytest.fixture
def frame_tokenizer() -> type[FrameTokenizer]:
    """`FrameTokenizer`."""
    return FrameTokenizer
