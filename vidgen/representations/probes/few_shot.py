"""Few-shot episodes: classes told apart from a handful of clips of each, over and over."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from vidgen.errors import VidgenError
from vidgen.metrics import mean_interval
from vidgen.representations.baselines import SHUFFLED, twin_of
from vidgen.representations.probes.estimators import (
    INVERSE_PENALTIES,
    NEIGHBOURS,
    PENALTIES,
    make_centroid,
    make_knn,
    make_linear,
    make_ridge,
)
from vidgen.representations.probes.registry import MAJORITY
from vidgen.representations.probes.rows import chosen_keys, describe
from vidgen.representations.probes.selection import (
    Probe,
    ProbeScore,
    by_estimator,
    check_finite,
    predictions,
    validation_folds,
)
from vidgen.representations.probes.task import ProbeTask, task_of

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank

MOST_WAYS = 5  # classes of an episode, where nothing is said


def unscaled(make: Any) -> Any:
    """Without the standardisation on what is fitted: of a handful of clips, it would level all features."""
    return by_estimator(lambda choice, target_type, seed: make(choice, target_type, seed)[-1])


LEARNERS: dict[str, Probe] = {
    "knn": Probe(choices=NEIGHBOURS, predict=unscaled(make_knn), fits=lambda k, n: k <= n),
    "linear": Probe(choices=INVERSE_PENALTIES, predict=unscaled(make_linear)),
    "ridge": Probe(choices=PENALTIES, predict=unscaled(make_ridge)),
    "centroid": Probe(choices=(None,), predict=unscaled(make_centroid)),
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """N ways, K shots, so many clips of each class that are asked about, and how many episodes; a quarter as many are
    used to choose a probe's settings."""

    ways: int | None = None
    shots: int = 1
    queries: int = 10
    episodes: int = 200

    def __post_init__(self) -> None:
        if min(self.shots, self.queries, self.episodes) < 1 or (self.ways is not None and self.ways < 2):
            raise VidgenError(f"{self}: an episode needs 2 ways or more, and shots, queries and episodes of 1 or more")


@dataclass(frozen=True, kw_only=True, eq=False)
class Episode:
    """Row numbers to learn from and to be asked about."""

    support: Int[np.ndarray, " ns"]
    queries: Int[np.ndarray, " nq"]


def draw_episodes(
    y: np.ndarray, support: Int[np.ndarray, " s"], asked: Int[np.ndarray, " a"], setting: Setting, seed: int
) -> list[Episode]:
    """Episodes with support from rows `support` and queries from `asked`, as many clips of each class; a function of
    the arguments alone, so that all features are asked the same.

    Raises VidgenError where there are too few classes with enough clips.
    """
    sides = [{name: rows[y[rows] == name] for name in sorted(set(y[rows]))} for rows in (support, asked)]
    names = [n for n, rows in sides[0].items() if len(rows) >= setting.shots and n in sides[1]]
    ways = min(MOST_WAYS, len(names)) if setting.ways is None else setting.ways
    if len(names) < max(ways, 2):
        raise VidgenError(
            f"{len(names)} classes have {setting.shots} clips to learn from and some to be asked about; "
            f"{max(ways, 2)}-way episodes need as many classes: take fewer --ways or --shots"
        )
    rng = np.random.default_rng(seed)
    episodes = []
    for _ in range(setting.episodes):
        chosen = rng.permutation(names)[:ways]
        few = min(setting.queries, *(len(sides[1][name]) for name in chosen))
        learnt, told = (
            np.concatenate([rng.permutation(rows[name])[:count] for name in chosen])
            for rows, count in zip(sides, (setting.shots, few), strict=True)
        )
        episodes.append(Episode(support=learnt, queries=told))
    return episodes


def score_episodes(
    probe: Probe,
    choices: Sequence[Any],
    X: Float[np.ndarray, "n c"],
    task: ProbeTask,
    episodes: Sequence[Episode],
    seed: int,
) -> Float[np.ndarray, "episodes choices"]:
    """The accuracy in every episode, with every choice."""
    found = []
    for one in episodes:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="sklearn", category=RuntimeWarning)  # one clip has no spread
            said = predictions(probe, choices, X, task, one.support, one.queries, seed)
        found.append([(words == task.y[one.queries]).mean() for words in said])
    return np.array(found)


