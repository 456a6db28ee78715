"""Attention over time after the blocks of image models of transformers and timm."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.adaptation.adapted_encoder import AdaptedEncoder
from vidgen.models.encoders.loading import load_encoder

SETTINGS = {"width": 16, "head_dim": 8}
SHAPE = {"clip": (4, 40, 44), "fps": 8.0}


@pytest.mark.parametrize("name", ["clip", "siglip", "dinov2 registers", "dinov3", "timm vit", "timm convnext"])
def test_frames_are_alone_at_the_start_and_see_each_other_then(folders, video, name):
    encoder = load_encoder(folders[name])
    with torch.no_grad():
        before = dict(encoder.iter_features(video))
        adapted = AdaptedEncoder(encoder, "temporal", SETTINGS, **SHAPE)
        start = dict(adapted.iter_features(video))
        assert list(start) == [info.name for info in adapted.feature_info]
        assert all(torch.equal(start[key], x) for key, x in before.items())
        for layer in adapted.adaptation.layers:
            torch.nn.init.normal_(layer.up.weight, generator=torch.Generator().manual_seed(1))
        other = video.clone()
        other[:, :, 3] = -other[:, :, 3]
        frames = [dict(adapted.iter_features(x))["last"][:, :, 0] for x in (video, other)]
    assert (frames[0] - frames[1]).abs().max() > 1e-4
    assert all(layer.down.weight.requires_grad for layer in adapted.adaptation.layers)
    assert not any(x.requires_grad for x in encoder.parameters())


@pytest.mark.parametrize(("name", "words"), [("videomae", "reads clips itself"), ("timm swin", "channels last")])
def test_towers_that_cannot_be_adapted_are_refused(folders, name, words):
    with pytest.raises(VidgenError, match=words):
        AdaptedEncoder(load_encoder(folders[name]), "temporal", SETTINGS, **SHAPE)
