from collections.abc import Callable

import pytest
import torch

from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.pipelines.video import VideoPipeline
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS
from vidgen.train.config import DiffusionRecipe
from vidgen.train.config.files import load_recipe

TINY_TOKENIZER = [
    "preset=tiny", "steps=6", "batch_size=2", "log_every=1", "validate_every=3", "checkpoint_every=2",
    "data.num_frames=5", "data.size=[16,16]", "data.validation_clips=2", "data.sources=[{kind: shapes}]",
]  # fmt: skip


@pytest.fixture
def tokenizer_recipe(tmp_path):
    """(recipe name, overrides) of a tokenizer run of seconds, to be passed to `load_recipe`."""
    return "tokenizer_default", [*TINY_TOKENIZER, f"out={tmp_path / 'run'}"]


@pytest.fixture
def tiny_base(tmp_path) -> Callable[[SchedulerConfig], list[str]]:
    """Saves a tiny pipeline, none of whose layers is zero, as `base`; overrides of a recipe that goes on from there."""

    def save(scheduler: SchedulerConfig) -> list[str]:
        torch.manual_seed(0)
        parts = (
            VideoTokenizer(PRESETS["tiny"]),
            VideoDiT(VideoDiTConfig(latent_channels=4, width=32, depth=2, head_dim=16, text_width=16)),
            ByteTextEncoder(ByteTextConfig(width=16, depth=1, head_dim=16)),
        )
        for parameter in parts[1].parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
        VideoPipeline(*parts, scheduler).save_pretrained(tmp_path / "base")
        places = {"init_from": "base", "tokenizer": "base", "cache": "cache", "out": "run"}
        return [f"{key}={tmp_path / name}" for key, name in places.items()]

    return save


@pytest.fixture
def tiny_diffusion(tmp_path) -> Callable[..., DiffusionRecipe]:
    """`tiny_diffusion(override, ...)`: a recipe over a tiny tokenizer, with its cache and run in tmp_path."""
    torch.manual_seed(0)
    VideoTokenizer(PRESETS["tiny"]).save_pretrained(tmp_path / "tok")
    places = [f"tokenizer={tmp_path / 'tok'}", f"cache={tmp_path / 'cache'}", f"out={tmp_path / 'run'}"]
    return lambda *overrides: load_recipe("diffusion_default", [*places, *overrides])
