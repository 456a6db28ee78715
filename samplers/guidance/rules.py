"""Guidance: denoisers in, a denoiser out.

`both` gives all denoisers' estimates in one pass (see `batched`). `interval` is of noise levels, a clip's being that of
its noisiest frame: outside of it the conditional estimate alone counts (Kynkaanniemi et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.paths import FlowPath, ProbabilityPath, expand_level
from vidgen.diffusion.prediction_types import PREDICTION_TYPES, PredictionType, find_prediction_type
from vidgen.interfaces import Denoiser
from vidgen.samplers.guidance.batched_guidance import Estimates, sequential

Clip = Float[Tensor, "b c t h w"]
Interval = tuple[float, float]  # of noise levels t, both ends included
Rule = Callable[..., Tensor]  # (x, t, *estimates) -> x0
ALWAYS: Interval = (0.0, 1.0)
FLOW = FlowPath()


@dataclass(frozen=True, kw_only=True)
class Rescale:
    """Guidance rescaling of what the model predicts, of `prediction_type` on `path`, to a `share` (Lin et al. 2023).

    This is the published convention. A rule's `rescale` may also be a bare share: then the estimates of x0 themselves
    are rescaled, as where a model predicts them.
    """

    share: float
    path: ProbabilityPath
    prediction_type: str

    def __bool__(self) -> bool:
        return bool(self.share)

    def __call__(self, guided: Clip, cond: Clip, x: Clip, t: Tensor) -> Clip:
        """Return the guided x0 whose prediction is rescaled; in clean frames, where none follows from x0, as it is."""
        kind = find_prediction_type(self.prediction_type)
        prediction, prior = (prediction_of(x0, x, t, self.path, kind) for x0 in (guided, cond))
        level = expand_level(t, x)
        alpha, sigma = self.path.alpha(level), self.path.sigma(level)
        x0 = kind.to_x0(rescaled(prediction, prior, self.share), x, alpha, sigma)
        return torch.where(sigma == 0, guided, x0)


def prediction_of(x0: Clip, x: Clip, t: Tensor, path: ProbabilityPath, kind: PredictionType) -> Clip:
    """Return the prediction of that kind that says x0; in clean frames one without noise."""
    level = expand_level(t, x)
    alpha, sigma = path.alpha(level), path.sigma(level)
    clean = sigma == 0
    eps = torch.where(clean, torch.zeros_like(x), (x - alpha * x0) / torch.where(clean, 1.0, sigma))
    return kind.target(x0, eps, alpha, sigma)


def guide(
    denoise_cond: Denoiser, estimates: Estimates, rule: Rule, interval: Interval, rescale: float | Rescale = 0.0
) -> Denoiser:
    """Return `rule` for clips whose level is in the interval, for others `denoise_cond`, the first of the estimates."""
    low, high = interval

    def denoise(x: Clip, t: Tensor) -> Clip:
        level = t.amax(1) if t.ndim == 2 else t  # known frames have level 0 throughout
        inside = (level >= low) & (level <= high)
        if not bool(inside.any()):
            return denoise_cond(x, t)
        cond, *others = estimates(x, t)
        guided = rule(x, t, cond, *others)
        if isinstance(rescale, Rescale):
            guided = rescale(guided, cond, x, t) if rescale else guided
        elif rescale:
            guided = rescaled(guided, cond, rescale)
        return guided if bool(inside.all()) else torch.where(expand_level(inside, x).bool(), guided, cond)

    return denoise


def rescaled(guided: Clip, cond: Clip, share: float) -> Clip:
    """Return `guided` with, to that share, the deviation of `cond` in each clip (Lin et al. 2023, sec. 3.4)."""
    axes = tuple(range(1, cond.ndim))
    ratio = cond.std(axes, keepdim=True) / guided.std(axes, keepdim=True).clamp(min=1e-12)
    return share * ratio * guided + (1.0 - share) * guided


def cfg(
    denoise_cond: Denoiser,
    denoise_uncond: Denoiser,
    scale: float,
    interval: Interval = ALWAYS,
    *,
    rescale: float | Rescale = 0.0,
    both: Estimates | None = None,
) -> Denoiser:
    """Return classifier-free guidance, x0 = uncond + scale (cond - uncond) (Ho & Salimans 2022, eq. 6).

    With a weaker model (smaller, or trained for less) under the same conditions in place of the unconditional one, this
    is autoguidance (Karras et al. 2024).

    Args:
        denoise_cond: The denoiser under the prompt.
        denoise_uncond: The one to lead away from.
        scale: 1 is the conditional denoiser.
        interval: Noise levels at which guidance acts; outside the conditional estimate alone counts.
        rescale: The share of `rescaled` in what comes out, or a `Rescale` of what the model predicts.
        both: All estimates in one pass; None runs the denoisers one after the other.
    """
    if scale == 1.0:
        return denoise_cond

    def rule(x: Clip, t: Tensor, cond: Clip, uncond: Clip) -> Clip:
        return uncond + scale * (cond - uncond)

    return guide(denoise_cond, both or sequential(denoise_cond, denoise_uncond), rule, interval, rescale)


def away_from(
    denoise_cond: Denoiser,
    others: Iterable[tuple[Denoiser, float]],
    interval: Interval = ALWAYS,
    *,
    rescale: float | Rescale = 0.0,
    both: Estimates | None = None,
) -> Denoiser:
    """Return several guidances at once, x0 = cond + sum of weight (cond - other).

    Such as text, autoguidance and perturbed attention (Ahn et al. 2024). `cfg` of scale s has weight s - 1.
    """
    others = list(others)
    weights = [weight for _, weight in others]

    def rule(x: Clip, t: Tensor, cond: Clip, *estimates: Clip) -> Clip:
        return cond + sum(w * (cond - other) for w, other in zip(weights, estimates, strict=True))

    return guide(denoise_cond, both or sequential(denoise_cond, *(d for d, _ in others)), rule, interval, rescale)


def pag(
    denoise_cond: Denoiser,
    denoise_perturbed: Denoiser,
    scale: float,
    interval: Interval = ALWAYS,
    *,
    rescale: float | Rescale = 0.0,
    both: Estimates | None = None,
) -> Denoiser:
    """Return perturbed-attention guidance, x0 = cond + scale (cond - perturbed) (Ahn et al. 2024, eq. 16).

    Scale 0 is none, where `cfg` has 1. Other arguments as those of `cfg`.
    """
    return away_from(denoise_cond, [(denoise_perturbed, scale)], interval, rescale=rescale, both=both)


def perturbed_cfg(
    denoise_cond: Denoiser,
    denoise_uncond: Denoiser,
    denoise_perturbed: Denoiser,
    scale: float,
    interval: Interval = ALWAYS,
    *,
    perturbed_scale: float = 1.0,
    rescale: float | Rescale = 0.0,
    both: Estimates | None = None,
) -> Denoiser:
    """Return `cfg`, and beside it guidance away from perturbed attention by `perturbed_scale` (Ahn et al. 2024).

    Other arguments as those of `cfg`.
    """
    others = [(denoise_uncond, scale - 1.0), (denoise_perturbed, perturbed_scale)]
    return away_from(denoise_cond, others, interval, rescale=rescale, both=both)


def text_image_cfg(
    denoise_cond: Denoiser,
    denoise_image: Denoiser,
    denoise_uncond: Denoiser,
    scale: float,
    interval: Interval = ALWAYS,
    *,
    image_scale: float = 1.0,
    rescale: float | Rescale = 0.0,
    both: Estimates | None = None,
) -> Denoiser:
    """Return guidance with a scale each for text and image (Brooks et al. 2023, eq. 3).

    x0 = uncond + image_scale (image - uncond) + scale (cond - image). `denoise_cond` has both conditions,
    `denoise_image` the image alone. Other arguments as those of `cfg`.
    """

    def rule(x: Clip, t: Tensor, cond: Clip, image: Clip, uncond: Clip) -> Clip:
        return uncond + image_scale * (image - uncond) + scale * (cond - image)

    return guide(denoise_cond, both or sequential(denoise_cond, denoise_image, denoise_uncond), rule, interval, rescale)


def apg(
    denoise_cond: Denoiser,
    denoise_uncond: Denoiser,
    scale: float,
    interval: Interval = ALWAYS,
    *,
    eta: float = 0.0,
    momentum: float = -0.5,
    norm_limit: float | None = None,
    rescale: float | Rescale = 0.0,
    both: Estimates | None = None,
) -> Denoiser:
    """Return adaptive projected guidance (Sadat et al. 2024, algorithm 1), which does not oversaturate at large scales.

    Of cond - uncond, plus `momentum` times the sum so far, at most `norm_limit` long in each clip, the part along cond
    counts `eta` times. eta 1, momentum 0 and no limit is `cfg`. The sum is kept between calls: make a new one for each
    sampling run. Other arguments as those of `cfg`.
    """
    past: list[Clip] = []

    def rule(x: Clip, t: Tensor, cond: Clip, uncond: Clip) -> Clip:
        axes = tuple(range(1, cond.ndim))
        pull = cond - uncond
        if momentum:
            pull = pull + momentum * past[0] if past else pull
            past[:] = [pull]
        if norm_limit is not None:
            length = pull.square().sum(axes, keepdim=True).sqrt()
            pull = pull * (norm_limit / length.clamp(min=1e-12)).clamp(max=1.0)
        along = project(pull, cond)
        return cond + (scale - 1.0) * (pull - along + eta * along)

    return guide(denoise_cond, both or sequential(denoise_cond, denoise_uncond), rule, interval, rescale)


def project(a: Clip, b: Clip) -> Clip:
    """Return the part of a along b, clip by clip."""
    axes = tuple(range(1, a.ndim))
    return (a * b).sum(axes, keepdim=True) / b.square().sum(axes, keepdim=True).clamp(min=1e-12) * b


def cfg_zero(
    denoise_cond: Denoiser,
    denoise_uncond: Denoiser,
    scale: float,
    interval: Interval = ALWAYS,
    *,
    path: ProbabilityPath = FLOW,
    zero_from: float = 1.0,
    rescale: float | Rescale = 0.0,
    both: Estimates | None = None,
) -> Denoiser:
    """Return the guidance CFG-Zero* (Fan et al. 2025), on velocities eps - x0.

    The unconditional velocity is first scaled so as to be closest to the conditional one. At levels of `zero_from` and
    above, those of the first steps (see `zero_level`), the velocity is 0, and the sample stays as it is (on the flow
    path). Other arguments as those of `cfg`.
    """
    flow = PREDICTION_TYPES["flow_prediction"]

    def rule(x: Clip, t: Tensor, cond: Clip, uncond: Clip) -> Clip:
        level = expand_level(t, x)
        alpha, sigma = path.alpha(level), path.sigma(level)
        v_cond, v_uncond = (prediction_of(x0, x, t, path, flow) for x0 in (cond, uncond))
        v_uncond = project(v_cond, v_uncond)  # the multiple of v_uncond that is nearest
        v = v_uncond + scale * (v_cond - v_uncond)
        v = torch.where(level >= zero_from, torch.zeros_like(v), v)
        return torch.where(sigma == 0, cond, flow.to_x0(v, x, alpha, sigma))

    return guide(denoise_cond, both or sequential(denoise_cond, denoise_uncond), rule, interval, rescale)


def zero_level(times: Tensor, steps: int) -> float:
    """Return the `zero_from` of `cfg_zero` that is of the first `steps` steps over these levels, and of no others.

    It lies between the levels of two steps, whose first may be anything: Wan's is 0.999999.
    """
    if steps == 0:
        return math.inf
    if steps >= len(times):
        return 0.0
    return float(times[steps - 1] + times[steps]) / 2.0
