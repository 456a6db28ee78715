"""Places read from predictions, where what they should be is known."""

import numpy as np
import pytest
from torch import nn

from vidgen.errors import VidgenError
from vidgen.models.encoders.feature_predictor import FeaturePredictor
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig
from vidgen.models.heads.token_predictor import TokenPredictor, TokenPredictorConfig
from vidgen.representations.time.horizon import guess_positions, measure_horizon

SHAPE = VideoViTConfig(patch=(2, 16, 16), width=32, depth=1, head_dim=16, clip=(16, 32, 32))


def test_a_linear_feature_is_read_exactly_and_each_way_is_what_it_says():
    rng = np.random.default_rng(0)
    start, speed = rng.uniform(10, 50, (64, 1, 2)), rng.normal(0, 2, (64, 1, 2))
    straight = start + speed * np.arange(6)[None, :, None]
    features = straight @ rng.normal(size=(2, 5))
    guesses = guess_positions(features, features[:, 3:] * 0.1 + 7.0, straight, 48)  # a law of its own is read as well
    for source in ("features", "predicted"):
        np.testing.assert_allclose(guesses[source], straight[48:, 3:], atol=0.05)
    np.testing.assert_allclose(guesses["constant velocity"], straight[48:, 3:])
    np.testing.assert_allclose(guesses["stay"], np.repeat(straight[48:, 2:3], 3, axis=1))
    np.testing.assert_allclose(guesses["mean"][5, 1], straight[:48, 3:].mean((0, 1)))


class Oracle(FeaturePredictor):
    """Features are the brightness of each patch, and predictions those of the very frames."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        config = TokenPredictorConfig(width=32, head_dim=16, context_width=32, channels=32)
        self.encoder, self.predictor = VideoViT(SHAPE), TokenPredictor(config)

    def features(self, video):
        return video.unfold(2, 2, 2).mean((1, -1)).flatten(2)[:, :, None, None]

    def forward(self, video, seen, ahead):
        return self.features(video)[:, seen : seen + ahead]


def test_a_predictor_that_is_right_reads_what_the_frames_themselves_say():
    calls = []
    rows = measure_horizon(Oracle(), n=24, train_clips=16, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (40, 40)
    by = {(row["source"], row["frames"]): row for row in rows}
    assert {frames for _, frames in by} == {2, 4, 6, 8} and all(row["clips"] == 24 for row in rows)
    for frames in (2, 4, 6, 8):
        assert by["predicted", frames]["error"] == pytest.approx(by["features", frames]["error"])
        assert not by["predicted", frames]["baseline"] and by["stay", frames]["baseline"]
    errors = [by["stay", frames]["error"] for frames in (2, 4, 6, 8)]
    assert errors == sorted(errors) and by["constant velocity", 2]["error"] < by["stay", 2]["error"]


def test_short_clips_are_refused():
    short = VideoViT(VideoViTConfig(patch=(2, 16, 16), width=32, depth=1, head_dim=16, clip=(6, 32, 32)))
    config = TokenPredictorConfig(width=32, head_dim=16, context_width=32, channels=32)
    model = FeaturePredictor(encoder=short, predictor=TokenPredictor(config), teacher=short)
    with pytest.raises(VidgenError, match="4 or more are needed to see ahead"):
        measure_horizon(model, n=4)
