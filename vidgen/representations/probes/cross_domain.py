"""Cross-domain probes: fitted on one bank, reported on another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from vidgen.deprecation import renamed_keywords
from vidgen.errors import VidgenError
from vidgen.representations.bank import BankRow, FeatureBank, shorten
from vidgen.representations.probes.few_shot import Setting, check_few_shot, few_shot_rows
from vidgen.representations.probes.rows import probe_rows
from vidgen.representations.probes.task import TEST_NAMES, check_column, task_of

MUST_AGREE = ("model_hash", "preprocessing", "preprocessing_hash", "pool", "prompt")


class Domains(FeatureBank):
    """Two banks as one, for probes: the first is fitted and chosen on, the second reported on. Their groups are
    different groups, whatever their names.

    Of the first the split "train" is fitted on and "val" or "validation" chosen on (its test split is left out; without
    splits all of it is fitted on). Of the second the test split is reported on, or all of it where it has none.
    Raises VidgenError for banks that were not extracted alike: of another model, preprocessing, pool or prompt.
    """

    def __init__(self, learned: FeatureBank, reported: FeatureBank) -> None:
        check_alike(learned, reported)
        sides = {"learned": (learned, learned_sides(learned)), "reported": (reported, reported_sides(reported))}
        rows = [
            [rename(row, name, side) for row, side in zip(bank.rows, parts, strict=True)]
            for name, (bank, parts) in sides.items()
        ]
        super().__init__(reported.folder, learned.meta, rows, [*learned.description, *reported.description])
        self.parts = (learned, reported)
        self.shapes = {key: shape for key, shape in learned.shapes.items() if reported.shapes.get(key) == shape}
        if not self.shapes:
            raise VidgenError(f"{learned.folder} and {reported.folder} have no features in common")
        shared = set(learned.ids) & set(reported.ids)
        if shared and learned.meta.get("source") == reported.meta.get("source"):
            raise VidgenError(
                f"clip {min(shared)!r} is in both {learned.folder} and {reported.folder}; split it instead"
            )

    @property
    def columns(self) -> list[str]:
        """Names of the labels that both banks have."""
        first, second = (bank.columns for bank in self.parts)
        return [name for name in first if name in second]

    def X(
        self, layer: str, noise_level: float | None = None, rows: Sequence[int] | None = None
    ) -> Float[np.ndarray, "n c"]:
        """Return features as `FeatureBank.X` does, of both banks one after the other."""
        X = np.concatenate([bank.X(layer, noise_level) for bank in self.parts])
        return X if rows is None else X[np.asarray(rows, dtype=np.int64)]


def check_alike(learned: FeatureBank, reported: FeatureBank) -> None:
    """Raise VidgenError for banks that were not extracted with one model and the same settings."""
    for name in MUST_AGREE:
        ours, theirs = learned.meta.get(name), reported.meta.get(name)
        if ours != theirs:
            if isinstance(ours, dict) and isinstance(theirs, dict):
                differ = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
                name, ours, theirs = f"{name} ({differ[0]})", ours.get(differ[0]), theirs.get(differ[0])
            raise VidgenError(
                f"{reported.folder} was not extracted as {learned.folder} was: its {name} is {shorten(theirs)}, not "
                f"{shorten(ours)}; extract both with one model and the same settings"
            )


def learned_sides(bank: FeatureBank) -> list[str | None]:
    """Return the part of each clip in a bank that is fitted and chosen on: "train", "val" or none."""
    splits = [row.split for row in bank.rows]
    if not any(split is not None for split in splits):
        return ["train"] * len(splits)
    return ["train" if s == "train" else "val" if s in TEST_NAMES[1:] else None for s in splits]


def reported_sides(bank: FeatureBank) -> list[str | None]:
    """Return the part of each clip in a bank that is reported on: "test" or none."""
    splits = [row.split for row in bank.rows]
    name = next((name for name in TEST_NAMES if name in splits), None)
    return ["test" if name is None or split == name else None for split in splits]


def rename(row: BankRow, domain: str, side: str | None) -> BankRow:
    """Return a row of one part, whose id and group belong to its domain alone."""
    group = row.id if row.group is None else row.group
    return replace(row, id=f"{domain}/{row.id}", split=side, group=f"{domain}/{group}")


@renamed_keywords(taps="layers", goal="target_type")
def cross_domain_rows(
    learned: FeatureBank,
    reported: FeatureBank,
    kind: str = "knn",
    layers: Sequence[str] | None = None,
    *,
    setting: Setting | None = None,
    task: str = "label",
    target_type: str | None = None,
    skip_unlabelled: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Return rows as `probe_rows` does, fitted on one bank and reported on the other; with `domains`, their folders,
    and where the first has a test split `own_domain`, the score there of a probe that is fitted on the same clips.
    With a `setting` of episodes rows are as `few_shot_rows` has them: support of the one bank, queries of the other.

    Raises VidgenError for banks that do not fit together, and for classes to report on that are not fitted on.

    Args:
        learned: the bank to fit and choose on.
        reported: the bank to report on.
        setting: of few-shot episodes, which are of classes.
        kind, layers, task, target_type, skip_unlabelled, seed, progress: as in `probe_rows`.
    """
    both = Domains(learned, reported)
    options = {"skip_unlabelled": skip_unlabelled, "seed": seed}
    rows_of = partial(probe_rows, target_type=target_type, progress=progress)
    if setting is not None:
        target_type = "class"
        rows_of = partial(few_shot_rows, setting=setting, progress=progress)
    check_labels(both, task, target_type=target_type, **options)
    rows = rows_of(both, kind, layers, task=task, **options)
    own = {}
    if has_own_test(learned):
        own_rows = rows_of(learned, kind, layers, task=task, **options)
        own = {(row["layer"], row["noise_level"]): row["test"] for row in own_rows}
    names = {"learned": str(learned.folder), "reported": str(reported.folder)}
    for row in rows:
        row["domains"] = names
        if (score := own.get((row["layer"], row["noise_level"]))) is not None:
            row["own_domain"] = score
    return rows


def has_own_test(learned: FeatureBank) -> bool:
    """Return whether the bank that is learned from has clips of its own to report on."""
    splits = {row.split for row in learned.rows}
    return bool(splits & set(TEST_NAMES)) and "train" in splits


def check_cross_domain_few_shot(
    learned: FeatureBank, reported: FeatureBank, kind: str, settings: Sequence[Setting], **options: Any
) -> None:
    """Raise VidgenError where episodes of one of the settings cannot be drawn from one bank and the other; options as
    in `check_few_shot`."""
    both = Domains(learned, reported)
    check_labels(both, options["task"], **{name: value for name, value in options.items() if name != "task"})
    for bank in [both, learned] if has_own_test(learned) else [both]:
        check_few_shot(bank, kind, settings, **options)


def check_labels(both: Domains, task: str, **options: Any) -> None:
    """Raise VidgenError for a column that one bank lacks, and classes that only the second has."""
    for bank in both.parts:
        check_column(bank, task)
    labels = task_of(both, name=task, **options)
    if labels.target_type == "class" and (new := sorted(set(labels.y[labels.test]) - set(labels.y[labels.train]))):
        learned, reported = (bank.folder for bank in both.parts)
        raise VidgenError(f"{task} {new[0]!r} is in {reported}, but not in what is learned from in {learned}")
