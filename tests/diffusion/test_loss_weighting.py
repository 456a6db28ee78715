"""A weight on the error of x0 is one loss, whatever the network predicts; published weights are cases of it."""

import pytest
import torch

from vidgen.diffusion.loss_weighting import GAMMA, WEIGHTINGS, prediction_weight
from vidgen.diffusion.prediction_types import PREDICTION_TYPES
from vidgen.errors import VidgenError


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_a_weighting_means_the_same_whatever_is_predicted(weighting):
    # An error d of the prediction is an error gain * d of x0: weight * d^2 must be that of the x0 loss.
    alpha, sigma = torch.tensor([0.9, 0.5, 0.1]), torch.tensor([0.2, 0.5, 1.0])
    on_x0 = prediction_weight(weighting, "sample", alpha, sigma)
    for kind, prediction_type in PREDICTION_TYPES.items():
        ours = prediction_weight(weighting, kind, alpha, sigma)
        assert torch.allclose(ours / prediction_type.gain(sigma / alpha) ** 2, on_x0, rtol=1e-5)
    if weighting in PREDICTION_TYPES:
        assert torch.allclose(prediction_weight(weighting, weighting, alpha, sigma), torch.ones(3))


def test_published_weights():
    alpha, sigma = torch.tensor([0.99, 0.8, 0.3]), torch.tensor([0.1, 0.6, 0.95])
    snr = (alpha / sigma) ** 2
    assert torch.allclose(prediction_weight("min_snr", "epsilon", alpha, sigma), snr.clamp(max=GAMMA) / snr)
    assert torch.allclose(
        prediction_weight("min_snr", "v_prediction", alpha, sigma), snr.clamp(max=GAMMA) / (snr + 1.0)
    )
    ones, noise = torch.ones(3), torch.tensor([0.01, 1.0, 30.0])
    assert torch.allclose(prediction_weight("edm", "sample", ones, noise), (noise**2 + 1.0) / noise**2)
    # unit for the network's own output
    assert torch.allclose(prediction_weight("edm", "v_prediction", ones, noise), ones)
    ends = prediction_weight("min_snr", "v_prediction", torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    assert torch.isfinite(ends).all()
    with pytest.raises(VidgenError, match="loss weighting 'heavy': choose one of none, sample, epsilon"):
        prediction_weight("heavy", "sample", ones, ones)
