"""Motion that a file carries already: the vectors of its codec as dense fields, towards a frame of one's choice.

FFmpeg exports the vectors of the H.264 and MPEG-4 families. Each names a direction in time but not which frame it
points to. Here that is the last frame before it that is no B frame: right for streams with one reference picture and
none of B frames (x264's `ref=1:b-pyramid=none`), an assumption for others. Vectors into the future are left out: they
would not be causal.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from av.video.frame import PictureType
from jaxtyping import Bool, Float32, Float64, Int
from scipy.ndimage import distance_transform_edt, map_coordinates

from vidgen.data.containers.opening import DECODER_ERRORS, FALLBACK_FPS, Container, describe_error
from vidgen.errors import VideoError

CELL = 16  # pixels: a macroblock; no partition of these codecs reaches out of one
EXPORTING = (
    *("h264", "mpeg1video", "mpeg2video", "mpeg4", "h263", "flv1"),
    *("msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2"),
)


@dataclass(frozen=True, kw_only=True)
class MotionVectors:
    """The vectors of a file's frames, in the order shown, one (x, y) in pixels for each cell of 16x16.

    vectors: frame k at p looks as frame `reference[k]` at p + vector (backward motion); 0 where there is no vector.
    covered: cells that have a vector; not those of intra blocks, nor any of a frame coded on its own.
    reference: the number of the frame pointed to; a frame coded on its own points to itself.
    times: seconds after the first frame. height, width: of the stored frames.
    """

    vectors: Float32[np.ndarray, "t i j 2"]
    covered: Bool[np.ndarray, "t i j"]
    reference: Int[np.ndarray, " t"]
    times: Float64[np.ndarray, " t"]
    height: int
    width: int


def read_motion_vectors(path: str | Path, *, num_frames: int | None = None) -> MotionVectors:
    """Return the vectors of a file, or of its first `num_frames` frames, with the frames' presentation times.

    Raises VideoError for a file that cannot be read, one that is shown turned (its vectors lie in the stored frame),
    a codec whose vectors FFmpeg does not export, and fewer frames than asked for.
    """
    path = Path(path)
    with closing(Container(path)) as container:
        frames = list(islice(_read(path, container), num_frames))
    if len(frames) < (num_frames or 1):
        raise VideoError(f"{path}: {len(frames)} frames, {num_frames or 1} needed; ask for fewer")
    height, width = frames[0][3]
    cells = [rasterize(table, -(-height // CELL), -(-width // CELL)) for _, _, table, _ in frames]
    times = np.array([time for time, _, _, _ in frames])
    return MotionVectors(
        vectors=np.stack([vectors for vectors, _ in cells]),
        covered=np.stack([covered for _, covered in cells]),
        reference=find_references([kind for _, kind, _, _ in frames]),
        times=times - times[0],
        height=height,
        width=width,
    )


def _read(path: Path, container: Container) -> Iterator[tuple[float, str, np.ndarray | None, tuple[int, int]]]:
    """Yield (time, picture type, table of vectors, size) of every frame."""
    stream = container.stream
    codec = stream.codec_context.codec.canonical_name
    if codec not in EXPORTING:
        raise VideoError(f"{path}: FFmpeg exports no vectors of {codec}, only of {', '.join(EXPORTING[:4])}, ...")
    stream.codec_context.options = {"flags2": "+export_mvs"}
    rate = container.rate or FALLBACK_FPS
    count = 0
    size = None
    try:
        for frame in (frame for packet in container.packets() for frame in packet.decode()):
            if frame.rotation:
                raise VideoError(f"{path}: shown turned by {frame.rotation} degrees; encode it upright to have vectors")
            if size not in (None, (frame.height, frame.width)):
                raise VideoError(f"{path}: the frame size changes at frame {count}; encode it again")
            time = float(frame.pts * frame.time_base) if frame.pts is not None else count / rate
            data = frame.side_data.get("MOTION_VECTORS")
            size = (frame.height, frame.width)
            count += 1
            yield time, PictureType(frame.pict_type).name, None if data is None else data.to_ndarray(), size
    except VideoError:
        raise
    except DECODER_ERRORS as error:
        raise VideoError(f"{path}: damaged after {count} frames: {describe_error(error)}; encode it again") from error


def rasterize(
    table: np.ndarray | None, rows: int, cols: int
) -> tuple[Float32[np.ndarray, "i j 2"], Bool[np.ndarray, "i j"]]:
    """Return FFmpeg's table of one frame as a mean over each cell, weighted by area, of the vectors from the past in
    it; and which cells have any."""
    if table is None:
        return np.zeros((rows, cols, 2), np.float32), np.zeros((rows, cols), bool)
    row = table["dst_y"].astype(int) // CELL
    col = table["dst_x"].astype(int) // CELL
    inside = (table["source"] < 0) & (row >= 0) & (row < rows) & (col >= 0) & (col < cols)
    table = table[inside]
    cell = (row * cols + col)[inside]
    area = table["w"].astype(float) * table["h"]
    scale = area / np.maximum(table["motion_scale"], 1)
    total = np.bincount(cell, area, rows * cols)
    sums = [np.bincount(cell, scale * table[name], rows * cols) for name in ("motion_x", "motion_y")]
    vectors = np.stack(sums, axis=-1) / np.maximum(total, 1.0)[:, None]
    return vectors.reshape(rows, cols, 2).astype(np.float32), (total > 0).reshape(rows, cols)


def find_references(kinds: list[str]) -> Int[np.ndarray, " t"]:
    """Return for picture types "I", "P", "B", ... in the order shown: the last frame before that is no B frame, or
    itself."""
    references: list[int] = []
    anchor = None
    for k, kind in enumerate(kinds):
        references.append(k if kind == "I" or anchor is None else anchor)
        anchor = anchor if kind == "B" else k
    return np.array(references)


def fill_cells(vectors: Float32[np.ndarray, "i j 2"], covered: Bool[np.ndarray, "i j"]) -> Float32[np.ndarray, "i j 2"]:
    """Fill cells without a vector with that of the nearest cell that has one; with 0 where none has."""
    if covered.all() or not covered.any():
        return vectors * covered[..., None]
    row, col = distance_transform_edt(~covered, return_distances=False, return_indices=True)
    return vectors[row, col]


def towards_keys(motion: MotionVectors, gop: int) -> Float32[np.ndarray, "t i j 2"]:
    """Return fields in pixels from every frame to the first of its group of `gop` frames: 0 for those themselves.

    Vectors are followed from frame to frame, F_k(p) = v_k(p) + F_r(p + v_k(p)) for the reference r, between cells'
    centres linearly. A vector that points out of its group is shortened to the group's first frame, as if motion were
    steady; a frame coded on its own in the middle of a group keeps the field of the frame before. Errors add up along
    the way: that is the price of taking the vectors as they are.
    """
    if gop < 1:
        raise ValueError(f"a group has at least one frame, got {gop}")
    fields = np.zeros_like(motion.vectors)
    grid = np.stack(np.mgrid[: fields.shape[1], : fields.shape[2]]).astype(np.float64)  # (row, column) i j
    for k in range(len(fields)):
        key = k - k % gop
        reference = int(motion.reference[k])
        if k == key:
            continue
        if reference == k:
            fields[k] = fields[k - 1]
            continue
        vector = fill_cells(motion.vectors[k], motion.covered[k])
        if reference < key:
            fields[k] = vector * ((k - key) / (k - reference))
            continue
        at = grid + np.moveaxis(vector[..., ::-1], -1, 0) / CELL
        before = [map_coordinates(fields[reference][..., d], at, order=1, mode="nearest") for d in (0, 1)]
        fields[k] = vector + np.stack(before, axis=-1)
    return fields
