"""Images through Pillow: stills, animated files, and folders of numbered frames, as clips."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, ImageSequence

from vidgen.data.frames import composite_on_black
from vidgen.data.sources import FrameRef, Timeline, VideoInfo, check_readable, explain_refusal
from vidgen.data.webdataset import open_bytes
from vidgen.errors import VideoError

IMAGE_SUFFIXES = {".png", ".apng", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif"}
FOLDER_FPS = 25.0
_NUMBERED = re.compile(r"(.*?)(\d+)$")
_IMAGE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError, LookupError, ArithmeticError)


def is_image(path: Path) -> bool:
    """Return whether Pillow is to read this file: by its suffix, or as animated WebP, which FFmpeg cannot decode."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return True
    with open_bytes(path) as file:
        head = file.read(12)
    return head[:4] == b"RIFF" and head[8:] == b"WEBP"


def numbered_frames(folder: Path) -> list[Path]:
    """Return the frames of a folder that is one clip, in the order of their numbers; [] if it is none.

    It is one if it holds images named alike but for a number (`0001.png` or `frame-7.jpg`) and no others.
    """
    images = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."]
    names = [_NUMBERED.match(path.stem) for path in images]
    if not images or not all(names) or len({name[1] for name in names}) > 1:
        return []
    return [path for _, path in sorted(zip((int(name[2]) for name in names), images, strict=True))]


class ImageFile:
    """A still (one frame that lasts no time) or an animated image; see `sources.Source`. Raises VideoError."""

    def __init__(self, path: Path):
        check_readable(path)
        self._path = path
        first: np.ndarray | None = None
        lengths: list[float] = []
        for length, frame in self._walk(load_all=False):
            first = frame if first is None else first
            lengths.append(length)
        still = len(lengths) == 1
        duration = 0.0 if still else sum(lengths)
        self._starts = np.cumsum([0.0, *lengths[:-1]])
        self._still = first if still else None
        self.info = VideoInfo(
            path=path,
            width=first.shape[1],
            height=first.shape[0],
            fps=FOLDER_FPS if still else len(lengths) / duration,
            duration=duration,
            num_frames=len(lengths),
            codec=self._format,
            pix_fmt=self._mode,
        )

    def __enter__(self) -> "ImageFile":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def frames(self, start: float = 0.0) -> Iterator[FrameRef]:
        """See `sources.Source.frames`. Animated files decode in order from the first frame, whatever the start."""
        if self._still is not None:
            yield FrameRef(0.0, 0.0, partial(np.asarray, self._still))
            return
        for time, (length, frame) in zip(self._starts, self._walk(), strict=True):
            yield FrameRef(float(time), length, partial(np.asarray, frame))

    def timeline(self) -> Timeline:
        """See `sources.Source.timeline`."""
        return Timeline(times=self._starts, end=self.info.duration)

    def _walk(self, load_all: bool = True) -> Iterator[tuple[float, np.ndarray | None]]:
        """(seconds, pixels) of every frame; pixels of the first alone unless `load_all`."""
        count = 0
        try:
            with open_bytes(self._path) as file, Image.open(file) as image:
                self._format = (image.format or "image").lower()
                self._mode = image.mode
                for count, frame in enumerate(ImageSequence.Iterator(image)):  # noqa: B007
                    pixels = _to_rgb(frame) if load_all or count == 0 else frame.load() and None
                    # browsers show a frame without a length for 100 ms
                    yield (frame.info.get("duration") or 100) / 1000, pixels
                    if image.format not in ("PNG", "WEBP", "GIF", "AVIF"):
                        return  # pages and thumbnails (TIFF, MPO) are no frames
        except _IMAGE_ERRORS as error:
            reason = (str(error) or type(error).__name__).splitlines()[0].replace(f" {str(self._path)!r}", "")
            if count == 0:
                raise explain_refusal(self._path, reason) from error
            raise VideoError(f"{self._path}: damaged after {count} frames: {reason}; copy it again") from error


class FrameFolder:
    """A folder of numbered frames as one clip at `fps` (25 unless given); see `sources.Source`."""

    def __init__(self, folder: Path, fps: float | None = None):
        self._paths = numbered_frames(folder)
        self._fps = fps or FOLDER_FPS
        if not self._paths:
            check_readable(folder)
        with ImageFile(self._paths[0]) as first:
            self._size = first.info.height, first.info.width
            codec, pix_fmt = first.info.codec, first.info.pix_fmt
        self.info = VideoInfo(
            path=folder,
            width=self._size[1],
            height=self._size[0],
            fps=self._fps,
            duration=len(self._paths) / self._fps,
            num_frames=len(self._paths),
            codec=codec,
            pix_fmt=pix_fmt,
        )

    def __enter__(self) -> "FrameFolder":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def frames(self, start: float = 0.0) -> Iterator[FrameRef]:
        """See `sources.Source.frames`; images are opened as they are loaded."""
        for index, path in enumerate(self._paths):
            yield FrameRef(index / self._fps, 1 / self._fps, partial(self._load, path))

    def timeline(self) -> Timeline:
        """See `sources.Source.timeline`."""
        return Timeline(times=np.arange(len(self._paths)) / self._fps, end=self.info.duration)

    def _load(self, path: Path) -> np.ndarray:
        with ImageFile(path) as image:
            pixels = next(image.frames()).load()
        if pixels.shape[:2] != self._size:
            size = "x".join(map(str, pixels.shape[1::-1]))
            first = "x".join(map(str, self._size[::-1]))
            raise VideoError(f"{path}: this frame is {size}, the first of its folder {first}; make them one size")
        return pixels


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Upright (h, w, 3) uint8: EXIF orientation applied, opacity composited on black, 16-bit gray scaled to 8."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # Pillow would clip at 255
        gray = np.asarray(image).astype(np.int64)
        image = Image.fromarray((gray.clip(0, 65535) // 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating point images have no fixed range")
    if image.has_transparency_data:
        return composite_on_black(np.asarray(image.convert("RGBA")))
    return np.array(image.convert("RGB"))