def score_few_shot(
    probe: Probe, X: Float[np.ndarray, "n c"], task: ProbeTask, setting: Setting, seed: int = 0
) -> tuple[ProbeScore, Float[np.ndarray, " e"]]:
    """Chosen on episodes within train (or from train to validation), scored on episodes from train to test: the mean
    over them, its 95% interval by Student's t over episodes, and the accuracy of each.

    Features are standardized on train. Episodes draw from the same clips: the interval is of the episodes, and does not
    say how another set of clips would do.
    """
    check_finite(X, task.ids)
    X = standardize_on(X, task.train)
    folds = validation_folds(task)
    few = max(1, -(-setting.episodes // (4 * len(folds))))
    tried = Setting(ways=setting.ways, shots=setting.shots, queries=setting.queries, episodes=few)
    choices = [choice for choice in probe.choices if probe.fits(choice, 2 * setting.shots)] or [probe.choices[0]]
    found = []
    for number, (fit, held) in enumerate(folds):
        try:
            episodes = draw_episodes(task.y, fit, held, tried, seed + 1 + number)
        except VidgenError:  # a fold may lack classes that train has
            continue
        found.append(score_episodes(probe, choices, X, task, episodes, seed))
    if not found:
        raise VidgenError("no part of 'train' has clips enough for episodes to choose on; take fewer --ways or --shots")
    scores = np.concatenate(found).mean(0)
    best = int(np.argmax(scores))
    episodes = draw_episodes(task.y, task.train, task.test, setting, seed)
    each = score_episodes(probe, [choices[best]], X, task, episodes, seed)[:, 0]
    mean = mean_interval(each, (0.0, 1.0))
    score = ProbeScore(
        choice=choices[best],
        validation=float(scores[best]),
        test=mean.mean,
        ci=mean.interval or (0.0, 1.0),
        predicted=np.empty(0),
        counts=np.empty((0, 2)),
    )
    return score, each


def standardize_on(X: Float[np.ndarray, "n c"], rows: Int[np.ndarray, " k"]) -> Float[np.ndarray, "n c"]:
    mean, std = X[rows].mean(0), X[rows].std(0)
    return (X - mean) / np.where(std > 1e-6, std, 1.0)


def few_shot_rows(
    bank: FeatureBank,
    kind: str = "centroid",
    layers: Sequence[str] | None = None,
    *,
    setting: Setting,
    task: str = "label",
    skip_unlabelled: bool = False,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """As `probe_rows`, of episodes of classes: with shots, ways, queries and episodes, and for temporal_gain the same
    episodes of shuffled frames.

    Raises VidgenError for a kind that a handful of clips cannot teach, and where episodes cannot be drawn.
    """
    if kind not in LEARNERS:
        raise VidgenError(f"probe {kind!r} does not learn from few shots; choose one of {', '.join(LEARNERS)}")
    asked = task_of(bank, seed, name=task, target_type="class", skip_unlabelled=skip_unlabelled)
    keys = chosen_keys(bank, layers)
    ways = len(set(asked.y[draw_episodes(asked.y, asked.train, asked.test, setting, seed)[0].support]))
    scores = {key: score_few_shot(LEARNERS[kind], bank.X(key), asked, setting, seed) for key in keys}
    scores["majority"] = score_few_shot(MAJORITY, np.zeros((len(bank), 1), np.float32), asked, setting, seed)
    rows = []
    for key, (score, each) in scores.items():
        row = describe(bank, key, kind, asked, score) | {"shots": setting.shots, "ways": ways}
        row |= {"queries": setting.queries, "episodes": len(each)}
        if (twin := scores.get(twin_of(key, SHUFFLED))) is not None:
            gain = mean_interval(each - twin[1])
            row |= {"temporal_gain": gain.mean, "temporal_gain_ci": list(gain.interval or (-1.0, 1.0))}
        rows.append(row | ({"pool": None} if key == "majority" else {}))
    return rows
