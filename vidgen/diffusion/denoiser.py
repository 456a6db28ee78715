"""A denoiser is a function (x_t, t) -> x0: network, prediction type and path, with the conditions closed over."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from vidgen.diffusion.paths import ProbabilityPath, expand_level
from vidgen.diffusion.prediction_types import find_prediction_type
from vidgen.interfaces import Denoiser


def make_denoiser(
    network: Callable[..., Tensor], path: ProbabilityPath, prediction_type: str, **conditions: object
) -> Denoiser:
    """Return the denoiser of `network(x, t, **conditions)`, whose output is one of PREDICTION_TYPES.

    The network runs in whatever dtype it has, on x times the path's input scale; x0 is computed in float32 or better.
    """
    to_x0 = find_prediction_type(prediction_type).to_x0

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        level = expand_level(t, x)
        per_frame = level.reshape(x.shape[0], -1)  # on the device and in the precision of x
        t = per_frame if t.ndim == 2 else per_frame.squeeze(1)
        prediction = network(path.input_scale(level) * x, t, **conditions)
        return to_x0(prediction.to(level.dtype), x, path.alpha(level), path.sigma(level))

    return denoise
