"""Spans that a moment may have, and how well each fits the similarity of a text over time. Nothing here is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from vidgen.representations.moments.curves import SimilarityCurve

Bounds = Float[np.ndarray, "m 2"]

WATERSHED_LEVELS = (0.3, 0.4, 0.5, 0.6, 0.7)  # heights of the water, from the curve's median to its top
FLANK = 0.5  # of a span, on either side of it, is its outside
LENGTH_STEP = 2**0.5  # from one length of sliding windows to the next
LENGTH_RANGE = (1.0, 16.0)  # of sliding windows, in windows of the model
POSITIONS = 4  # of a sliding window, within its own length
CHUNK = 2**22  # numbers held at once for the fit of templates


def watershed_spans(curve: SimilarityCurve, levels: Sequence[float] = WATERSHED_LEVELS) -> Bounds:
    """Return the stretches where a curve stands above the water, at several heights of it, with ends between windows
    where the curve crosses it (temporal actionness grouping, Zhao et al. 2017, section 4.2)."""
    times, values, _ = curve.knots
    base, top = float(np.median(values)), float(values.max())
    spans = []
    for level in levels:
        water = base + level * (top - base)
        above = values > water
        starts = np.flatnonzero(above & ~np.r_[False, above[:-1]])
        ends = np.flatnonzero(above & ~np.r_[above[1:], False])
        for first, last in zip(starts, ends, strict=True):
            start = times[first] if first == 0 else _crossing(times, values, first - 1, water)
            end = times[last] if last == len(times) - 1 else _crossing(times, values, last, water)
            spans.append((start, end))
    return _valid(np.array(spans, np.float64).reshape(-1, 2), curve.duration)


def _crossing(times: np.ndarray, values: np.ndarray, left: int, water: float) -> float:
    """Return when the curve crosses the water between two knots."""
    share = (water - values[left]) / (values[left + 1] - values[left])
    return float(times[left] + share * (times[left + 1] - times[left]))


def sliding_spans(curve: SimilarityCurve) -> Bounds:
    """Return spans of several lengths, from one window of the model up, at several places within each length."""
    window = float(np.median(curve.bounds[:, 1] - curve.bounds[:, 0]))
    spans = []
    length = LENGTH_RANGE[0] * window
    while length <= min(LENGTH_RANGE[1] * window, curve.duration) + 1e-9:
        starts = np.arange(0, curve.duration - length + 1e-9, length / POSITIONS)
        starts = np.r_[starts, curve.duration - length]
        spans.append(np.stack([starts, starts + length], axis=1))
        length *= LENGTH_STEP
    return _valid(np.concatenate(spans) if spans else np.array([[0.0, curve.duration]]), curve.duration)


def shot_spans(boundaries: Sequence[float], duration: float, longest: int = 4) -> Bounds:
    """Return the spans from one boundary to another, of up to `longest` shots; see `segmentation` for boundaries."""
    edges = np.unique(np.r_[0.0, [time for time in boundaries if 0 < time < duration], duration])
    spans = [(edges[i], edges[j]) for i in range(len(edges)) for j in range(i + 1, min(i + longest + 1, len(edges)))]
    return _valid(np.array(spans, np.float64).reshape(-1, 2), duration)


def snap_to_cuts(bounds: Bounds, cuts: Sequence[float], reach: float, duration: float) -> Bounds:
    """Return spans whose ends are moved to the nearest cut, or end of the film, where one is `reach` seconds near."""
    edges = np.unique(np.r_[0.0, [time for time in cuts if 0 < time < duration], duration])
    right = np.clip(np.searchsorted(edges, bounds), 1, len(edges) - 1)
    left, after = edges[right - 1], edges[right]
    nearest = np.where(bounds - left <= after - bounds, left, after)
    return _valid(np.where(np.abs(nearest - bounds) <= reach, nearest, bounds), duration)


def _valid(bounds: Bounds, duration: float) -> Bounds:
    """Return the spans inside the film that have a length, each once."""
    bounds = np.unique(np.clip(bounds, 0, duration), axis=0)
    return bounds[bounds[:, 1] - bounds[:, 0] > 1e-6]


def contrast(curve: SimilarityCurve, bounds: Bounds, flank: float = FLANK) -> Float[np.ndarray, " m"]:
    """Return the mean of the curve inside each span less that of its two flanks, each `flank` times as long (the
    inner-outer contrast of Shou et al. 2018, AutoLoc). Flanks end with the film; without any the outside is the film's
    mean."""
    length = flank * (bounds[:, 1] - bounds[:, 0])
    left = np.stack([np.maximum(bounds[:, 0] - length, 0), bounds[:, 0]], axis=1)
    right = np.stack([bounds[:, 1], np.minimum(bounds[:, 1] + length, curve.duration)], axis=1)
    widths = np.stack([left[:, 1] - left[:, 0], right[:, 1] - right[:, 0]])
    sums = np.stack([curve.means(left), curve.means(right)]) * widths
    total = widths.sum(axis=0)
    everywhere = curve.means(np.array([[0.0, curve.duration]]))[0]
    outside = np.where(total > 1e-9, sums.sum(axis=0) / np.where(total > 1e-9, total, 1), everywhere)
    return curve.means(bounds) - outside


def overlap_templates(windows: Bounds, bounds: Bounds) -> Float[np.ndarray, "m n"]:
    """Return the share of each window that lies inside each span: the curve of a text that is true of just the span, of
    a model that sees of a window how much of it is right."""
    low = np.maximum(bounds[:, None, 0], windows[None, :, 0])
    high = np.minimum(bounds[:, None, 1], windows[None, :, 1])
    return np.clip(high - low, 0, None) / (windows[:, 1] - windows[:, 0])


def template_fit(curve: SimilarityCurve, bounds: Bounds) -> Float[np.ndarray, " m"]:
    """Return the correlation, in [-1, 1], of the curve with the one that a moment at each span would give.

    Of all spans, the one of the highest correlation is the least-squares fit of a step up and down again as windows
    blur it (a matched filter), so that its ends are not drawn out by the length of a window.
    """
    centered = curve.values - curve.values.mean()
    norm = np.linalg.norm(centered)
    fits = np.zeros(len(bounds))
    rows = max(1, CHUNK // len(centered))
    for first in range(0, len(bounds), rows):
        templates = overlap_templates(curve.bounds, bounds[first : first + rows])
        templates -= templates.mean(axis=1, keepdims=True)
        scale = np.linalg.norm(templates, axis=1) * norm
        # rounding leaves a trace of what is constant, and a span that all windows share alike fits nothing
        flat = scale <= 1e-9 * max(norm, 1e-12) * len(centered) ** 0.5
        fits[first : first + rows] = np.where(flat, 0.0, templates @ centered / np.where(flat, 1.0, scale))
    return fits


PROPOSAL_SCORES: dict[str, Callable[[SimilarityCurve, Bounds], Float[np.ndarray, " m"]]] = {
    "contrast": contrast,
    "template": template_fit,
}
