"""Quality of one clip, frame by frame in the memory of two: motion, sharpness, brightness, contrast, hashes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import laplace

from vidgen.data.curation.scene_cuts import CutCounter
from vidgen.data.manifests import ClipRecord
from vidgen.data.reading import iter_frames

PREFIX = "quality_"  # of columns: a data set may have a `motion` of its own, as the synthetic world does
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601
HASHED_SIDE = 32  # pixels of the square that is hashed
HASH_SIDE = 8  # lowest frequencies each way
COLOR_SIDE = 4  # of those of colour differences
HASHED_FRAMES = 5  # of a clip, spread evenly
LEVELS = np.arange(16.0, 256.0, 16.0)  # of the mean brightness
NO_COLOR = 128.0  # of a colour difference
COLOR_LEVELS = np.array([20.0, 50.0, 100.0, 160.0])  # gray levels; colours are coded more coarsely
LEAST_COEFFICIENT = 8.0  # gray levels; below it stands what coding leaves in a plain area


@dataclass(frozen=True, kw_only=True)
class ClipQuality:
    """What was measured of a clip, in gray levels from 0 to 255, means over its sampled frames.

    motion: mean absolute difference of neighboring frames, 0 for a single one. sharpness: variance of the Laplacian.
    brightness: mean. contrast: standard deviation within a frame. seconds: its length. cuts: between scenes, None
    where they were not counted. hashes: perceptual hashes of some frames.
    """

    motion: float
    sharpness: float
    brightness: float
    contrast: float
    seconds: float
    cuts: int | None
    hashes: Bool[np.ndarray, "k bits"]

    def columns(self) -> dict[str, float | int]:
        """Return what a manifest's row says of it."""
        names = ("motion", "sharpness", "brightness", "contrast", "seconds")
        values: dict[str, float | int] = {PREFIX + name: round(getattr(self, name), 4) for name in names}
        return values if self.cuts is None else values | {f"{PREFIX}cuts": self.cuts}


def measure_quality(record: ClipRecord, *, fps: float, count_cuts: bool = False) -> ClipQuality:
    """Measure the part of a file that a record names, at `fps` frames a second. Raises VideoError, as for damage."""
    cuts = CutCounter(fps) if count_cuts else None
    sums = np.zeros(3)
    motion = 0.0
    count = steps = 0
    hashes = []
    before = None
    frames = iter_frames(record.path, start=record.start, duration=record.duration, fps=fps, native_fps=record.fps)
    for _, frame in frames:
        luma = frame.astype(np.float32) @ LUMA
        sums += measure_sharpness(luma), luma.mean(), luma.std()
        if before is not None and before.shape == luma.shape:
            motion += float(np.abs(luma - before).mean())
            steps += 1
        hashes.append(np.packbits(perceptual_hash(frame)))  # 42 bytes a frame
        if cuts is not None:
            cuts.add(frame)
        before = luma
        count += 1
    sharpness, brightness, contrast = (sums / count).tolist()
    picked = np.linspace(0, count - 1, HASHED_FRAMES).round().astype(int)
    return ClipQuality(
        motion=motion / max(steps, 1),
        sharpness=sharpness,
        brightness=brightness,
        contrast=contrast,
        seconds=count / fps,
        cuts=None if cuts is None else cuts.count,
        hashes=np.unpackbits(np.stack([hashes[number] for number in picked]), axis=1).astype(bool),
    )


def measure_sharpness(luma: Float32[np.ndarray, "h w"]) -> float:
    """Return the variance of the Laplacian (Pech-Pacheco et al. 2000), lower for what is out of focus."""
    return float(laplace(luma, mode="nearest").var())


def perceptual_hash(frame: UInt8[np.ndarray, "h w 3"]) -> Bool[np.ndarray, " bits"]:
    """Return bits that coding and scaling hardly change (after pHash, Zauner 2010): signs of low frequencies.

    Of brightness a bit is set where a coefficient of the cosine transform is above the median of all, and there is one
    for each level that the mean is above; of both colour differences a bit for each level that a coefficient is beyond,
    either way, so that clips which differ in colour alone are told apart. Coefficients that are next to nothing count
    as nothing: the noise of coding decides no bit in a plain picture.
    """
    small = Image.fromarray(frame).resize((HASHED_SIDE, HASHED_SIDE), Image.Resampling.BOX).convert("YCbCr")
    luma, *colors = np.moveaxis(np.asarray(small, np.float32), -1, 0)
    low = dctn(luma, norm="ortho")[:HASH_SIDE, :HASH_SIDE].ravel()
    low[np.abs(low) < LEAST_COEFFICIENT] = 0
    parts = [low > np.median(low[1:]), luma.mean() > LEVELS]  # the median without the mean
    for plane in colors:
        low = dctn(plane - NO_COLOR, norm="ortho")[:COLOR_SIDE, :COLOR_SIDE].ravel()
        parts += [(sign * low[:, None] > COLOR_LEVELS).ravel() for sign in (1, -1)]
    return np.concatenate(parts)
