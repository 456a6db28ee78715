"""Features of films of any length: vectors of windows and how much changes from frame to frame, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from vidgen.data.reading import iter_frames, probe_video
from vidgen.data.windows import Window, sliding_windows
from vidgen.errors import VideoError
from vidgen.interfaces import TextVideoEncoder
from vidgen.models.text_video.embedding import Embedding, join_embeddings
from vidgen.representations.clip_windows import batches
from vidgen.representations.language.world_clips import embed_clips

# Of models that take clips of any length or rate.
WINDOW_FRAMES = 4
WINDOW_SECONDS = 2.0
OVERLAP = 4  # windows that see a frame

TimedFrames = Iterable[tuple[float, UInt8[np.ndarray, "h w 3"]]]


@dataclass(frozen=True, kw_only=True)
class WindowFormat:
    """Windows of `num_frames` frames, sampled at `fps`, one every `stride` frames."""

    num_frames: int
    fps: float
    stride: int

    @property
    def seconds(self) -> float:
        """Length of a window."""
        return self.num_frames / self.fps


@dataclass(frozen=True, kw_only=True, eq=False)
class FilmFeatures:
    """Windows of a film in the space of a TextVideoEncoder.

    embedding: of each window. bounds: its start and end in seconds after the film's first frame. duration: of the film.
    changes: for each frame sampled, how much it differs from the one before, 0 to 1 (the first one: 0). format: the
    windows as they were cut.
    """

    embedding: Embedding
    bounds: Float[np.ndarray, "n 2"]
    duration: float
    changes: Float[np.ndarray, " t"]
    format: WindowFormat

    def __len__(self) -> int:
        return len(self.bounds)

    @property
    def centers(self) -> Float[np.ndarray, " n"]:
        """Seconds of the middle of each window."""
        return self.bounds.mean(axis=1)

    @property
    def vectors(self) -> Float[np.ndarray, "n d"]:
        """Vectors of the windows."""
        return self.embedding.vectors.float().cpu().numpy()


def window_format(encoder: TextVideoEncoder, *, fps: float | None = None, stride: int | None = None) -> WindowFormat:
    """Return the windows that a model is shown: clips of the length and rate that it was trained at.

    Args:
        encoder: the model. One that takes any length gets `WINDOW_FRAMES`, and any rate, so many as last
            `WINDOW_SECONDS`.
        fps: another rate.
        stride: frames from one window to the next. Default: a quarter of a window.
    """
    frames = encoder.num_frames or WINDOW_FRAMES
    rate = fps or encoder.fps or frames / WINDOW_SECONDS
    return WindowFormat(num_frames=frames, fps=rate, stride=stride or max(1, frames // OVERLAP))


def resample_frames(frames: TimedFrames, fps: float, duration: float) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (k / fps, the frame on screen at that time) of timed frames, as long as k / fps is before `duration`."""
    count = 0
    last: np.ndarray | None = None
    for time, frame in frames:
        # a thousandth of a step of slack, for times that fall on a frame but for rounding
        while last is not None and count / fps < time - 1e-3 / fps:
            yield count / fps, last
            count += 1
        last = frame
    while last is not None and count / fps < duration - 1e-3 / fps:
        yield count / fps, last
        count += 1


def embed_frames(
    encoder: TextVideoEncoder,
    frames: TimedFrames,
    form: WindowFormat,
    *,
    duration: float | None = None,
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
) -> FilmFeatures:
    """Return the features of frames at the rate of `form`, of the size that the model takes.

    Frames come one by one, and as many are held as `batch_size` windows have; what grows with the film are vectors,
    tokens where the model keeps them, and a number a frame. The last window ends with the film.

    Args:
        encoder: the model.
        frames: (time, frame), one every 1 / form.fps seconds from 0 on.
        form: the windows.
        duration: of the film in seconds. Default: as the frames have it.
        batch_size: windows embedded at once.
        progress: called with the count of windows.

    Raises VideoError for fewer frames than one window.
    """
    changes: list[float] = []
    parts: list[Embedding] = []
    starts: list[int] = []
    for windows in batches(sliding_windows(_note_changes(frames, changes), form.num_frames, form.stride), batch_size):
        parts.append(_embed_windows(encoder, windows))
        starts += [window.first for window in windows]
        if progress:
            progress(len(starts))
    if not parts:
        raise VideoError(
            f"the film has {len(changes)} frames at {form.fps:g} fps, and a window of the model {form.num_frames}"
        )
    length = len(changes) / form.fps
    length = length if duration is None else min(length, duration)
    first = np.array(starts, np.float64)[:, None]
    bounds = np.minimum(first + [[0, form.num_frames]], length * form.fps) / form.fps
    return FilmFeatures(
        embedding=join_embeddings(parts), bounds=bounds, duration=length, changes=np.array(changes), format=form
    )


def embed_film(
    encoder: TextVideoEncoder,
    path: Path,
    form: WindowFormat,
    *,
    native_fps: float | None = None,
    allow_damaged: bool = False,
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
) -> FilmFeatures:
    """Return the features of a film in a file or a folder of frames; see `embed_frames`.

    Frame k is the one on screen at k / fps by the file's presentation times, however uneven they are, so that windows
    lie where they say. Raises VideoError where it cannot be read, and for a film shorter than a window.
    """
    info = probe_video(path, native_fps or form.fps, allow_damaged=allow_damaged)
    frames = iter_frames(
        path,
        fps=form.fps,
        size=(encoder.height, encoder.width),
        native_fps=native_fps,
        allow_damaged=allow_damaged,
    )
    timed = ((count / form.fps, frame) for count, (_, frame) in enumerate(frames))
    try:
        return embed_frames(
            encoder, timed, form, duration=info.duration or None, batch_size=batch_size, progress=progress
        )
    except VideoError as error:
        raise error if str(path) in str(error) else VideoError(f"{path}: {error}") from None


def _embed_windows(encoder: TextVideoEncoder, windows: Sequence[Window]) -> Embedding:
    embedding = embed_clips(encoder, [window.frames for window in windows])
    values = (embedding.vectors, embedding.tokens, embedding.mask)
    vectors, tokens, mask = (None if value is None else value.cpu() for value in values)
    return Embedding(vectors=vectors, tokens=tokens, mask=mask)


def _note_changes(frames: TimedFrames, changes: list[float]) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the frames, and note how much each differs from the one before: the mean of |difference| / 255."""
    last: np.ndarray | None = None
    for time, frame in frames:
        pixels = frame.astype(np.int16)
        changes.append(0.0 if last is None else float(np.abs(pixels - last).mean()) / 255)
        last = pixels
        yield time, frame
