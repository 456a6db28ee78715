"""Prediction types: the quantities that a network may predict of x_t = alpha x0 + sigma eps, by diffusers' names."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vidgen.errors import VidgenError


def x0_of_eps(eps: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return (x - sigma eps) / alpha. Raises VidgenError where alpha is 0: x_t is noise alone."""
    if (alpha == 0).any():
        raise VidgenError(
            "a prediction of epsilon says nothing of x0 where alpha is 0 (t = 1, zero terminal SNR); "
            "predict sample, v_prediction or flow_prediction, or start below t = 1 (`highest` of the time distribution)"
        )
    return (x - sigma * eps) / alpha


@dataclass(frozen=True)
class PredictionType:
    """What a network predicts, `target(x0, eps, alpha, sigma)`; `to_x0(prediction, x_t, alpha, sigma)` inverts it.

    `gain(r)`, r = sigma / alpha, is |d x0 / d prediction| at fixed x_t: an error of the prediction is that much of x0.
    """

    target: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    to_x0: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    gain: Callable[[Tensor], Tensor]


# By diffusers' names.
PREDICTION_TYPES: dict[str, PredictionType] = {
    "sample": PredictionType(lambda x0, eps, a, s: x0, lambda p, x, a, s: p, torch.ones_like),
    "epsilon": PredictionType(lambda x0, eps, a, s: eps, x0_of_eps, lambda r: r),
    # Salimans & Ho 2022, section 4, divided by sqrt(alpha^2 + sigma^2), so that it has the data's scale on every path;
    # on the EDM path it is minus the F of Karras et al. 2022, eq. 7, for data of unit variance.
    "v_prediction": PredictionType(
        lambda x0, eps, a, s: (a * eps - s * x0) / (a * a + s * s).sqrt(),
        lambda p, x, a, s: (a * x - s * (a * a + s * s).sqrt() * p) / (a * a + s * s),
        lambda r: r / (1.0 + r * r).sqrt(),
    ),
    # The velocity of straight lines, dx_t/dt = eps - x0, on any path.
    "flow_prediction": PredictionType(
        lambda x0, eps, a, s: eps - x0, lambda p, x, a, s: (x - s * p) / (a + s), lambda r: r / (1.0 + r)
    ),
}

# Their names before, which older folders, recipes and callers may still have.
FORMER_PREDICTION_TYPES = {"x0": "sample", "eps": "epsilon", "v": "v_prediction", "flow": "flow_prediction"}


def read_prediction_type(name: str) -> str:
    """Return the name of a prediction type today, with a warning where it is a former one."""
    if name not in tuple(FORMER_PREDICTION_TYPES):  # which a list is not, nor can be looked up by
        return name
    now = FORMER_PREDICTION_TYPES[name]
    warnings.warn(f"prediction type {name!r} is now called {now!r}", FutureWarning, stacklevel=3)
    return now


def find_prediction_type(name: str) -> PredictionType:
    """Return the prediction type of that name, or of that former name. Raises VidgenError for one that is unknown."""
    name = read_prediction_type(name)
    if name not in PREDICTION_TYPES:
        raise VidgenError(f"prediction type {name!r}: choose one of {', '.join(PREDICTION_TYPES)}")
    return PREDICTION_TYPES[name]


def convert_prediction(prediction: Tensor, source: str, target: str, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return a prediction of kind `source` at x_t as one of kind `target`; both of PREDICTION_TYPES.

    Where sigma is 0, x_t says nothing of eps, and only x0 can be asked for; where alpha is 0, see `x0_of_eps`.
    """
    x0 = find_prediction_type(source).to_x0(prediction, x, alpha, sigma)
    target = read_prediction_type(target)
    if target == "sample":
        return x0
    if (sigma == 0).any():
        raise VidgenError(f"no {target} follows from a prediction of {source} where sigma is 0 (t = 0, clean data)")
    return find_prediction_type(target).target(x0, (x - alpha * x0) / sigma, alpha, sigma)
