"""Small models with random weights, every gate open."""

import pytest
import torch

from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.pipelines.video import VideoPipeline
from vidgen.representations.baselines import random_like
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS


@pytest.fixture(scope="session")
def pipeline() -> VideoPipeline:
    """Latents 4x4x8 of 5-frame, 32x32 clips, and so on; four blocks. Do not change its weights."""
    dit = VideoDiTConfig(latent_channels=4, width=32, depth=4, head_dim=16, text_width=16)
    text = ByteTextConfig(width=16, depth=1, head_dim=16)
    scheduler = SchedulerConfig(num_frames=5, height=32, width=32, fps=8.0)
    made = VideoPipeline(VideoTokenizer(PRESETS["tiny"]), VideoDiT(dit), ByteTextEncoder(text), scheduler)
    return random_like(made, seed=0)


@pytest.fixture(scope="session")
def video() -> torch.Tensor:
    """Three clips (3, 9, 32, 48)."""
    return torch.rand(3, 3, 9, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
