"""Tasks of probes: labels of clips, and which clips are fitted on, chosen on and reported on."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from vidgen.deprecation import renamed_fields, renamed_keywords
from vidgen.errors import VidgenError
from vidgen.representations.bank_files import NO_LABELS

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank

TARGET_TYPES = ("class", "multilabel", "regression")  # a label is a word, a set of words, or one or more numbers
TEST_NAMES = ("test", "val", "validation")  # the first of these that is there is reported on


@renamed_fields(given="has_split", goal="target_type")
@dataclass(frozen=True, kw_only=True)
class ProbeTask:
    """The labels of n clips and their split.

    y is (n,) words for target_type "class", else (n, k): 0 and 1 of `words` for "multilabel", numbers for
    "regression". ids and groups (n,) are of the clips. train, validation and test are row numbers to fit on, to choose
    on (None: by cross-validation) and to report on. `has_split` says whether the clips came with a split, or it was
    drawn; `unlabelled` how many clips without a label were left out.
    """

    name: str = "label"
    target_type: str = "class"
    y: np.ndarray
    words: tuple[str, ...] = ()
    ids: Sequence[str]
    groups: np.ndarray
    train: Int[np.ndarray, " k"]
    validation: Int[np.ndarray, " v"] | None
    test: Int[np.ndarray, " m"]
    has_split: bool = True
    unlabelled: int = 0

    @property
    def classes(self) -> int | None:
        """How many classes or words there are to choose from; None for numbers."""
        if self.target_type == "regression":
            return None
        return len(self.words) or len(set(self.y[self.train]))

    @property
    def scored(self) -> Int[np.ndarray, " r"]:
        """Row numbers of the clips that choices are made or scores reported on."""
        return self.test if self.validation is None else np.concatenate([self.test, self.validation])


@renamed_keywords(goal="target_type")
def task_of(
    bank: FeatureBank,
    seed: int = 0,
    *,
    name: str = "label",
    target_type: str | None = None,
    skip_unlabelled: bool = False,
) -> ProbeTask:
    """Return the task of a bank's column of labels, its splits and its groups: see `make_task` and `read_column`.

    Raises VidgenError where they define none.
    """
    if not bank.columns:
        raise VidgenError(
            f"{bank.folder} has no labels; extract from a manifest with a column of them, or from class folders"
        )
    check_column(bank, name)
    values, target_type = read_column(bank.column(name), name, target_type)
    return make_task(
        values, [row.split for row in bank.rows], bank.groups, bank.ids, name=name, target_type=target_type, seed=seed,
        skip_unlabelled=skip_unlabelled,
    )  # fmt: skip


def check_column(bank: FeatureBank, name: str) -> None:
    """Raise VidgenError for a bank that has no labels `name`."""
    if name in NO_LABELS and name not in bank.columns:
        meaning = "its split" if name == "split" else "the group of a clip, which stays on one side of a split"
        raise VidgenError(
            f"{bank.folder}: the column {name!r} was taken for {meaning}, and not as labels; to probe it, give the "
            f"manifest a copy of it under another name. Labels are {', '.join(bank.columns) or 'none'}"
        )
    if name not in bank.columns:
        others = f"{', '.join(bank.columns)}: name one by --task" if bank.columns else "none"
        raise VidgenError(f"{bank.folder} has no labels {name!r}; it has {others}")


def read_column(
    cells: Sequence[str | None], name: str = "label", target_type: str | None = None
) -> tuple[list[Any], str]:
    """Return the values and the target type of a column of text.

    JSON lists of words are "multilabel", JSON lists of numbers "regression". Other cells are numbers if all are and
    one at least has a fraction (whole numbers may as well be names of classes), and else classes.

    target_type: takes them as that. Raises VidgenError for cells that are not.
    """
    values = [None if cell is None else read_cell(cell) for cell in cells]
    present = [value for value in values if value is not None]
    if target_type is None:
        if present and all(is_words(value) for value in present):
            target_type = "multilabel"
        elif present and all(is_numbers(value) for value in present) and not all(isinstance(v, int) for v in present):
            target_type = "regression"
        else:
            target_type = "class"
    fits = {"class": lambda v: True, "multilabel": is_words, "regression": is_numbers}[target_type]
    for cell, value in zip(cells, values, strict=True):
        if value is not None and not fits(value):
            raise VidgenError(
                f"label {name!r} is {cell!r} for one clip, which is no {target_type}; choose another target_type"
            )
    return (list(cells) if target_type == "class" else values), target_type


def read_cell(cell: str) -> Any:
    """Return what a cell is as JSON, or its text where it is none."""
    try:
        return json.loads(cell)
    except ValueError:
        return cell


def is_words(value: Any) -> bool:
    """Return whether a value is a list of words."""
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def is_numbers(value: Any) -> bool:
    """Return whether a value is a finite number, or a list of some."""
    parts = value if isinstance(value, list) else [value]
    return bool(parts) and all(
        isinstance(part, int | float) and not isinstance(part, bool) and np.isfinite(part) for part in parts
    )


@renamed_keywords(goal="target_type")
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
    """Return the task of n clips, checked.

    "train" is fitted on. Reported is "test", or else "val" or "validation"; where there are both, choices are made on
    the latter, and otherwise by cross-validation over the groups of "train". Rows of other splits are left out. Where
    no row has a split, a quarter of the groups, drawn by `seed`, becomes "test".
    Raises VidgenError for labels missing, one class only, no split to report on, or a group on both sides.

    Args:
        labels: by `target_type` words, lists of words, or numbers; None for a clip without one.
        split: the part that each clip belongs to.
        groups: clips of a group stay on one side of a split; None makes every clip its own group.
        ids: names of the clips; None numbers them.
        name: the label's name, for messages.
        target_type: one of `TARGET_TYPES`.
        seed: of the split that is drawn.
        skip_unlabelled: leaves out rows without a label.
    """
    ids = [str(i) for i in (range(len(labels)) if ids is None else ids)]
    groups = np.asarray(ids if groups is None else groups, dtype=object)
    missing = np.array([label is None for label in labels])
    has_split = split is not None and any(side is not None for side in split)
    used = ~missing if skip_unlabelled else np.full(len(missing), True)
    if not used.any():
        raise VidgenError(f"no clip has a label {name!r}; a probe needs them")
    side = np.full(len(labels), None, dtype=object)
    if has_split:
        side[used] = np.asarray(split, dtype=object)[used]
    else:
        side[used] = draw_split(labels, groups, used, target_type, seed)
    names = [part for part in TEST_NAMES if (side == part).any()][:2]
    if not names or not (side == "train").any():
        present = ", ".join(sorted({str(part) for part in side if part is not None})) or "none"
        raise VidgenError(
            f"a probe needs a split 'train' and one of {', '.join(TEST_NAMES)}; there is {present}. Report on another "
            "bank (--test-bank), or drop the column of splits, and one is drawn by group"
        )
    parts = {part: np.flatnonzero(side == part) for part in ("train", *names)}
    check_parts(parts, missing, groups, ids)
    y, words = encode(labels, target_type, parts["train"], name)
    validation = parts[names[1]] if len(names) == 2 else None
    if validation is None and len(set(groups[parts["train"]])) < 2:
        raise VidgenError(f"only one group in 'train' ({groups[parts['train']][0]!r}); choosing needs two or more")
    return ProbeTask(
        name=name, target_type=target_type, y=y, words=words, ids=ids, groups=groups, train=parts["train"],
        validation=validation, test=parts[names[0]], has_split=has_split, unlabelled=int((~used).sum()),
    )  # fmt: skip


def draw_sides(bank: FeatureBank) -> list[str | None]:
    """Return the split that probes draw for the labels of a bank without one; None for a clip without a label."""
    labels, target_type = read_column(bank.column("label"))
    used = np.array([label is not None for label in labels])
    sides = np.full(len(used), None, dtype=object)
    sides[used] = draw_split(labels, bank.groups, used, target_type, seed=0)
    return sides.tolist()


def draw_split(labels: Sequence[Any], groups: np.ndarray, used: np.ndarray, target_type: str, seed: int) -> np.ndarray:
    """Return "train" or "test" for every clip of `used`: a quarter of the groups for test, classes in proportion."""
    from sklearn.model_selection import StratifiedGroupKFold

    rows = np.flatnonzero(used)
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
    """Raise VidgenError for labels missing, or a group in two parts."""
    sides: dict[str, str] = {}
    for name, rows in parts.items():
        for row in rows:
            if missing[row]:
                raise VidgenError(
                    f"clip {ids[row]!r} has no label; give it one, or leave such clips out (--skip-unlabeled)"
                )
            if (other := sides.setdefault(groups[row], name)) != name:
                raise VidgenError(f"group {groups[row]!r} is in both {other!r} and {name!r}; keep it on one side")


def encode(labels: Sequence[Any], target_type: str, train: np.ndarray, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return y as `ProbeTask` has it, and the words of a "multilabel" one.

    Raises VidgenError where `train` teaches nothing, or clips have different counts of numbers.
    """
    if target_type == "class":
        y = np.asarray(labels, dtype=object)
        if len(classes := set(y[train])) < 2:
            raise VidgenError(f"only one class in 'train' ({classes.pop()!r}); a probe needs two")
        return y, ()
    words: tuple[str, ...] = ()
    if target_type == "multilabel":
        words = tuple(sorted({word for label in labels for word in label or ()}))
        y = np.array([[word in (label or ()) for word in words] for label in labels], dtype=np.int64)
        y = y.reshape(len(labels), len(words))
    else:
        rows = [None if label is None else np.atleast_1d(np.asarray(label, np.float64)) for label in labels]
        if len(widths := {len(row) for row in rows if row is not None}) > 1:
            raise VidgenError(f"label {name!r} has {' or '.join(map(str, sorted(widths)))} numbers; it needs one count")
        y = np.stack([np.zeros(max(widths)) if row is None else row for row in rows])
    if (y[train] == y[train][0]).all():
        raise VidgenError(f"every clip of 'train' has the same {name!r}; a probe needs them to differ")
    return y, words
