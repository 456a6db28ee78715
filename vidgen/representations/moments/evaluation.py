"""Ways to find moments side by side, on films of the world or on annotated videos."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vidgen.data.annotations.importing import VideoFolder
from vidgen.data.shapes.films import FilmConfig, FilmWorld
from vidgen.errors import VideoError, VidgenError
from vidgen.interfaces import TextVideoEncoder
from vidgen.representations.moments.baselines import (
    SharesOfFilm,
    fit_prior,
    prior_spans,
    random_spans,
    relative_bounds,
)
from vidgen.representations.moments.curves import make_curves
from vidgen.representations.moments.film_features import (
    FilmFeatures,
    WindowFormat,
    embed_film,
    embed_frames,
    resample_frames,
)
from vidgen.representations.moments.localization import LocalizationConfig, locate_on_curve, saliency_of
from vidgen.representations.moments.metrics import COUNTED_SPANS, MomentScores, score_spans
from vidgen.representations.moments.moment_files import SALIENCY_SECONDS, MomentPrediction, MomentQuery
from vidgen.representations.moments.refinement import Refinement, refine_curve
from vidgen.representations.moments.segmentation import find_cuts
from vidgen.representations.moments.spans import Span

METHODS: dict[str, LocalizationConfig] = {
    "similarity": LocalizationConfig(proposals=("watershed", "sliding"), snap=0.0),
    "similarity, contrast": LocalizationConfig(proposals=("watershed", "sliding"), score="contrast", snap=0.0),
    "similarity, cuts": LocalizationConfig(),
    "similarity, cuts, adapted": LocalizationConfig(refinement=Refinement()),
}
BASELINES = ("random", "center prior")
PRIOR_FILMS = 50  # of the training split, whose spans are what the baselines know


@dataclass(frozen=True, kw_only=True, eq=False)
class AnnotatedFilm:
    """A film's queries, each with one true span or more, and a function that makes its features."""

    queries: Sequence[MomentQuery]
    embed: Callable[[], FilmFeatures]


@dataclass(kw_only=True)
class LocatedMoments:
    """Queries with their films' durations, and what each method says of each; `skipped` are films with the reason."""

    queries: list[MomentQuery] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    predictions: dict[str, list[MomentPrediction]] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def add(self, method: str, query: MomentQuery, spans: Sequence[Span], saliency: Sequence[float] | None) -> None:
        """Note what a method says of a query."""
        self.predictions.setdefault(method, []).append(
            MomentPrediction(
                qid=query.qid,
                text=query.text,
                video=query.video,
                spans=tuple(spans),
                saliency=None if saliency is None else tuple(saliency),
            )
        )

    def score(self) -> dict[str, MomentScores]:
        """Return the scores of each method; intervals are over films."""
        true, films = [query.spans for query in self.queries], [query.video for query in self.queries]
        return {
            method: score_spans(true, [one.spans for one in predictions], films)
            for method, predictions in self.predictions.items()
        }


def world_films(
    encoder: TextVideoEncoder, config: FilmConfig, count: int, form: WindowFormat, batch_size: int = 16
) -> Iterator[AnnotatedFilm]:
    """Yield the first films of a world with the short captions of their clips, rendered when they are embedded."""
    for index in range(count):
        film = FilmWorld(config)[index]
        queries = [
            MomentQuery(
                qid=f"{index}-{number}",
                text=query.caption,
                video=f"film{index}",
                duration=film.duration,
                spans=tuple(Span(start=start, end=end) for start, end in query.spans),
            )
            for number, query in enumerate(film.list_queries())
        ]

        def embed(film=film) -> FilmFeatures:
            frames = resample_frames(film.iter_frames(), form.fps, film.duration)
            return embed_frames(encoder, frames, form, duration=film.duration, batch_size=batch_size)

        yield AnnotatedFilm(queries=queries, embed=embed)


def annotated_films(
    encoder: TextVideoEncoder,
    queries: Iterable[MomentQuery],
    videos: Path,
    form: WindowFormat,
    *,
    batch_size: int = 16,
    skipped: list[tuple[str, str]],
) -> Iterator[AnnotatedFilm]:
    """Yield the videos of a folder with their queries that have spans; queries whose video is not there go to
    `skipped`. Raises VidgenError for a folder without videos."""
    folder = VideoFolder(videos)
    by_video: dict[str, list[MomentQuery]] = {}
    for query in queries:
        if query.spans:
            by_video.setdefault(query.video, []).append(query)
    for name, group in by_video.items():
        path = folder.find(name)
        if path is None:
            skipped.append((name, f"not in {videos}"))
            continue

        def embed(path=path) -> FilmFeatures:
            return embed_film(encoder, path, form, batch_size=batch_size)

        yield AnnotatedFilm(queries=group, embed=embed)


