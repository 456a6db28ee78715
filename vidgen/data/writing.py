"""Writing clips: H.264, lossless FFV1, GIF, WebP and PNG frames; aside first, then renamed."""

import os
import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import ceil, sqrt
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from vidgen.data.frames import to_uint8
from vidgen.errors import VidgenError
from vidgen.files.atomic import atomic_write, scratch_beside

H264_SUFFIXES = (".mp4", ".m4v", ".mov")
LOSSLESS_SUFFIXES = (".mkv",)
ANIMATION_SUFFIXES = (".gif", ".webp")
BT709 = 1  # the code of BT.709 for matrix, primaries and transfer alike (ITU-T H.273)
# without it x264's macroblock tree reads memory that nothing wrote: at 64x64, with AVX-512, a tenth of the files differ
X264_REPEATABLE = "cpu-independent=1"
TO_YUV = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INP | Interpolation.ACCURATE_RND
_PATTERN = re.compile(r"%0?\d*d")

Frames = Tensor | np.ndarray | Iterable[np.ndarray | Tensor]


def write_video(
    frames: Frames,
    path: str | Path,
    *,
    fps: float,
    crf: int = 18,
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> Path:
    """Write a clip; the suffix says how. Returns the path.

    frames: (t, h, w, 3) arrays or (3, t, h, w) tensors, uint8 or float in `value_range` (see `to_uint8`); or an
        iterable of such pieces, which is written as it comes, so that memory does not grow with the clip.
    path: .mp4, .m4v, .mov: H.264 4:2:0 in BT.709, `crf` from 0 (best) to 51. The format needs even sizes: an odd one is
        padded by repeating the last row or column, and the true size is stored, which `read_video` crops back to.
        .mkv: FFV1, lossless, every pixel kept. .gif, .webp: endless loop; equal neighbours become one longer frame,
        GIF rounds times to 10 ms and has 256 colours a frame.
        A name without suffix is a new folder of 00000.png, ...; a name like f_%04d.png puts numbered frames into its
        folder; .png itself takes a single frame.

    The file appears under its name when it is complete, or not at all. Raises VidgenError if it cannot be written
    there, ValueError for frames, fps or crf that make no sense.
    """
    path = Path(path)
    if not 0 < fps <= 1000:
        raise ValueError(f"fps must lie between 0 and 1000, got {fps}")
    if not 0 <= crf <= 51:
        raise ValueError(f"crf must lie between 0 and 51, got {crf}")
    stream = _each_frame(frames, value_range)
    suffix = path.suffix.lower()
    if suffix in H264_SUFFIXES + LOSSLESS_SUFFIXES:
        with atomic_write(path) as aside:
            _encode(stream, aside, fps, crf, lossless=suffix in LOSSLESS_SUFFIXES)
    elif suffix in ANIMATION_SUFFIXES:
        with atomic_write(path) as aside:
            _animate(stream, aside, fps)
    elif suffix == ".png" and _PATTERN.search(path.name):
        _write_numbered(stream, path)
    elif suffix == ".png":
        with atomic_write(path) as aside:
            _write_single(stream, aside, path)
    elif suffix == "":
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise VidgenError(f"{path}: exists already; give the frames a new or empty folder")
        with atomic_write(path) as aside:
            aside.mkdir()
            _write_each(stream, aside, "%05d.png")
    else:
        raise VidgenError(f"{path}: no format is known for {suffix!r}; use .mp4, .mkv, .gif, .webp, .png or a folder")
    return path


def contact_sheet(
    frames: Frames,
    path: str | Path | None = None,
    *,
    columns: int | None = None,
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> UInt8[np.ndarray, "h w 3"]:
    """Return all frames in one picture, row by row, a 2-pixel white gap between; written as an image too if `path` is
    given.

    columns: frames a row; the default makes the sheet about as wide as high.
    """
    tiles = list(_each_frame(frames, value_range))
    height, width = tiles[0].shape[:2]
    columns = columns or min(len(tiles), ceil(sqrt(len(tiles) * height / width)))
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    rows = ceil(len(tiles) / columns)
    gap = 2
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = (height + gap) * (index // columns), (width + gap) * (index % columns)
        sheet[top : top + height, left : left + width] = tile
    if path is not None:
        with atomic_write(path) as aside:
            Image.fromarray(sheet).save(aside)
    return sheet


def _each_frame(frames: Frames, value_range: tuple[float, float]) -> Iterator[np.ndarray]:
    """Yield (h, w, 3) uint8 frames, all of one size. Raises ValueError for none, or ragged ones."""
    pieces = [frames] if isinstance(frames, Tensor | np.ndarray) else frames
    size = None
    for piece in pieces:
        if isinstance(piece, np.ndarray) and piece.ndim == 3:
            piece = piece[None]
        for frame in to_uint8(piece, value_range):
            size = size or frame.shape
            if frame.shape != size:
                raise ValueError(f"frames must be of one size, got {size[:2]} and then {frame.shape[:2]}")
            yield frame
    if size is None or 0 in size:
        raise ValueError("a clip needs at least one frame of at least one pixel, got none")


def _encode(frames: Iterator[np.ndarray], path: Path, fps: float, crf: int, *, lossless: bool) -> None:
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(f"file:{path}", "w") as container:
        stream = None
        for index, frame in enumerate(frames):
            if stream is None:
                height, width = frame.shape[:2]
                stream = _add_stream(container, rate, height, width, crf, lossless)
            if not lossless and (height % 2 or width % 2):
                frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            if not lossless:
                picture = picture.reformat(
                    format="yuv420p",
                    dst_colorspace=Colorspace.ITU709,
                    dst_color_range=ColorRange.MPEG,
                    interpolation=TO_YUV,
                )
            else:
                picture = picture.reformat(format="bgr0")
            picture.pts = index
            picture.time_base = 1 / rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def _add_stream(
    container: av.container.OutputContainer, rate: Fraction, height: int, width: int, crf: int, lossless: bool
) -> av.VideoStream:
    if lossless:
        stream = container.add_stream("ffv1", rate=rate)
        stream.width = width
        stream.height = height
        stream.pix_fmt = "bgr0"
        return stream
    if height % 2 or width % 2:
        container.metadata["comment"] = f"vidgen:size={width}x{height}"
    options = {"crf": str(crf), "preset": "medium", "x264-params": X264_REPEATABLE}
    stream = container.add_stream("libx264", rate=rate, options=options)
    stream.width = width + width % 2
    stream.height = height + height % 2
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = ColorRange.MPEG
    return stream


def _animate(frames: Iterator[np.ndarray], path: Path, fps: float) -> None:
    unit = 10 if path.suffix.lower() == ".gif" else 1  # milliseconds a container can tell apart
    images = [Image.fromarray(frame) for frame in frames]
    if unit == 10:
        images = [image.quantize(256) for image in images]
    ticks = np.round(np.arange(len(images) + 1) * 1000 / fps / unit).astype(int)
    lengths = (np.maximum(np.diff(ticks), 1) * unit).tolist()
    quality = {"quality": 90, "method": 4} if unit == 1 else {"optimize": False, "disposal": 1}
    images[0].save(path, save_all=True, append_images=images[1:], duration=lengths, loop=0, **quality)


def _write_single(frames: Iterator[np.ndarray], aside: Path, path: Path) -> None:
    image = Image.fromarray(next(frames))
    if next(frames, None) is not None:
        raise VidgenError(f"{path}: one image cannot hold several frames; use a folder, or a name like f_%04d.png")
    image.save(aside)


def _write_each(frames: Iterator[np.ndarray], folder: Path, pattern: str) -> None:
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / (pattern % index))


def _write_numbered(frames: Iterator[np.ndarray], path: Path) -> None:
    """Write into a folder that may hold other files: all frames aside first, then each renamed into place."""
    with scratch_beside(path) as aside:
        aside.mkdir()
        _write_each(frames, aside, path.name)
        for image in sorted(aside.iterdir()):
            os.replace(image, path.parent / image.name)
