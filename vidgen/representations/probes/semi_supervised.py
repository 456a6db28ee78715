"""Semi-supervised probes: a few labelled clips, and many without labels that are seen in two augmentations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import einsum, rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.deprecation import renamed_keywords
from vidgen.errors import VidgenError
from vidgen.representations.augmentations import STRONG, WEAK
from vidgen.representations.baselines import twin_of
from vidgen.representations.extractor import parse_key
from vidgen.representations.probes.fitting import cross_entropies
from vidgen.representations.probes.metrics import METRICS, difference_interval
from vidgen.representations.probes.results import describe_score
from vidgen.representations.probes.rows import chosen_keys, counted, majority_row
from vidgen.representations.probes.selection import ProbeScore, check_finite, score_counts, validation_folds
from vidgen.representations.probes.standardization import Standardizer
from vidgen.representations.probes.task import ProbeTask, task_of

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank

STEPS, RATE = 200, 0.03
DECAYS, THRESHOLDS = (0.1, 1e-2, 1e-3), (0.95, 0.8)
SUPERVISED = tuple((decay, 1.0) for decay in DECAYS)  # no probability is above 1: nothing is learned without labels
FIXMATCH = tuple(product(DECAYS, THRESHOLDS))
COMPONENTS = 256
LABEL_DRAWS, MAX_FOLDS = 3, 2
Choice = tuple[float, float]  # L2 penalty, and the probability from which on a prediction is taken for a label


@dataclass(frozen=True, kw_only=True, eq=False)
class AugmentedFeatures:
    """Features (n, c) of all clips as they are, weakly and strongly augmented."""

    plain: Float[Tensor, "n c"]
    weak: Float[Tensor, "n c"]
    strong: Float[Tensor, "n c"]


def fit_heads(
    augmented: AugmentedFeatures,
    labelled: Int[np.ndarray, " l"],
    targets: Int[Tensor, " l"],
    unlabelled: Int[np.ndarray, " u"],
    classes: int,
    choices: Sequence[Choice],
) -> tuple[Float[Tensor, "g c k"], Float[Tensor, "g k"]]:
    """Return weights and biases of linear heads, one a choice, trained by FixMatch (Sohn et al. 2020, eq. 2 to 4) on
    features: cross-entropy of the labelled clips, plus for every other clip whose weak augmentation has a class of
    enough probability the cross-entropy of its strong one with that class; Adam on all clips at once, from zero.

    Args:
        augmented: features of all clips.
        labelled: rows of the labelled clips.
        targets: the numbers of their classes.
        unlabelled: rows of the other clips.
        classes: how many classes there are.
        choices: penalty and threshold of each head.
    """
    x, weak, strong = augmented.plain[labelled], augmented.weak[unlabelled], augmented.strong[unlabelled]
    decay, threshold = (torch.tensor(part) for part in zip(*choices, strict=True))
    W = torch.zeros(len(choices), x.shape[1], classes, requires_grad=True)
    b = torch.zeros(len(choices), classes, requires_grad=True)
    optimizer = torch.optim.Adam([W, b], lr=RATE)
    with torch.enable_grad():
        for _ in range(STEPS):
            total = cross_entropies(head_logits(W, b, x), repeat(targets, "l -> g l", g=len(choices))).mean(1)
            if len(unlabelled):
                probability, label = head_logits(W.detach(), b.detach(), weak).softmax(-1).max(-1)  # g u
                used = (probability >= threshold[:, None]) & (threshold[:, None] < 1.0)
                total = total + (cross_entropies(head_logits(W, b, strong), label) * used).mean(1)
            loss = (total + decay * W.square().sum((1, 2)) / 2).sum()  # each head gets the gradient it would have alone
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return W.detach(), b.detach()


def head_logits(W: Float[Tensor, "g c k"], b: Float[Tensor, "g k"], x: Float[Tensor, "n c"]) -> Float[Tensor, "g n k"]:
    """Return the logits of g linear heads."""
    return einsum(x, W, "n c, g c k -> g n k") + rearrange(b, "g k -> g 1 k")


def read_augmented(bank: FeatureBank, key: str, rows: Int[np.ndarray, " k"], ids: Sequence[str]) -> AugmentedFeatures:
    """Return a feature and its augmentations, standardized on the plain one of `rows`, the clips to learn from, and
    turned to their first 256 principal components where there are more channels."""
    features = [bank.X(name) for name in (key, twin_of(key, WEAK), twin_of(key, STRONG))]
    for X in features:
        check_finite(X, ids)
    scaler = Standardizer.fit(features[0][rows])
    augmented = [torch.from_numpy(scaler.transform(X)) for X in features]
    if augmented[0].shape[1] > COMPONENTS:
        *_, axes = torch.linalg.svd(augmented[0][torch.from_numpy(rows)], full_matrices=False)
        augmented = [x @ axes[:COMPONENTS].T for x in augmented]
    return AugmentedFeatures(plain=augmented[0], weak=augmented[1], strong=augmented[2])


def draw_labelled(y: np.ndarray, rows: Int[np.ndarray, " k"], each: int, seed: int) -> Int[np.ndarray, " l"]:
    """Return `each` rows of every class; all of a class that has fewer."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(rows[y[rows] == name])[:each] for name in sorted(set(y[rows]))])


