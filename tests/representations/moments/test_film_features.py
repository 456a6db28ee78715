"""Features of films: windows lie where the file's presentation times say, and no more than a batch is held."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from vidgen.data.shapes.films import FilmConfig, FilmWorld
from vidgen.data.shapes.labels import COLOURS, ShapeWorldConfig
from vidgen.errors import VideoError
from vidgen.models.text_video.embedding import Embedding
from vidgen.representations.moments.film_features import (
    WindowFormat,
    embed_film,
    embed_frames,
    resample_frames,
    window_format,
)

RED, BLUE = (np.array(COLOURS[name], np.uint8) for name in ("red", "blue"))


class BrightnessEncoder:
    """The vector of a window is (its mean, 1); keeps how many windows it was shown at once."""

    num_frames, height, width, fps, device = 4, 32, 32, 10.0, "cpu"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def embed_videos(self, video: torch.Tensor) -> Embedding:
        self.batches.append(len(video))
        mean = video.mean(dim=(1, 2, 3, 4))
        return Embedding(vectors=torch.stack([mean, torch.ones_like(mean)], dim=1))


def plain(levels: np.ndarray) -> np.ndarray:
    return np.broadcast_to(levels.astype(np.uint8)[:, None, None, None], (len(levels), 32, 32, 3)).copy()


def test_formats() -> None:
    form = window_format(BrightnessEncoder())
    assert form == WindowFormat(num_frames=4, fps=10.0, stride=1) and form.seconds == 0.4
    encoder = BrightnessEncoder()
    encoder.num_frames, encoder.fps = None, None
    assert window_format(encoder).seconds == 2.0
    assert window_format(encoder, fps=4, stride=3) == WindowFormat(num_frames=4, fps=4, stride=3)


def test_times_of_uneven_frames(make_video: Callable[..., Path]) -> None:
    # black from 0 to 1 s in ten frames, white from 1 to 2.9 s in one frame, black after it
    stamps = [*range(0, 1000, 100), 1000, 2900, 3000]
    levels = np.array([0] * 10 + [255] + [0, 0])
    path = make_video(plain(levels), "uneven.mkv", fps=10, codec="ffv1", pix_fmt="bgr0", stamps=stamps)
    features = embed_film(BrightnessEncoder(), path, WindowFormat(num_frames=4, fps=10, stride=2))
    assert features.bounds[0].tolist() == [0.0, 0.4]
    bright = features.vectors[:, 0]
    for (start, end), value in zip(features.bounds, bright, strict=True):
        times = np.arange(round(start * 10), round(end * 10)) / 10
        share = np.mean((times >= 1.0 - 1e-9) & (times < 2.9 - 1e-9))
        assert value == pytest.approx(2 * share - 1, abs=0.02)
    assert features.changes[10] == pytest.approx(1, abs=0.02) and features.changes[29] == pytest.approx(1, abs=0.02)
    assert np.delete(features.changes, [10, 29]).max() < 0.01


def test_times_at_another_rate(make_video: Callable[..., Path]) -> None:
    levels = np.where(np.arange(75) < 50, 0, 255)  # white from 2 s on, at 25 fps
    path = make_video(plain(levels), "plain.mkv", fps=25, codec="ffv1", pix_fmt="bgr0")
    features = embed_film(BrightnessEncoder(), path, WindowFormat(num_frames=4, fps=8, stride=1))
    assert features.duration == pytest.approx(3.0, abs=0.01) and features.bounds[-1, 1] == features.duration
    assert np.argmax(features.changes) == 16  # 2 s at 8 fps
    white = features.bounds[features.vectors[:, 0] > 0.99]
    assert white[0].tolist() == [2.0, 2.5]


def test_a_rendered_film_is_its_file(color_encoder: type, tmp_path: Path) -> None:
    world = ShapeWorldConfig(height=32, width=32, num_frames=9)
    film = FilmWorld(FilmConfig(world=world, num_clips=4))[0]
    encoder, form = color_encoder(), WindowFormat(num_frames=4, fps=5.0, stride=1)
    frames = resample_frames(film.iter_frames(), form.fps, film.duration)
    rendered = embed_frames(encoder, frames, form, duration=film.duration)
    written = embed_film(encoder, film.write(tmp_path / "film.mkv"), form)
    assert rendered.bounds == pytest.approx(written.bounds, abs=2e-3)
    assert np.array_equal(rendered.vectors, written.vectors)
    assert rendered.embedding.tokens.shape == (len(rendered), 4, 8)


def test_no_more_than_a_batch_of_windows_is_held() -> None:
    encoder, form = BrightnessEncoder(), WindowFormat(num_frames=4, fps=10, stride=2)
    ahead, shown = [], 0

    def count() -> Iterator[tuple[float, np.ndarray]]:
        nonlocal shown
        for number in range(400):
            shown += 1
            ahead.append(shown - 2 * sum(encoder.batches))
            yield number / 10, np.zeros((32, 32, 3), np.uint8)

    features = embed_frames(encoder, count(), form, batch_size=8)
    assert len(features) == 199 and set(encoder.batches[:-1]) == {8}
    assert max(ahead) <= 8 * 2 + 4  # frames read before their windows were embedded, whatever the film's length


def test_resampling() -> None:
    frames = [(0.0, "a"), (0.5, "b"), (2.0, "c")]
    assert list(resample_frames(frames, 2, 3.0)) == [
        (0.0, "a"),
        (0.5, "b"),
        (1.0, "b"),
        (1.5, "b"),
        (2.0, "c"),
        (2.5, "c"),
    ]


def test_films_that_are_too_short_are_refused(make_video: Callable[..., Path]) -> None:
    path = make_video(plain(np.zeros(3)), "short.mkv", fps=10, codec="ffv1", pix_fmt="bgr0")
    with pytest.raises(VideoError, match=r"short.mkv: the film has 3 frames at 10 fps, and a window of the model 4"):
        embed_film(BrightnessEncoder(), path, WindowFormat(num_frames=4, fps=10, stride=1))
