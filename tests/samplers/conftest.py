"""A tiny pipeline with random weights, none of them zero: 4 frames a latent, 8x8 pixels a cell."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from vidgen.models.text import ByteTextConfig, ByteTextEncoder, TextEncoding
from vidgen.models.video_dit import VideoDiT, VideoDiTConfig
from vidgen.paths import FlowPath
from vidgen.samplers.pipeline import VideoPipeline
from vidgen.samplers.scheduler_config import SchedulerConfig
from vidgen.samplers.truths import ChainData
from vidgen.tokenizers.model import Encoded, VideoTokenizer
from vidgen.tokenizers.presets import PRESETS


@pytest.fixture(scope="session")
def pipe() -> VideoPipeline:
    torch.manual_seed(0)
    parts = (
        VideoTokenizer(PRESETS["tiny"]),
        VideoDiT(VideoDiTConfig(latent_channels=4, width=32, depth=2, head_dim=16, text_width=16)),
        ByteTextEncoder(ByteTextConfig(width=16, depth=1, head_dim=16)),
    )
    for part in parts:
        for parameter in part.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
        part.eval().requires_grad_(False)
    return VideoPipeline(*parts, SchedulerConfig(shift=1.5))


class Pixels(torch.nn.Module):
    """A tokenizer that is none: latents are eight times the pixels, so that those of a chain fit into [-1, 1]."""

    config = SimpleNamespace(ratio=1, ratio_t=1, latent_channels=3)

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(8.0))

    def encode(self, video):
        return Encoded(latents=video * self.scale, num_frames=video.shape[2], height=1, width=1)

    def decode_chunk(self, z, state):
        return z / self.scale, state


class ChainModel(torch.nn.Module):
    """The ideal denoiser of a chain as a network that predicts x0."""

    config = SimpleNamespace(patch=(1, 1, 1))

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, t, text):
        return ChainData(correlation=0.8).denoiser(FlowPath())(x, t)


def say_nothing(prompts):
    return TextEncoding(tokens=torch.zeros(len(prompts), 1, 1), mask=torch.ones(len(prompts), 1).bool())


@pytest.fixture
def chain_pipe() -> Callable[[int], VideoPipeline]:
    """A pipeline whose clips, of a size, are chains in time at every pixel: what it should make is known."""

    def make(side: int) -> VideoPipeline:
        scheduler = SchedulerConfig(parametrisation="x0", num_frames=3, height=side, width=side, sampler="heun")
        return VideoPipeline(Pixels(), ChainModel(), say_nothing, scheduler)

    return make
