"""Few-shot probes: classes told apart from a handful of clips of each, in many random episodes."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from jaxtyping import Float, Int

from vidgen.bounds import Count, Range, check_fields
from vidgen.deprecation import renamed_keywords
from vidgen.errors import VidgenError
from vidgen.metrics import mean_interval
from vidgen.representations.baselines import SHUFFLED, twin_of
from vidgen.representations.probes.registry import MAJORITY, PROBES
from vidgen.representations.probes.results import describe_score
from vidgen.representations.probes.rows import chosen_keys, counted
from vidgen.representations.probes.selection import (
    Probe,
    ProbeScore,
    check_finite,
    possible_choices,
    predict_rows,
    validation_folds,
)
from vidgen.representations.probes.standardization import Standardizer
from vidgen.representations.probes.task import ProbeTask, task_of

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank

DEFAULT_WAYS = 5  # classes of an episode, at most, where none are asked for
MOST_NAMED = 8  # classes whose clips an error counts
FEW_SHOT_PROBES = {kind: replace(probe, predict=probe.few_shot) for kind, probe in PROBES.items() if probe.few_shot}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Episodes of `ways` classes with `shots` clips to learn each from and `queries` clips of each to be told apart;
    a quarter as many as `episodes` are used to choose a probe's settings."""

    ways: Annotated[int, Range(2, 10**9)] | None = None
    shots: Count = 1
    queries: Count = 10
    episodes: Count = 200

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class Episode:
    """Row numbers to learn from, and to be told apart."""

    support: Int[np.ndarray, " ns"]
    queries: Int[np.ndarray, " nq"]


def find_classes(
    y: np.ndarray, support: Int[np.ndarray, " s"], queries: Int[np.ndarray, " a"], setting: Setting
) -> tuple[list[str], int]:
    """Return the classes with clips enough for episodes, and how many of them an episode has; arguments as in
    `draw_episodes`.

    Raises VidgenError where they are too few, and says which class has how many clips.
    """
    counts, query_counts = Counter(y[support]), Counter(y[queries])
    names = sorted(name for name in counts if counts[name] >= setting.shots and name in query_counts)
    ways = min(DEFAULT_WAYS, len(names)) if setting.ways is None else setting.ways
    if len(names) < max(ways, 2):
        ways = max(ways, 2)
        raise VidgenError(
            f"{ways}-way {setting.shots}-shot episodes need {ways} classes with {setting.shots} to learn "
            f"from and some to be asked about, and {len(names)} of {len(counts)} have them "
            f"({describe_counts(counts, query_counts)}): take fewer --ways or --shots"
        )
    return names, ways


def describe_counts(counts: Counter[str], queries: Counter[str]) -> str:
    """Return how many clips of each class there are to learn from, the largest classes first, and where none is to be
    asked about."""
    parts = [
        f"{name!r} {n}" + ("" if name in queries else " and none to ask about") for name, n in counts.most_common()
    ]
    return ", ".join(parts[:MOST_NAMED]) + (f", {len(parts) - MOST_NAMED} more" if len(parts) > MOST_NAMED else "")


def check_episodes(task: ProbeTask, settings: Sequence[Setting]) -> None:
    """Raise VidgenError for settings whose episodes cannot be drawn, from train to test or to choose on."""
    folds = validation_folds(task)
    for setting in settings:
        find_classes(task.y, task.train, task.test, setting)
        refusals = []
        for fit, held_out in folds:
            try:
                find_classes(task.y, fit, held_out, setting)
            except VidgenError as refusal:  # a fold may lack classes that train has
                refusals.append(refusal)
        if len(refusals) == len(folds):
            parts = "from train to validation" if task.validation is not None else "on parts of train"
            raise VidgenError(f"settings are chosen {parts}: {refusals[0]}")


def draw_episodes(
    y: np.ndarray, support: Int[np.ndarray, " s"], queries: Int[np.ndarray, " a"], setting: Setting, seed: int
) -> list[Episode]:
    """Return episodes with support from rows `support` and queries from rows `queries`, as many clips of each class; a
    function of the arguments alone, so that all features have the same episodes.

    Raises VidgenError where there are too few classes with enough clips.
    """
    names, ways = find_classes(y, support, queries, setting)
    sides = [{name: rows[y[rows] == name] for name in names} for rows in (support, queries)]
    rng = np.random.default_rng(seed)
    episodes = []
    for _ in range(setting.episodes):
        classes = rng.permutation(names)[:ways]
        num_queries = min(setting.queries, *(len(sides[1][name]) for name in classes))
        drawn = [
            np.concatenate([rng.permutation(rows[name])[:count] for name in classes])
            for rows, count in zip(sides, (setting.shots, num_queries), strict=True)
        ]
        episodes.append(Episode(support=drawn[0], queries=drawn[1]))
    return episodes


