"""The shipped encoder: small, and its features say what its card says that they do, on a few clips."""

import numpy as np
import pytest
import torch

from vidgen.checkpoints.hub import SHIPPED
from vidgen.data.frames import to_tensor
from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig
from vidgen.errors import VidgenError
from vidgen.models.encoders.video_vit import VideoViT
from vidgen.pipelines.loading import load_feature_encoder, load_pipeline
from vidgen.representations.baselines import random_like
from vidgen.representations.denoiser_encoder import up_to_last

TRAIN, TEST = 120, 60
LAYER = "blocks.3"


def test_weights_are_small_and_bfloat16():
    from safetensors.torch import load_file

    (file,) = (SHIPPED / "encoder").rglob("*.safetensors")
    assert file.stat().st_size < 8e6
    assert {t.dtype for t in load_file(file).values()} <= {torch.bfloat16}


@torch.no_grad()
def explained(encoder: VideoViT, clips: list) -> float:
    """Return the share of the variance of mean velocity, of the last clips, that a ridge regression tells."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    video = torch.stack([to_tensor(clip.video) for clip in clips])
    maps = [dict(up_to_last(encoder.iter_features(part), [LAYER]))[LAYER] for part in video.split(20)]
    X = torch.cat(maps).mean((3, 4)).flatten(1)
    y = np.array([clip.labels.objects[0].velocity.mean(0) for clip in clips])
    probe = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 5, 6)))
    return probe.fit(X[:TRAIN].numpy(), y[:TRAIN]).score(X[TRAIN:].numpy(), y[TRAIN:])


def test_features_tell_velocity_where_those_of_random_weights_do_not():
    encoder = load_feature_encoder("encoder")
    assert isinstance(encoder, VideoViT) and encoder.config.clip == (16, 64, 64)
    world = ShapeWorld(ShapeWorldConfig(split="held_out", num_frames=16))
    clips = [world[i] for i in range(TRAIN + TEST)]
    assert explained(encoder, clips) > 0.3 + max(0.0, explained(random_like(encoder, seed=0), clips))


def test_it_makes_no_clips_and_says_so():
    with pytest.raises(VidgenError, match="encoder is a VideoViT alone, and a pipeline is a folder with model_index"):
        load_pipeline("encoder")
