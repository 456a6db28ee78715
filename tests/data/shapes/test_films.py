"""Films of the world: the same every time, clip by clip, with every span where a caption is true."""

from pathlib import Path

import numpy as np
import pytest

from vidgen.data.reading import iter_frames
from vidgen.data.shapes.films import FilmConfig, FilmWorld
from vidgen.data.shapes.labels import ShapeWorldConfig
from vidgen.data.shapes.truth import is_true
from vidgen.errors import VidgenError

SMALL = FilmConfig(world=ShapeWorldConfig(height=32, width=32, num_frames=9, split="held_out"), num_clips=6)


def test_films_are_functions_of_their_index() -> None:
    film, again, other = FilmWorld(SMALL)[3], FilmWorld(SMALL)[3], FilmWorld(SMALL)[4]
    assert [clip.captions for clip in film.clips] == [clip.captions for clip in again.clips]
    assert [clip.start for clip in film.clips] == [clip.start for clip in again.clips]
    assert [clip.captions for clip in film.clips] != [clip.captions for clip in other.clips]
    for one, two in zip(film.iter_clips(), again.iter_clips(), strict=True):
        assert np.array_equal(one, two)


def test_clips_follow_without_gaps_and_in_length_as_asked() -> None:
    lengths = set()
    for index in range(20):
        film = FilmWorld(SMALL)[index]
        assert film.clips[0].start == 0 and film.duration == film.num_frames / film.fps
        for clip, following in zip(film.clips, film.clips[1:], strict=False):
            assert clip.end == following.start and clip.first + clip.num_frames == following.first
        lengths |= {clip.num_frames for clip in film.clips}
    assert lengths == set(range(9, round(1.5 * 9) + 1))


def test_queries_have_all_spans_where_they_are_true() -> None:
    film = FilmWorld(FilmConfig(world=ShapeWorldConfig(num_frames=9), num_clips=200))[0]
    several = 0
    for query in film.list_queries():
        seconds = np.zeros(film.num_frames, bool)
        for start, end in query.spans:
            seconds[round(start * film.fps) : round(end * film.fps)] = True
        for clip in film.clips:
            shown = seconds[clip.first : clip.first + clip.num_frames]
            assert shown.all() == is_true(query.caption, clip.labels) and shown.any() == shown.all()
        several += len(query.spans) > 1
    assert several > 5


def test_neighbors_of_which_it_is_true_are_one_span() -> None:
    film = FilmWorld(SMALL)[0]
    first, second, *rest = film.clips
    twice = [first, type(second)(**{**vars(second), "labels": first.labels, "captions": first.captions}), *rest]
    film = type(film)(config=film.config, index=0, clips=tuple(twice))
    assert (0.0, second.end) in film.list_queries()[0].spans
    assert film.list_queries(["a small red ring spins in place"])[0].spans == ()  # a ring cannot be seen to spin
    with pytest.raises(VidgenError, match="no caption"):
        film.list_queries(["a dog barks"])


def test_written_films_have_the_frames_and_times_of_rendered_ones(tmp_path: Path) -> None:
    film = FilmWorld(SMALL)[1]
    path = film.write(tmp_path / "film.mkv")  # lossless
    for (time, frame), (written_time, written) in zip(film.iter_frames(), iter_frames(path), strict=True):
        assert abs(time - written_time) < 2e-3 and np.array_equal(frame, written)


def test_impossible_films_are_refused() -> None:
    with pytest.raises(VidgenError, match="num_clips"):
        FilmConfig(num_clips=0)
    with pytest.raises(IndexError):
        FilmWorld(SMALL)[-1]
