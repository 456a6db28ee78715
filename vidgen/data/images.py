"""Images through Pillow: stills, animated files, and folders of numbered frames, as clips."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, ImageSequence

from vidgen.data.containers.file_ends import find_cut
from vidgen.data.damage import Damage, damage_error
from vidgen.data.frames import composite_on_black
from vidgen.data.sources import FrameRef, Timeline, VideoInfo, check_readable, explain_refusal
from vidgen.data.webdataset import open_bytes
from vidgen.errors import VideoError

IMAGE_SUFFIXES = {".png", ".apng", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif"}
ANIMATED = ("PNG", "WEBP", "GIF", "AVIF")
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
    """A still (one frame that lasts no time) or an animated image; see `sources.Source`. Raises VideoError.

    allow_damaged: of an animated one, take the frames before the damage, and say in `damage` what it is.
    """

    def __init__(self, path: Path, allow_damaged: bool = False):
        check_readable(path)
        self._path = path
        self._allow_damaged = allow_damaged
        self.damage = Damage()
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
        for time, (length, frame) in zip(self._starts, self._walk(), strict=not self.damage):
            yield FrameRef(float(time), length, partial(np.asarray, frame))

    def timeline(self) -> Timeline:
        """See `sources.Source.timeline`."""
        return Timeline(times=self._starts, end=self.info.duration)

    def _walk(self, load_all: bool = True) -> Iterator[tuple[float, np.ndarray | None]]:
        """(seconds, pixels) of every frame; pixels of the first alone unless `load_all`."""
        count = 0
        seconds = 0.0
        promised = 0
        problem = find_cut(self._path)
        try:
            with open_bytes(self._path) as file, Image.open(file) as image:
                promised = getattr(image, "n_frames", 1) if image.format in ANIMATED else 1
                self._format = (image.format or "image").lower()
                self._mode = image.mode
                for frame in ImageSequence.Iterator(image):
                    pixels = _to_rgb(frame) if load_all or count == 0 else frame.load() and None
                    count += 1
                    # browsers show a frame without a length for 100 ms
                    length = (frame.info.get("duration") or 100) / 1000
                    seconds += length
                    yield length, pixels
                    if image.format not in ANIMATED:
                        return  # pages and thumbnails (TIFF, MPO) are no frames
        except _IMAGE_ERRORS as error:
            reason = (str(error) or type(error).__name__).splitlines()[0].replace(f" {str(self._path)!r}", "")
            if count == 0:
                raise explain_refusal(self._path, problem or reason) from error
            problem = problem or reason
        if problem is None and count < promised:
            problem = f"{promised - count} of {promised} frames are missing"
        if problem is not None and not self._allow_damaged:
            raise damage_error(self._path, count, seconds, problem)
        if problem is not None:
            self.damage.remarks = [problem]


class FrameFolder:
    """A folder of numbered frames as one clip at `fps` (25 unless given); see `sources.Source`.

    allow_damaged: leave out images that cannot be read, and count them in `damage`.
    """

    def __init__(self, folder: Path, fps: float | None = None, allow_damaged: bool = False):
        self._allow_damaged = allow_damaged
        self.damage = Damage()
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
            load = partial(self._load, path)
            if self._allow_damaged:
                try:
                    load = partial(np.asarray, load())
                except VideoError:
                    self.damage.add_frame(index / self._fps)
                    continue
            yield FrameRef(index / self._fps, 1 / self._fps, load)

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
