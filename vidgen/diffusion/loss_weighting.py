"""Weights of the denoising loss: one mechanism, a weight on the squared error of x0 as a function of sigma / alpha.

A loss |prediction - target|^2 is a loss |x0 error|^2 under another weight (Kingma & Gao 2023, table 1): the error of x0
is `gain` times that of the prediction. So a weighting means the same whatever the network predicts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from vidgen.diffusion.prediction_types import FORMER_PREDICTION_TYPES, find_prediction_type
from vidgen.errors import VidgenError

GAMMA = 5.0  # of min-SNR, as its paper recommends
# sigma / alpha is kept in this range: at its ends a weight may be 0 or infinite, of which a loss can use neither.
SMALLEST, LARGEST = 1e-4, 1e4


def unit_weight(prediction_type: str) -> Callable[[Tensor], Tensor]:
    """Return the weight on x0's error that is 1 on the error of a prediction of this kind."""
    gain = find_prediction_type(prediction_type).gain
    return lambda r: gain(r) ** -2


# Weights on |x0 error|^2; r = sigma / alpha, SNR = r^-2.
WEIGHTINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "sample": unit_weight("sample"),
    "epsilon": unit_weight("epsilon"),  # the SNR: "simple" of Ho et al. 2020, eq. 14
    "v_prediction": unit_weight("v_prediction"),
    "flow_prediction": unit_weight("flow_prediction"),
    "edm": lambda r: (r * r + 1.0) / (r * r),  # Karras et al. 2022, table 1, lambda(sigma), for data of unit variance
    "min_snr": lambda r: (r**-2).clamp(max=GAMMA),  # Hang et al. 2023, section 3.4
}


def prediction_weight(weighting: str, prediction_type: str, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return the factor of |prediction - target|^2, at each level, that makes it the loss that `weighting` names.

    "none" is 1 whatever is predicted; other names are of WEIGHTINGS. Raises VidgenError for a name that is unknown.
    """
    if weighting in FORMER_PREDICTION_TYPES:
        now = FORMER_PREDICTION_TYPES[weighting]
        warnings.warn(f"loss weighting {weighting!r} is now called {now!r}", FutureWarning, stacklevel=2)
        weighting = now
    if weighting == "none":
        return torch.ones_like(alpha)
    if weighting not in WEIGHTINGS:
        raise VidgenError(f"loss weighting {weighting!r}: choose one of none, {', '.join(WEIGHTINGS)}")
    ratio = (sigma / alpha).clamp(SMALLEST, LARGEST)
    return WEIGHTINGS[weighting](ratio) * find_prediction_type(prediction_type).gain(ratio) ** 2