def score_episodes(
    probe: Probe,
    choices: Sequence[Any],
    X: Float[np.ndarray, "n c"],
    task: ProbeTask,
    episodes: Sequence[Episode],
    seed: int,
) -> Float[np.ndarray, "episodes choices"]:
    """Return the accuracy in every episode.

    Args:
        probe, choices, X, task, seed: as in `predict_rows`.
        episodes: rows to fit on and to predict.
    """
    accuracies = []
    for one in episodes:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="sklearn", category=RuntimeWarning)  # one clip has no spread
            predictions = predict_rows(probe, choices, X, task, one.support, one.queries, seed)
        accuracies.append([(labels == task.y[one.queries]).mean() for labels in predictions])
    return np.array(accuracies)


def score_few_shot(
    probe: Probe, X: Float[np.ndarray, "n c"], task: ProbeTask, setting: Setting, seed: int = 0
) -> tuple[ProbeScore, Float[np.ndarray, " e"]]:
    """Return a probe's score, and its accuracy in every episode.

    The probe's setting is chosen on episodes within train (or from train to validation) and scored on episodes from
    train to test: the mean over them, with its 95% interval by Student's t over episodes. Features are standardized on
    train. Episodes draw from the same clips: the interval is of the episodes, and does not say how another set of clips
    would do.
    """
    check_finite(X, task.ids)
    check_episodes(task, [setting])
    X = Standardizer.fit(X[task.train]).transform(X)
    folds = validation_folds(task)
    fewer = replace(setting, episodes=max(1, -(-setting.episodes // (4 * len(folds)))))
    choices = possible_choices(probe, 2 * setting.shots)
    accuracies = []
    for number, (fit, held_out) in enumerate(folds):
        try:
            episodes = draw_episodes(task.y, fit, held_out, fewer, seed + 1 + number)
        except VidgenError:  # a fold may lack classes that train has
            continue
        accuracies.append(score_episodes(probe, choices, X, task, episodes, seed))
    assert accuracies  # as checked
    scores = np.concatenate(accuracies).mean(0)
    best = int(np.argmax(scores))
    episodes = draw_episodes(task.y, task.train, task.test, setting, seed)
    each = score_episodes(probe, [choices[best]], X, task, episodes, seed)[:, 0]
    mean = mean_interval(each, (0.0, 1.0))
    ci = mean.interval or (0.0, 1.0)
    return ProbeScore(choice=choices[best], validation=float(scores[best]), test=mean.mean, ci=ci), each


def check_few_shot(
    bank: FeatureBank,
    kind: str,
    settings: Sequence[Setting],
    *,
    task: str = "label",
    skip_unlabelled: bool = False,
    seed: int = 0,
) -> ProbeTask:
    """Return the labels that `few_shot_rows` has to learn. Raises VidgenError where it would for one of the settings,
    before any feature is read; arguments as there."""
    if kind not in FEW_SHOT_PROBES:
        raise VidgenError(f"probe {kind!r} does not learn from few shots; choose one of {', '.join(FEW_SHOT_PROBES)}")
    labels = task_of(bank, seed, name=task, target_type="class", skip_unlabelled=skip_unlabelled)
    check_episodes(labels, settings)
    return labels


@renamed_keywords(taps="layers")
def few_shot_rows(
    bank: FeatureBank,
    kind: str = "centroid",
    layers: Sequence[str] | None = None,
    *,
    setting: Setting,
    task: str = "label",
    skip_unlabelled: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Return rows as `probe_rows` does, of episodes of classes: with shots, ways, queries and episodes, and for
    temporal_gain the same episodes of shuffled frames.

    Raises VidgenError for a kind that a handful of clips cannot teach, and where episodes cannot be drawn.

    Args:
        bank: the features, and the labels.
        kind: one of `FEW_SHOT_PROBES`.
        setting: of the episodes.
        layers, task, skip_unlabelled, progress: as in `probe_rows`.
        seed: of the episodes, and of a split that is drawn.
    """
    labels = check_few_shot(bank, kind, [setting], task=task, skip_unlabelled=skip_unlabelled, seed=seed)
    _, ways = find_classes(labels.y, labels.train, labels.test, setting)
    keys = counted(chosen_keys(bank, layers), progress)
    scores = {key: score_few_shot(FEW_SHOT_PROBES[kind], bank.X(key), labels, setting, seed) for key in keys}
    scores["majority"] = score_few_shot(MAJORITY, np.zeros((len(bank), 1), np.float32), labels, setting, seed)
    rows = []
    for key, (score, each) in scores.items():
        counts = {"shots": setting.shots, "ways": ways, "queries": setting.queries, "episodes": len(each)}
        row = describe_score(bank, key, kind, labels, score, **counts)
        if (twin := scores.get(twin_of(key, SHUFFLED))) is not None:
            gain = mean_interval(each - twin[1])
            row |= {"temporal_gain": gain.mean, "temporal_gain_ci": list(gain.interval or (-1.0, 1.0))}
        rows.append(row)
    return rows
