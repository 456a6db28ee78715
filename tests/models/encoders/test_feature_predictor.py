"""Predictors of features: what they see, what they are told of, and their folder."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.encoders.feature_predictor import FeaturePredictor, output_tokens
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig
from vidgen.models.heads.token_predictor import TokenPredictor, TokenPredictorConfig

SHAPE = VideoViTConfig(patch=(2, 8, 8), width=32, depth=2, head_dim=16, clip=(8, 16, 16))


def make(*, own: bool = False, layer: str = "") -> FeaturePredictor:
    torch.manual_seed(0)
    encoder = VideoViT(SHAPE)
    config = TokenPredictorConfig(width=32, head_dim=16, context_width=32, channels=32, target_layer=layer)
    teacher = encoder if own else VideoViT(SHAPE)
    return FeaturePredictor(encoder=encoder, predictor=TokenPredictor(config), teacher=teacher).eval()


def draw() -> torch.Tensor:
    return torch.randn(2, 3, 8, 16, 16, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_predictions_see_no_later_frame():
    model, video = make(), draw()
    told = model(video, 2, 2)
    assert told.shape == (2, 2, 2, 2, 32)
    changed = video.clone()
    changed[:, :, 4:] = 0.0
    torch.testing.assert_close(model(changed, 2, 2), told)
    changed[:, :, 3] = 0.0
    assert not torch.allclose(model(changed, 2, 2), told, atol=1e-3)
    torch.testing.assert_close(model(video, 2, 1), model.predictor(
        model.encoder(video, torch.arange(8).expand(2, -1)), torch.arange(8).expand(2, -1),
        torch.arange(8, 12).expand(2, -1), (4, 2, 2),
    ).reshape(2, 1, 2, 2, 32))  # fmt: skip
    for seen, ahead in ((0, 1), (4, 1), (3, 2), (2, 0)):
        with pytest.raises(ValueError, match="a clip of 4 token frames"):
            model(video, seen, ahead)


@torch.no_grad()
def test_features_are_the_teachers_normalized_over_channels():
    model, video = make(), draw()
    torch.testing.assert_close(model.features(video).reshape(2, 16, 32), output_tokens(model.teacher, video))
    of_layer = make(layer="blocks.0").features(video)
    assert of_layer.shape == (2, 4, 2, 2, 32)
    torch.testing.assert_close(of_layer.mean(-1), torch.zeros(2, 4, 2, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(of_layer.std(-1, unbiased=False), torch.ones(2, 4, 2, 2), atol=1e-3, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("own", [False, True])
def test_a_folder_of_it_is_one_of_its_encoder(own, tmp_path):
    model, video = make(own=own), draw()
    model.save_pretrained(tmp_path / "a")
    again = FeaturePredictor.from_pretrained(tmp_path / "a").eval()
    torch.testing.assert_close(again(video, 1, 3), model(video, 1, 3))
    torch.testing.assert_close(again.features(video), model.features(video))
    assert (again.teacher is again.encoder) == own
    torch.testing.assert_close(VideoViT.from_pretrained(tmp_path / "a")(video), model.encoder(video))
    other = model.fresh()
    assert not torch.allclose(other(video, 1, 3), model(video, 1, 3)) and (other.teacher is other.encoder) == own


def test_parts_that_do_not_fit_are_refused(tmp_path):
    VideoViT(SHAPE).save_pretrained(tmp_path / "alone")
    with pytest.raises(VidgenError, match="has no predictor of features"):
        FeaturePredictor.from_pretrained(tmp_path / "alone")
    model = make()
    narrow = TokenPredictor(TokenPredictorConfig(width=32, head_dim=16, context_width=48, channels=32))
    with pytest.raises(VidgenError, match="48 channels does not fit an encoder of 32"):
        FeaturePredictor(encoder=model.encoder, predictor=narrow, teacher=model.teacher)
    pixels = TokenPredictor(TokenPredictorConfig(width=32, head_dim=16, context_width=32, channels=384))
    with pytest.raises(VidgenError, match="come from another model"):
        FeaturePredictor(encoder=model.encoder, predictor=pixels, teacher=model.teacher)
