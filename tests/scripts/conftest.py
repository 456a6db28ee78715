"""Tiny models with random weights, clips of a few frames, and the command line run in this very process."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vidgen.data.writing import write_video
from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder
from vidgen.pipelines.loading import load_pipeline
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.pipelines.video import VideoPipeline
from vidgen.scripts.main import dispatch
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a command line left behind: exit status and both streams."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that a failure prints."""
        lines = self.err.splitlines()
        assert self.status == 2 and len(lines) == 1 and lines[0].startswith("error: "), self
        assert self.out == "", self
        return lines[0]


@pytest.fixture
def vidgen(capsys: pytest.CaptureFixture) -> Callable[..., Ran]:
    """`vidgen("sample", "a circle")` runs that command line."""

    def run(*words: object) -> Ran:
        capsys.readouterr()
        status = dispatch([os.fspath(word) if isinstance(word, Path) else str(word) for word in words])
        captured = capsys.readouterr()
        return Ran(status=status, out=captured.out, err=captured.err)

    return run


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a whole pipeline: clips of 5 frames of 16x16 in two steps."""
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(PRESETS["tiny"])
    shape = VideoDiTConfig(latent_channels=4, patch=(1, 1, 1), width=32, depth=2, head_dim=16, text_width=16)
    text = ByteTextEncoder(ByteTextConfig(width=16, depth=1, head_dim=8, max_bytes=60))
    scheduler = SchedulerConfig(num_inference_steps=2, num_frames=5, height=16, width=16)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    VideoPipeline(tokenizer, VideoDiT(shape), text, scheduler).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def trained_model(model: Path) -> Path:
    """`model` with a network that is told three generation tasks."""
    folder = model.with_name("trained")
    pipe = load_pipeline(str(model))
    torch.manual_seed(0)
    shape = replace(pipe.transformer.config, tasks=3, task_names=("text_to_video", "colorization", "super_resolution"))
    transformer = VideoDiT(shape)
    torch.nn.init.normal_(transformer.labels_in.task_id.weight)
    VideoPipeline(pipe.vae, transformer, pipe.text_encoder, pipe.scheduler).save_pretrained(folder)
    return folder


def moving_square(frames: int = 9, height: int = 24, width: int = 32) -> np.ndarray:
    """uint8 (t, h, w, 3): a square that goes to the right over a slope of grey."""
    clip = np.empty((frames, height, width, 3), np.uint8)
    clip[:] = np.linspace(60, 180, width, dtype=np.uint8)[None, None, :, None]
    for t in range(frames):
        clip[t, 8:16, t : t + 8] = (220, 40, 40)
    return clip


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A sound mp4 of 9 frames, 24x32, at 8 fps; its name has a blank and letters outside ASCII."""
    return write_video(moving_square(), tmp_path / "ein Clip für 動画.mp4", fps=8)
