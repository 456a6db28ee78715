"""Semi-supervised probes: a few labelled clips, and many without labels that are shown in two tempos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import einsum, rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.representations.augmentations import STRONG, WEAK
from vidgen.representations.baselines import twin_of
from vidgen.representations.extractor import parse_key
from vidgen.representations.probes.metrics import METRICS, bootstrap_interval, difference_interval
from vidgen.representations.probes.registry import MAJORITY
from vidgen.representations.probes.rows import chosen_keys, describe
from vidgen.representations.probes.selection import ProbeScore, check_finite, choose_and_score, validation_folds
from vidgen.representations.probes.task import ProbeTask, task_of

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank

STEPS, RATE = 200, 0.03
DECAYS, THRESHOLDS = (0.1, 1e-2, 1e-3), (0.95, 0.8)
LABELS_ALONE = tuple((decay, 1.0) for decay in DECAYS)  # no probability is above 1: nothing is learned without labels
WITH_OTHERS = tuple(product(DECAYS, THRESHOLDS))
COMPONENTS = 256
LABEL_DRAWS, MOST_FOLDS = 3, 2
Choice = tuple[float, float]  # L2 penalty, and the probability from which on a guess is taken for a label


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """Features (n, c) of all clips as they are, changed a little and changed much."""

    plain: Float[Tensor, "n c"]
    weak: Float[Tensor, "n c"]
    strong: Float[Tensor, "n c"]


def fit_heads(
    views: Views,
    labelled: Int[np.ndarray, " l"],
    targets: Int[Tensor, " l"],
    others: Int[np.ndarray, " u"],
    classes: int,
    choices: Sequence[Choice],
) -> tuple[Float[Tensor, "g c k"], Float[Tensor, "g k"]]:
    """Linear heads, one a choice, trained by FixMatch (Sohn et al. 2020, eq. 2 to 4) on features: cross-entropy of the
    labelled clips, plus for every other clip whose weak view is given a class with enough probability the cross-entropy
    of its strong view with that class; Adam on all clips at once, from zero."""
    known, weak, strong = views.plain[labelled], views.weak[others], views.strong[others]
    decay, threshold = (torch.tensor(part) for part in zip(*choices, strict=True))
    W = torch.zeros(len(choices), known.shape[1], classes, requires_grad=True)
    b = torch.zeros(len(choices), classes, requires_grad=True)
    optimizer = torch.optim.Adam([W, b], lr=RATE)
    with torch.enable_grad():
        for _ in range(STEPS):
            total = mean_loss(say(W, b, known), repeat(targets, "l -> g l", g=len(choices)))
            if len(others):
                sure, guess = say(W.detach(), b.detach(), weak).softmax(-1).max(-1)  # g u
                each = F.cross_entropy(
                    rearrange(say(W, b, strong), "g u k -> (g u) k"), rearrange(guess, "g u -> (g u)"), reduction="none"
                )
                taken = (sure >= threshold[:, None]) & (threshold[:, None] < 1.0)
                total = total + (rearrange(each, "(g u) -> g u", g=len(choices)) * taken).mean(1)
            loss = (total + decay * W.square().sum((1, 2)) / 2).sum()  # each head gets the gradient it would have alone
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return W.detach(), b.detach()


def say(W: Float[Tensor, "g c k"], b: Float[Tensor, "g k"], x: Float[Tensor, "n c"]) -> Float[Tensor, "g n k"]:
    return einsum(x, W, "n c, g c k -> g n k") + rearrange(b, "g k -> g 1 k")


def mean_loss(said: Float[Tensor, "g n k"], targets: Int[Tensor, "g n"]) -> Float[Tensor, " g"]:
    each = F.cross_entropy(rearrange(said, "g n k -> (g n) k"), rearrange(targets, "g n -> (g n)"), reduction="none")
    return rearrange(each, "(g n) -> g n", g=len(said)).mean(1)


def read_views(bank: FeatureBank, key: str, rows: Int[np.ndarray, " k"], ids: Sequence[str]) -> Views:
    """Standardised on `rows`, what is learned from, and turned to their first 256 principal components where there are
    more features."""
    found = [bank.X(name) for name in (key, twin_of(key, WEAK), twin_of(key, STRONG))]
    for X in found:
        check_finite(X, ids)
    mean, std = found[0][rows].mean(0), found[0][rows].std(0)
    x, *others = (torch.from_numpy((X - mean) / np.where(std > 1e-6, std, 1.0)) for X in found)
    if x.shape[1] > COMPONENTS:
        *_, turn = torch.linalg.svd(x[torch.from_numpy(rows)], full_matrices=False)
        x, *others = (each @ turn[:COMPONENTS].T for each in (x, *others))
    weak, strong = others
    return Views(plain=x, weak=weak, strong=strong)


def draw_labelled(y: np.ndarray, rows: Int[np.ndarray, " k"], each: int, seed: int) -> Int[np.ndarray, " l"]:
    """So many rows of every class; all of a class that has fewer."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(rows[y[rows] == name])[:each] for name in sorted(set(y[rows]))])


