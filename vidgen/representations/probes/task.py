"""What a probe is asked: labels of clips, and which clips are learned from, chosen on and reported on."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from vidgen.errors import VidgenError

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank

TARGET_TYPES = ("class", "multilabel", "regression")  # a label is a word, a set of words, or one or more numbers
TEST_NAMES = ("test", "val", "validation")  # the first of these that is there is reported on


@dataclass(frozen=True, kw_only=True)
class ProbeTask:
    """Labels y (n,) of words for target_type "class", else (n, k): 0 and 1 of `words` for "multilabel", numbers for
    "regression"; ids and groups (n,) of clips; rows to fit on, to choose on (None: cross-validation), and to report on;
    whether the split was `given` or drawn; and how many clips without a label were left out."""

    name: str = "label"
    target_type: str = "class"
    y: np.ndarray
    words: tuple[str, ...] = ()
    ids: Sequence[str]
    groups: np.ndarray
    train: Int[np.ndarray, " k"]
    validation: Int[np.ndarray, " v"] | None
    test: Int[np.ndarray, " m"]
    given: bool = True
    unlabelled: int = 0

    @property
    def classes(self) -> int | None:
        """How many words there are to choose from; None for numbers."""
        if self.target_type == "regression":
            return None
        return len(self.words) or len(set(self.y[self.train]))


def task_of(
    bank: FeatureBank,
    seed: int = 0,
    *,
    name: str = "label",
    target_type: str | None = None,
    skip_unlabelled: bool = False,
) -> ProbeTask:
    """The task that a bank's column of labels, its splits and its groups define: see `make_task`, `read_column`.

    Raises VidgenError where they define none.
    """
    if name not in bank.columns:
        have = ", ".join(bank.columns)
        raise VidgenError(
            f"{bank.folder} has no labels {name!r}; it has {have}"
            if have
            else f"{bank.folder} has no labels; extract from a manifest with a column of them, or from class folders"
        )
    values, found = read_column(bank.column(name), name, target_type)
    return make_task(
        values, [row.split for row in bank.rows], bank.groups, bank.ids, name=name, target_type=found, seed=seed,
        skip_unlabelled=skip_unlabelled,
    )  # fmt: skip


def read_column(
    cells: Sequence[str | None], name: str = "label", target_type: str | None = None
) -> tuple[list[Any], str]:
    """Values and target_type of a column of text. A JSON list of words, or of numbers, is one; other cells are numbers if all
    are and one at least has a fraction (whole numbers may as well be names of classes), and else words.

    target_type: takes them as that. Raises VidgenError for cells that are not.
    """
    read = [None if cell is None else read_cell(cell) for cell in cells]
    there = [value for value in read if value is not None]
    if target_type is None:
        if there and all(is_words(value) for value in there):
            target_type = "multilabel"
        elif there and all(is_numbers(value) for value in there) and not all(isinstance(v, int) for v in there):
            target_type = "regression"
        else:
            target_type = "class"
    fits = {"class": lambda v: True, "multilabel": is_words, "regression": is_numbers}[target_type]
    for cell, value in zip(cells, read, strict=True):
        if value is not None and not fits(value):
            raise VidgenError(
                f"label {name!r} is {cell!r} for one clip, which is no {target_type}; choose another target_type"
            )
    return (list(cells) if target_type == "class" else read), target_type


def read_cell(cell: str) -> Any:
    try:
        return json.loads(cell)
    except ValueError:
        return cell


def is_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def is_numbers(value: Any) -> bool:
    parts = value if isinstance(value, list) else [value]
    return bool(parts) and all(
        isinstance(part, int | float) and not isinstance(part, bool) and np.isfinite(part) for part in parts
    )


def make_task(
    labels: Sequence[Any],
    split: Sequence[str | None] | None = None,
    groups: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    *,
    name: str = "label",
    target_type: str = "class",
    seed: int = 0,
    skip_unlabelled: bool = False,
) -> ProbeTask:
    """Checks labels (words, lists of words, or numbers, by `target_type`; None for none), splits and groups; None for groups
    makes every clip its own.

    "train" is fitted on. Reported is "test", or else "val" or "validation"; where there are both, choices are made on
    the latter, and otherwise by cross-validation over the groups of "train". Rows of other splits are left out, and
    with `skip_unlabelled` rows without a label. Where no row has a split, a quarter of the groups, drawn by `seed`,
    becomes "test".
    Raises VidgenError for labels missing, one class only, no split to report on, or a group on both sides.
    """
    ids = [str(i) for i in (range(len(labels)) if ids is None else ids)]
    groups = np.asarray(ids if groups is None else groups, dtype=object)
    missing = np.array([label is None for label in labels])
    given = split is not None and any(side is not None for side in split)
    kept = ~missing if skip_unlabelled else np.full(len(missing), True)
    if not kept.any():
        raise VidgenError(f"no clip has a label {name!r}; a probe needs them")
    side = np.full(len(labels), None, dtype=object)
    side[kept] = np.asarray(split, dtype=object)[kept] if given else draw_split(labels, groups, kept, target_type, seed)
    names = [part for part in TEST_NAMES if (side == part).any()][:2]
    if not names or not (side == "train").any():
        there = ", ".join(sorted({str(part) for part in side if part is not None})) or "none"
        raise VidgenError(f"a probe needs a split 'train' and one of {', '.join(TEST_NAMES)}; there is {there}")
    parts = {part: np.flatnonzero(side == part) for part in ("train", *names)}
    check_parts(parts, missing, groups, ids)
    y, words = encode(labels, target_type, parts["train"], name)
    validation = parts[names[1]] if len(names) == 2 else None
    if validation is None and len(set(groups[parts["train"]])) < 2:
        raise VidgenError(f"only one group in 'train' ({groups[parts['train']][0]!r}); choosing needs two or more")
    return ProbeTask(
        name=name, target_type=target_type, y=y, words=words, ids=ids, groups=groups, train=parts["train"], validation=validation,
        test=parts[names[0]], given=given, unlabelled=int((~kept).sum()),
    )  # fmt: skip


def draw_split(labels: Sequence[Any], groups: np.ndarray, kept: np.ndarray, target_type: str, seed: int) -> np.ndarray:
    """ "train" or "test" of every clip that is `kept`: a quarter of the groups for test, classes in proportion."""
    from sklearn.model_selection import StratifiedGroupKFold

    rows = np.flatnonzero(kept)
    # numbers and sets of words have no few classes to keep in proportion
    y = np.array([str(labels[row]) if target_type == "class" else "" for row in rows])
    count, most = len(set(groups[rows])), max(Counter(y).values())
    if count < 3 or most < 2:
        raise VidgenError(f"{count} groups, {most} clips of a class at most: too few to split for a probe")
    folds = StratifiedGroupKFold(min(4, count, most), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer clips than folds is no harm here
        _, test = next(folds.split(y, y, groups[rows].astype(str)))
    split = np.full(len(rows), "train", dtype=object)
    split[test] = "test"
    return split


def check_parts(parts: dict[str, np.ndarray], missing: np.ndarray, groups: np.ndarray, ids: Sequence[str]) -> None:
    """Raises VidgenError for labels missing, or a group in two parts."""
    sides: dict[str, str] = {}
    for name, rows in parts.items():
        for row in rows:
            if missing[row]:
                raise VidgenError(
                    f"clip {ids[row]!r} has no label; give it one, or leave such clips out (--skip-unlabelled)"
                )
            if (other := sides.setdefault(groups[row], name)) != name:
                raise VidgenError(f"group {groups[row]!r} is in both {other!r} and {name!r}; keep it on one side")


def encode(labels: Sequence[Any], target_type: str, train: np.ndarray, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """y as `ProbeTask` has it, and the words of a "multilabel" one. Raises VidgenError where `train` teaches nothing,
    or numbers are not as many for every clip."""
    if target_type == "class":
        y = np.asarray(labels, dtype=object)
        if len(classes := set(y[train])) < 2:
            raise VidgenError(f"only one class in 'train' ({classes.pop()!r}); a probe needs two")
        return y, ()
    if target_type == "multilabel":
        words = tuple(sorted({word for label in labels for word in label or ()}))
        y = np.array([[word in (label or ()) for word in words] for label in labels], dtype=np.int64)
        if (y[train] == y[train][0]).all():
            raise VidgenError(f"every clip of 'train' has the same {name!r}; a probe needs them to differ")
        return y.reshape(len(labels), len(words)), words
    rows = [None if label is None else np.atleast_1d(np.asarray(label, np.float64)) for label in labels]
    if len(widths := {len(row) for row in rows if row is not None}) > 1:
        raise VidgenError(f"label {name!r} has {' or '.join(map(str, sorted(widths)))} numbers; it needs one count")
    y = np.stack([np.zeros(max(widths)) if row is None else row for row in rows])
    if (y[train] == y[train][0]).all():
        raise VidgenError(f"every clip of 'train' has the same {name!r}; a probe needs them to differ")
    return y, ()
