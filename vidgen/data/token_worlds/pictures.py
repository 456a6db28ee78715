"""Small pictures that move and bounce: the nats a frame of Video Pixel Networks, whose floor is a sum over pixels."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from vidgen.data.token_worlds.world import TokenClip, clip_generator, split_members
from vidgen.errors import VidgenError

LEVELS = 17  # gray levels of scikit-learn's digits, 0 to 16
SMALLEST_SIDE = 11  # with less room a step of two cells leaves the frame either way
HELD_OUT = 5  # every so many pictures are kept for validation
IDX_IMAGES = 0x00000803  # how a file of images begins, in MNIST's format
LARGEST_FILE = 2**28


@dataclass(frozen=True, kw_only=True)
class PictureWorld:
    """A picture of 8x8 cells and 17 gray levels that moves by one or two cells a frame in each direction and bounces
    off the borders: after the first `context` frames all others are known.

    Kalchbrenner et al. 2017 (Video Pixel Networks), section 5.1, hold the predicted mean intensity p of each cell
    against its intensity x: -(x log p + (1 - x) log(1 - p)), summed over a frame. It is at least the entropy of x,
    which is the floor.

    Args:
        frames: Of a clip.
        side: Cells of a frame, in height and width.
        seed: Of the motion.
        context: Frames that are known.
        pictures: A file of pictures in MNIST's format (Moving MNIST, Moving Fashion), averaged down to 8x8; empty:
            scikit-learn's 1,797 digits.
    """

    frames: int = 6
    side: int = 12
    seed: int = 0
    context: int = 3
    pictures: str = ""
    codebook_size: int = field(default=LEVELS, init=False)

    def __post_init__(self) -> None:
        if self.side < SMALLEST_SIDE or not 2 <= self.context < self.frames:
            raise VidgenError(
                f"a picture of 8 cells in frames of {self.side}, {self.context} of {self.frames} known: give a side of "
                f"{SMALLEST_SIDE} or more, for steps of two cells, and a context of 2 frames or more, but not of all"
            )

    @property
    def grid(self) -> tuple[int, int, int]:
        """Frames, height and width of a clip, in tokens."""
        return self.frames, self.side, self.side

    @cached_property
    def images(self) -> Int[np.ndarray, "n 8 8"]:
        """All pictures."""
        if self.pictures:
            return read_pictures(Path(self.pictures))
        from sklearn.datasets import load_digits

        return load_digits().images.astype(np.int64)

    def draw(self, number: int, split: str) -> TokenClip:
        """Return clip `number` of a split; its nats are the floor."""
        rng = clip_generator(self.seed, split, number)
        picture = self.images[rng.choice(split_members(len(self.images), HELD_OUT, split))]
        corners = bounce(rng, self.side - picture.shape[0], self.frames)
        clip = np.zeros(self.grid, np.int64)
        for frame, (top, left) in zip(clip, corners, strict=True):
            frame[top : top + 8, left : left + 8] = picture
        return TokenClip(tokens=clip, nats=intensity_nats(clip / (LEVELS - 1), clip / (LEVELS - 1), self.context))

    def nats(self, log_probs: Float[np.ndarray, "t h w v"], tokens: Int[np.ndarray, "t h w"]) -> float:
        """Return the nats of a clip under a prior's law, by its mean intensities."""
        means = np.exp(log_probs) @ (np.arange(LEVELS) / (LEVELS - 1))
        return intensity_nats(means, tokens / (LEVELS - 1), self.context)


def intensity_nats(means: Float[np.ndarray, "t h w"], values: Float[np.ndarray, "t h w"], context: int) -> float:
    """Return the sum of -(x log p + (1 - x) log(1 - p)) over cells after `context` frames; 0 log 0 is 0."""
    from scipy.special import xlog1py, xlogy

    p, x = np.clip(means[context:], 0.0, 1.0), values[context:]
    return float(-(xlogy(x, p) + xlog1py(1.0 - x, -p)).sum())


def bounce(rng: np.random.Generator, room: int, frames: int) -> Int[np.ndarray, "t 2"]:
    """Return where a corner is in each frame: it moves by 1 or 2 a frame each way within 0 to `room`, and turns."""
    position, step = rng.integers(room + 1, size=2), rng.integers(1, 3, size=2) * rng.choice((-1, 1), size=2)
    corners = [position]
    for _ in range(frames - 1):
        step = np.where((position + step < 0) | (position + step > room), -step, step)
        position = position + step
        corners.append(position)
    return np.array(corners)


def read_pictures(file: Path) -> Int[np.ndarray, "n 8 8"]:
    """Return the images of a file in MNIST's format (or that, gzipped), averaged down to 8x8 cells of 17 levels.

    Raises VidgenError for a file of another format, or cut short.
    """
    try:
        opened = gzip.open(file) if file.suffix == ".gz" else file.open("rb")
        with opened as stream:
            data = stream.read(LARGEST_FILE)
    except (OSError, EOFError) as error:
        raise VidgenError(f"{file}: cannot be read: {error}; name a file of images in MNIST's format") from None
    magic, count, height, width = (int(n) for n in np.frombuffer(data[:16].ljust(16, b"\0"), ">u4"))
    if magic != IDX_IMAGES or len(data) != 16 + count * height * width or min(count, height, width) < 1:
        raise VidgenError(f"{file}: no whole file of images in MNIST's format (idx3-ubyte, or that with .gz)")
    images = np.frombuffer(data, np.uint8, offset=16).reshape(count, height, width)
    rows, columns = (np.linspace(0, side, 9).round().astype(int) for side in (height, width))
    if min(height, width) < 8:
        raise VidgenError(f"{file}: images of {height}x{width}; 8x8 at least are wanted")
    sums = np.add.reduceat(np.add.reduceat(images, rows[:-1], axis=1, dtype=np.int64), columns[:-1], axis=2)
    areas = np.diff(rows)[:, None] * np.diff(columns)
    return np.rint(sums / areas / 255 * (LEVELS - 1)).astype(np.int64)