def unlabelled_rows(bank: FeatureBank, task: ProbeTask) -> Int[np.ndarray, " u"]:
    """Clips without a label that may be learned from: of train, or of no split, and of no group that is reported on."""
    kept = np.concatenate([task.test, *([] if task.validation is None else [task.validation])])
    told, groups = {*task.train, *kept}, set(task.groups[kept])
    free = [
        i for i, row in enumerate(bank.rows)
        if i not in told and row.split in ((None, "train") if not task.given else ("train",))
    ]  # fmt: skip
    return np.array([i for i in free if task.groups[i] not in groups], dtype=np.int64)


def score_semi_supervised(
    views: Views, task: ProbeTask, extra: Int[np.ndarray, " u"], each: int, seed: int = 0
) -> tuple[ProbeScore, ProbeScore]:
    """Scores with the unlabelled clips, and with the labelled ones alone: means over three draws of the labels, each
    with its own choice on validation; intervals over groups of test clips, of that mean."""
    names = np.array(sorted(set(task.y[task.train])), dtype=object)
    metric, folds = METRICS["class"], validation_folds(task, MOST_FOLDS)
    choices = [*LABELS_ALONE, *WITH_OTHERS]

    def counts_of(fit: np.ndarray, told: np.ndarray, draw: int, chosen: Sequence[Choice]) -> list[np.ndarray]:
        labelled = draw_labelled(task.y, fit, each, seed + draw)
        others = np.concatenate([np.setdiff1d(fit, labelled), extra])
        targets = torch.from_numpy(np.searchsorted(names.astype(str), task.y[labelled].astype(str)))
        W, b = fit_heads(views, labelled, targets, others, len(names), chosen)
        said = say(W, b, views.plain[told]).argmax(-1).numpy()
        return [metric.count(task.y[told], names[one]) for one in said]

    tried = [[counts_of(fit, held, draw, choices) for fit, held in folds] for draw in range(LABEL_DRAWS)]
    scores = [metric(np.concatenate([fold[g] for draw in tried for fold in draw])) for g in range(len(choices))]
    alone = int(np.argmax(scores[: len(LABELS_ALONE)]))
    both = len(LABELS_ALONE) + int(np.argmax(scores[len(LABELS_ALONE) :]))
    draws = [counts_of(task.train, task.test, draw, [choices[both], choices[alone]]) for draw in range(LABEL_DRAWS)]
    found = []
    for place, g in enumerate((both, alone)):
        counts = np.mean([draw[place] for draw in draws], axis=0)
        ci = bootstrap_interval(metric, counts, task.groups[task.test], seed)
        found.append(
            ProbeScore(choice=choices[g], validation=scores[g], test=metric(counts), ci=ci, predicted=np.empty(0),
                       counts=counts)
        )  # fmt: skip
    return found[0], found[1]


def semi_supervised_rows(
    bank: FeatureBank,
    layers: Sequence[str] | None = None,
    *,
    labels_per_class: int,
    task: str = "label",
    skip_unlabelled: bool = False,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """As `probe_rows`, of linear heads that are told so many labels of each class, and learn from the rest of train
    without theirs (with skip_unlabelled, from clips that have none too); for features that the bank has views of.
    Validation and test have all their labels.

    A row has also labels_per_class, labelled, others (clips), labels_alone (the score of the same head without the
    others), gain and gain_ci, the difference. Raises VidgenError for a bank without views.
    """
    if labels_per_class < 1:
        raise VidgenError(f"{labels_per_class} labels of a class teach nothing; give 1 or more")
    asked = task_of(bank, seed, name=task, target_type="class", skip_unlabelled=skip_unlabelled)
    keys = [
        key for key in chosen_keys(bank, layers) if {twin_of(key, view) for view in (WEAK, STRONG)} <= set(bank.keys)
    ]
    seen = {*keys, *(parse_key(key)[0] for key in keys)}
    lacking = [repr(layer) for layer in layers or () if layer not in seen]
    if lacking or not keys:
        of = lacking[0] if lacking else "its clips"
        raise VidgenError(f"{bank.folder} has no views of {of} to learn from; extract with --views")
    extra = unlabelled_rows(bank, asked)
    labelled = len(draw_labelled(asked.y, asked.train, labels_per_class, seed))
    about = {"labels_per_class": labels_per_class, "labelled": labelled}
    about["others"] = len(asked.train) - labelled + len(extra)
    rows = []
    for key in keys:
        views = read_views(bank, key, np.concatenate([asked.train, extra]), asked.ids)
        both, alone = score_semi_supervised(views, asked, extra, labels_per_class, seed)
        gain = difference_interval(METRICS["class"], both.counts, alone.counts, asked.groups[asked.test], seed)
        row = describe(bank, key, "fixmatch", asked, both) | about
        rows.append(row | {"labels_alone": alone.test, "gain": both.test - alone.test, "gain_ci": list(gain)})
    majority = choose_and_score(MAJORITY, np.zeros((len(bank), 1), np.float32), asked, seed=seed)
    return [*rows, describe(bank, "majority", "fixmatch", asked, majority) | {"pool": None} | about]
