"""Weights of the denoising loss: one mechanism, a weight on the squared error of x0 as a function of sigma / alpha.

A loss |prediction - target|^2 is a loss |x0 error|^2 under another weight (Kingma & Gao 2023, table 1): the error of x0
is `gain` times that of the prediction. So a weighting means the same whatever the network predicts.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vidgen.diffusion.paths import PREDICTION_TYPES
from vidgen.errors import VidgenError

GAMMA = 5.0  # of min-SNR, as its paper recommends
# sigma / alpha is kept in this range: at its ends a weight may be 0 or infinite, of which a loss can use neither.
SMALLEST, LARGEST = 1e-4, 1e4


def unit_weight(prediction_type: str) -> Callable[[Tensor], Tensor]:
    """The weight on x0's error that is 1 on the error of a prediction of this kind."""
    return lambda r: PREDICTION_TYPES[prediction_type].gain(r) ** -2


# Weights on |x0 error|^2; r = sigma / alpha, SNR = r^-2.
WEIGHTINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "x0": unit_weight("x0"),
    "eps": unit_weight("eps"),  # the SNR: "simple" of Ho et al. 2020, eq. 14
    "v": unit_weight("v"),
    "flow": unit_weight("flow"),
    "edm": lambda r: (r * r + 1.0) / (r * r),  # Karras et al. 2022, table 1, lambda(sigma), for data of unit variance
    "min_snr": lambda r: (r**-2).clamp(max=GAMMA),  # Hang et al. 2023, section 3.4
}


def prediction_weight(weighting: str, prediction_type: str, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What |prediction - target|^2 is multiplied by, at each level, for the loss that `weighting` names.

    "none" is 1 whatever is predicted; other names are of WEIGHTINGS. Raises VidgenError for a name that is unknown.
    """
    if weighting == "none":
        return torch.ones_like(alpha)
    if weighting not in WEIGHTINGS:
        raise VidgenError(f"loss weighting {weighting!r}: choose one of none, {', '.join(WEIGHTINGS)}")
    ratio = (sigma / alpha).clamp(SMALLEST, LARGEST)
    return WEIGHTINGS[weighting](ratio) * PREDICTION_TYPES[prediction_type].gain(ratio) ** 2