def locate_moments(
    encoder: TextVideoEncoder,
    films: Iterable[AnnotatedFilm],
    methods: Mapping[str, LocalizationConfig] = METHODS,
    *,
    skipped: list[tuple[str, str]] | None = None,
    progress: Callable[[int], None] | None = None,
) -> LocatedMoments:
    """Return what each method says of every query, the features of one film after the other in memory.

    Films that cannot be read are skipped and named, and so are queries whose spans lie outside of their film. Raises
    VidgenError where no query is left.
    """
    located = LocatedMoments(skipped=[] if skipped is None else skipped)
    for number, film in enumerate(films, 1):
        try:
            features = film.embed()
        except VideoError as error:
            located.skipped.append((film.queries[0].video, str(error)))
            continue
        queries = [query for query in film.queries if _is_inside(query, features.duration, located.skipped)]
        if queries:
            _locate_film(encoder, features, queries, methods, located)
        if progress:
            progress(number)
    if not located.queries:
        reason = f"; {located.skipped[0][0]}: {located.skipped[0][1]}" if located.skipped else ""
        raise VidgenError(f"no query with a span in a film that can be read{reason}")
    return located


def _is_inside(query: MomentQuery, duration: float, skipped: list[tuple[str, str]]) -> bool:
    late = next((span for span in query.spans if span.start >= duration), None)
    if late is not None:
        where = f"a span from {late.start:g} to {late.end:g} s in a film of {duration:.3g} s"
        skipped.append((f"{query.video}, query {query.qid}", where))
    return late is None


def _locate_film(
    encoder: TextVideoEncoder,
    features: FilmFeatures,
    queries: Sequence[MomentQuery],
    methods: Mapping[str, LocalizationConfig],
    located: LocatedMoments,
) -> None:
    """Add to `located` what each method says of the queries of a film."""
    cuts = find_cuts(features.changes, features.format.fps).tolist()
    vectors = features.vectors
    for query, curve in zip(queries, make_curves(encoder, features, [query.text for query in queries]), strict=True):
        located.queries.append(query)
        located.durations.append(features.duration)
        for name, config in methods.items():
            own = curve if config.refinement is None else refine_curve(curve, vectors, config.refinement)
            spans = locate_on_curve(own, cuts, replace(config, top_k=max(config.top_k, COUNTED_SPANS)))
            located.add(name, query, spans, saliency_of(own, SALIENCY_SECONDS).tolist())


def train_bounds(config: FilmConfig, count: int = PRIOR_FILMS) -> SharesOfFilm:
    """Return the spans of films of the training split, as shares of the films; none is rendered."""
    train = replace(config, world=replace(config.world, split="train"))
    spans, durations = [], []
    for index in range(count):
        film = FilmWorld(train)[index]
        for query in film.list_queries():
            spans.append([Span(start=start, end=end) for start, end in query.spans])
            durations.append(film.duration)
    return relative_bounds(spans, durations)


def add_baselines(located: LocatedMoments, bounds: SharesOfFilm | None, seed: int = 0) -> None:
    """Add what those say who have seen no film: random spans, and a prior of where moments lie.

    bounds: spans of other films, as shares. None: those of the other half of the videos here, by their order; with a
        single video there is nothing to know, and nothing is added.
    """
    names = list(dict.fromkeys(query.video for query in located.queries))
    if bounds is None and len(names) < 2:
        return
    halves = {name: number % 2 for number, name in enumerate(names)}
    rng = np.random.default_rng(seed)
    if bounds is None:
        knowledge = {half: _bounds_of(located, halves, 1 - half) for half in (0, 1)}
    else:
        knowledge = {0: bounds, 1: bounds}
    priors = {half: fit_prior(known, COUNTED_SPANS) for half, known in knowledge.items()}
    for query, duration in zip(located.queries, located.durations, strict=True):
        half = halves[query.video]
        located.add(BASELINES[0], query, random_spans(rng, knowledge[half], duration, COUNTED_SPANS), None)
        located.add(BASELINES[1], query, prior_spans(priors[half], duration), None)


def _bounds_of(located: LocatedMoments, halves: Mapping[str, int], half: int) -> SharesOfFilm:
    rows = [i for i, query in enumerate(located.queries) if halves[query.video] == half]
    return relative_bounds([located.queries[i].spans for i in rows], [located.durations[i] for i in rows])
