"""Detection of saturated objects in a clip by hue, and tracking of each from frame to frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from einops import rearrange, reduce
from jaxtyping import Float
from scipy import ndimage

from vidgen.data.shapes.labels import COLOURS

if TYPE_CHECKING:
    from torch import Tensor

# Chroma, on the scale of 0..255 pixels, that no background reaches and that half-covered edges do.
MIN_CHROMA = 36.0
# Two hues closer than this are one object; the palette is at least 25 degrees apart.
HUE_GAP = np.radians(18)
HUE_WINDOW = np.radians(28)
HUE_SMOOTHING = np.radians(5)
HUE_BINS = 120
# Areas are fractions of the squared shorter side; the smallest shape of the world covers 0.031.
MIN_AREA = 0.02
# An object may be missed in this share of the frames, no more.
MAX_MISSING = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class TrackedObject:
    """One object followed through a clip.

    colour: nearest word of the palette. masks: share of each pixel that is object, only the largest connected part.
    area in pixels, center (x, y) in pixels, both per frame (interpolated where it was not visible). visible: per frame.
    """

    colour: str
    masks: Float[np.ndarray, "t h w"]
    area: Float[np.ndarray, " t"]
    center: Float[np.ndarray, "t 2"]
    visible: np.ndarray

    @property
    def is_lasting(self) -> bool:
        """Whether the object is visible from beginning to end, up to a frame in ten."""
        return bool(np.mean(~self.visible) <= MAX_MISSING)


def as_frames(video: np.ndarray | Tensor) -> Float[np.ndarray, "t h w 3"]:
    """Return frames in 0..255 as float32, of uint8 (t, h, w, 3), or of floats in [-1, 1] shaped ([1,] 3, t, h, w) or
    (t, h, w, 3); tensors of torch are welcome. Raises ValueError for anything else."""
    if hasattr(video, "detach"):
        video = video.detach().cpu()
        video = (video.float() if video.is_floating_point() else video).numpy()
    video = np.asarray(video)
    if video.ndim == 5 and len(video) == 1:
        video = video[0]
    if video.dtype == np.uint8 and video.ndim == 4 and video.shape[-1] == 3:
        return video.astype(np.float32)
    if np.issubdtype(video.dtype, np.floating) and video.ndim == 4 and 3 in (video.shape[0], video.shape[-1]):
        from vidgen.data.frames import scale_to_levels

        if video.shape[-1] != 3:
            video = rearrange(video, "c t h w -> t h w c")
        return np.clip(scale_to_levels(np.nan_to_num(video.astype(np.float32))), 0, 255)
    raise ValueError(f"expected uint8 (t, h, w, 3) or float (3, t, h, w), got {video.dtype} {video.shape}")


def chroma(rgb: np.ndarray) -> np.ndarray:
    """Return the colour plane without lightness, as complex numbers: the angle is the hue, the length the chroma.

    It is linear in RGB, so a pixel of which an object covers the share s lies at the share s of the way from the
    background's chroma to the object's: after subtracting the background, edges keep the hue of the object.
    """
    r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    return (r - 0.5 * (g + b)) + 1j * (0.75**0.5) * (g - b)


PALETTE_HUES = {name: float(np.angle(chroma(np.array(rgb, dtype=np.float32)))) for name, rgb in COLOURS.items()}


def hue_distance(a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
    """Return the absolute angle between hues, in [0, pi]."""
    return np.abs((a - b + np.pi) % (2 * np.pi) - np.pi)


def nearest_colour(hue: float) -> str:
    """Return the word of the palette with the nearest hue (radians)."""
    return min(PALETTE_HUES, key=lambda name: float(hue_distance(hue, PALETTE_HUES[name])))


def _hue_peaks(hue: np.ndarray, weight: np.ndarray, count: int) -> list[float]:
    """Return up to `count` hues around which the weight gathers, heaviest first."""
    histogram, edges = np.histogram(hue, bins=HUE_BINS, range=(-np.pi, np.pi), weights=weight)
    step = 2 * np.pi / HUE_BINS
    smooth = ndimage.gaussian_filter1d(histogram, HUE_SMOOTHING / step, mode="wrap")
    middles = (edges[:-1] + edges[1:]) / 2
    is_peak = (smooth > 0) & (smooth >= np.roll(smooth, 1)) & (smooth > np.roll(smooth, -1))
    peaks: list[float] = []
    for index in sorted(np.flatnonzero(is_peak), key=lambda i: -smooth[i]):
        if len(peaks) < count and all(hue_distance(middles[index], peak) > HUE_GAP for peak in peaks):
            peaks.append(float(middles[index]))
    return peaks


def _largest_parts(solid: np.ndarray) -> np.ndarray:
    """Return in each frame the largest connected part of a boolean (t, h, w), grown by two pixels for its edge."""
    in_frame = np.zeros((3, 3, 3), dtype=bool)
    in_frame[1] = True
    # Parts connect within a frame only: the middle slice of the neighborhood.
    parts, count = ndimage.label(solid, structure=in_frame)
    if count == 0:
        return solid
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    largest = reduce(sizes[parts], "t h w -> t 1 1", "max")
    # Of equally large parts the first one counts.
    best = reduce(np.where(sizes[parts] == largest, count + 1 - parts, 0), "t h w -> t 1 1", "max")
    chosen = (count + 1 - parts == best) & (parts > 0)
    return ndimage.binary_dilation(chosen, structure=in_frame, iterations=2)


def _follow(tinted: np.ndarray, pixels: np.ndarray) -> TrackedObject | None:
    """Return the object that the pixels `pixels` of the clip's chroma above background `tinted` (t, h, w) belong to."""
    frames, height, width = tinted.shape
    strength = np.abs(tinted[pixels])
    if strength.size == 0:
        return None
    core = pixels & (np.abs(tinted) > 0.7 * np.quantile(strength, 0.8))
    full = tinted[core].mean()  # chroma of a pixel wholly covered
    share = np.real(tinted * np.conj(full)) / np.abs(full) ** 2
    masks = np.clip(share, 0, 1) * _largest_parts(pixels & (share > 0.4))
    area = reduce(masks, "t h w -> t", "sum")
    visible = area >= MIN_AREA * min(height, width) ** 2
    if not visible.any():
        return None
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    mass = np.maximum(area, 1e-6)
    center = np.stack([masks.sum(1) @ x / mass, masks.sum(2) @ y / mass], axis=-1)
    times = np.arange(frames)
    filled = [np.interp(times, times[visible], values[visible]) for values in (area, center[:, 0], center[:, 1])]
    return TrackedObject(
        colour=nearest_colour(float(np.angle(full))),
        masks=masks,
        area=filled[0],
        center=np.stack(filled[1:], axis=-1),
        visible=visible,
    )


def find_objects(frames: Float[np.ndarray, "t h w 3"], max_objects: int = 3) -> list[TrackedObject]:
    """Return the objects seen in at least half of the frames, most prominent (largest mass over the clip) first.

    Only the largest connected part of each hue counts, so objects must differ in colour to be told apart.
    """
    tinted = chroma(frames)
    flat = tinted.ravel()
    tinted = tinted - (np.median(flat.real) + 1j * np.median(flat.imag))
    strength = np.abs(tinted)
    coloured = strength > MIN_CHROMA
    hue = np.angle(tinted[coloured])
    peaks = _hue_peaks(hue, strength[coloured], max_objects)
    if not peaks:
        return []
    distance = hue_distance(hue[:, None], np.array(peaks))  # pixel peak
    nearest = np.where(distance.min(axis=1) < HUE_WINDOW, distance.argmin(axis=1), -1)
    owner = np.full(tinted.shape, -1)
    owner[coloured] = nearest
    tracks = [_follow(tinted, owner == number) for number in range(len(peaks))]
    objects = [track for track in tracks if track is not None and track.visible.mean() >= 0.5]
    return sorted(objects, key=lambda track: -track.masks.sum())
