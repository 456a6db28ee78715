"""A tiny pipeline with random weights, none of them zero: 4 frames a latent, 8x8 pixels a cell."""

import pytest
import torch

from vidgen.models.text import ByteTextConfig, ByteTextEncoder
from vidgen.models.video_dit import VideoDiT, VideoDiTConfig
from vidgen.samplers.pipeline import VideoPipeline
from vidgen.samplers.scheduler_config import SchedulerConfig
from vidgen.tokenizers.model import VideoTokenizer
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