def unlabelled_rows(bank: FeatureBank, task: ProbeTask) -> Int[np.ndarray, " u"]:
    """Return clips without a label to learn from: of train, or of no split, and of no group that is scored."""
    used = {*task.train, *task.scored}
    groups = set(task.groups[task.scored])
    splits = ("train",) if task.has_split else (None, "train")
    free = [i for i, row in enumerate(bank.rows) if i not in used and row.split in splits]
    return np.array([i for i in free if task.groups[i] not in groups], dtype=np.int64)


def score_semi_supervised(
    augmented: AugmentedFeatures, task: ProbeTask, extra: Int[np.ndarray, " u"], each: int, seed: int = 0
) -> tuple[ProbeScore, ProbeScore]:
    """Return the scores with the unlabelled clips, and with the labelled ones alone: means over three draws of the
    labels, each with its own choice on validation; intervals over groups of test clips, of that mean."""
    names = np.array(sorted(set(task.y[task.train])), dtype=object)
    metric, folds = METRICS["class"], validation_folds(task, MAX_FOLDS)
    choices = [*SUPERVISED, *FIXMATCH]

    def counts_of(fit: np.ndarray, held_out: np.ndarray, draw: int, tried: Sequence[Choice]) -> list[np.ndarray]:
        labelled = draw_labelled(task.y, fit, each, seed + draw)
        unlabelled = np.concatenate([np.setdiff1d(fit, labelled), extra])
        targets = torch.from_numpy(np.searchsorted(names.astype(str), task.y[labelled].astype(str)))
        W, b = fit_heads(augmented, labelled, targets, unlabelled, len(names), tried)
        predictions = head_logits(W, b, augmented.plain[held_out]).argmax(-1).numpy()
        return [metric.count(task.y[held_out], names[one]) for one in predictions]

    draws = [[counts_of(fit, held_out, draw, choices) for fit, held_out in folds] for draw in range(LABEL_DRAWS)]
    scores = [metric(np.concatenate([fold[g] for draw in draws for fold in draw])) for g in range(len(choices))]
    alone = int(np.argmax(scores[: len(SUPERVISED)]))
    both = len(SUPERVISED) + int(np.argmax(scores[len(SUPERVISED) :]))
    best = [choices[both], choices[alone]]
    tested = np.mean([counts_of(task.train, task.test, draw, best) for draw in range(LABEL_DRAWS)], axis=0)
    first, last = (
        score_counts(task, counts, choice=choices[g], validation=scores[g], seed=seed)
        for g, counts in zip((both, alone), tested, strict=True)
    )
    return first, last


@renamed_keywords(taps="layers")
def semi_supervised_rows(
    bank: FeatureBank,
    layers: Sequence[str] | None = None,
    *,
    labels_per_class: int,
    task: str = "label",
    skip_unlabelled: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Return rows as `probe_rows` does, of linear heads that learn from few labels of each class, and from the rest of
    train without theirs; for features that the bank has augmented clips of. Validation and test have all their labels.

    A row has also labels_per_class, labelled, others (clips), labels_alone (the score of the same head without the
    others), gain and gain_ci, the difference. Raises VidgenError for a bank without augmented clips.

    Args:
        bank: the features, and the labels.
        layers, task, progress: as in `probe_rows`.
        labels_per_class: so many labels of each class are used.
        skip_unlabelled: learns, without labels, from clips that have none too.
        seed: of the labels that are used, and of a split that is drawn.
    """
    if labels_per_class < 1:
        raise VidgenError(f"{labels_per_class} labels of a class teach nothing; give 1 or more")
    labels = task_of(bank, seed, name=task, target_type="class", skip_unlabelled=skip_unlabelled)
    keys = [
        key
        for key in chosen_keys(bank, layers)
        if {twin_of(key, prefix) for prefix in (WEAK, STRONG)} <= set(bank.keys)
    ]
    names = {*keys, *(parse_key(key)[0] for key in keys)}
    lacking = [repr(layer) for layer in layers or () if layer not in names]
    if lacking or not keys:
        of = lacking[0] if lacking else "its clips"
        raise VidgenError(f"{bank.folder} has no views of {of} to learn from; extract with --views")
    extra = unlabelled_rows(bank, labels)
    labelled = len(draw_labelled(labels.y, labels.train, labels_per_class, seed))
    about = {"labels_per_class": labels_per_class, "labelled": labelled}
    about["others"] = len(labels.train) - labelled + len(extra)
    rows = []
    for key in counted(keys, progress):
        augmented = read_augmented(bank, key, np.concatenate([labels.train, extra]), labels.ids)
        both, alone = score_semi_supervised(augmented, labels, extra, labels_per_class, seed)
        gain = difference_interval(METRICS["class"], both.counts, alone.counts, labels.groups[labels.test], seed)
        gains = {"labels_alone": alone.test, "gain": both.test - alone.test, "gain_ci": list(gain)}
        rows.append(describe_score(bank, key, "fixmatch", labels, both, **about, **gains))
    return [*rows, majority_row(bank, "fixmatch", labels, seed, **about)]
