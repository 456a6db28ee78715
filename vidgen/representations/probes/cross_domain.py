"""Cross-domain probes: learned on one bank, reported on another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from vidgen.errors import VidgenError
from vidgen.representations.bank import BankRow, shorten
from vidgen.representations.probes.rows import probe_rows
from vidgen.representations.probes.task import TEST_NAMES, task_of

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank

MUST_AGREE = ("model_hash", "preprocessing", "preprocessing_hash", "pool", "prompt")


class Domains:
    """Two banks as one, for probes: what the first has to learn from and to choose on, and what the second has to
    report on. Their groups are different groups, whatever their names.

    Of the first that is its split "train", and for validation "val" or "validation" (its test split is left out;
    without splits all of it is learned from). Of the second it is its test split, or all of it where it has none.
    Raises VidgenError for banks that were not extracted alike: of another model, preprocessing, pool or prompt.
    """

    def __init__(self, learned: FeatureBank, reported: FeatureBank) -> None:
        check_alike(learned, reported)
        self.parts = (learned, reported)
        self.folder, self.meta = reported.folder, learned.meta
        self.keys = [key for key in learned.keys if reported.shapes.get(key) == learned.shapes[key]]
        if not self.keys:
            raise VidgenError(f"{learned.folder} and {reported.folder} have no features in common")
        self.rows = [
            rename(row, name, side)
            for bank, name, sides in (
                (learned, "learned", learned_sides(learned)), (reported, "reported", reported_sides(reported))
            )
            for row, side in zip(bank.rows, sides, strict=True)
        ]  # fmt: skip
        seen = {row.id for row in learned.rows} & {row.id for row in reported.rows}
        if seen and learned.meta.get("source") == reported.meta.get("source"):
            raise VidgenError(f"clip {min(seen)!r} is in both {learned.folder} and {reported.folder}; split it instead")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> list[str]:
        return [row.id for row in self.rows]

    @property
    def groups(self) -> np.ndarray:
        return np.array([row.group for row in self.rows], dtype=object)

    @property
    def columns(self) -> list[str]:
        first, second = self.parts
        return [name for name in first.columns if name in second.columns]

    def column(self, name: str) -> list[str | None]:
        return [label for bank in self.parts for label in bank.column(name)]

    def find_key(self, layer: str, noise_level: float | None = None) -> str:
        return self.parts[0].find_key(layer, noise_level)

    def X(self, layer: str, noise_level: float | None = None) -> Float[np.ndarray, "n c"]:
        return np.concatenate([bank.X(layer, noise_level) for bank in self.parts])

    def tokens(self, layer: str, noise_level: float | None = None) -> Float[np.ndarray, "n *axes c"]:
        return np.concatenate([bank.tokens(layer, noise_level) for bank in self.parts])


def check_alike(learned: FeatureBank, reported: FeatureBank) -> None:
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
    splits = [row.split for row in bank.rows]
    if not any(split is not None for split in splits):
        return ["train"] * len(splits)
    return ["train" if s == "train" else "val" if s in TEST_NAMES[1:] else None for s in splits]


def reported_sides(bank: FeatureBank) -> list[str | None]:
    splits = [row.split for row in bank.rows]
    name = next((name for name in TEST_NAMES if name in splits), None)
    return ["test" if name is None or split == name else None for split in splits]


def rename(row: BankRow, domain: str, side: str | None) -> BankRow:
    group = row.id if row.group is None else row.group
    return BankRow(id=f"{domain}/{row.id}", label=row.label, split=side, group=f"{domain}/{group}", labels=row.labels)


def cross_domain_rows(
    learned: FeatureBank,
    reported: FeatureBank,
    kind: str = "knn",
    layers: Sequence[str] | None = None,
    *,
    task: str = "label",
    target_type: str | None = None,
    skip_unlabelled: bool = False,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """As `probe_rows`, learned on one bank and reported on the other; with `domains`, their folders, and where the
    first has a test split `own_domain`, the score there of a probe that is learned from the same clips.

    Raises VidgenError for banks that do not fit together, and for classes to report on that are not learned.
    """
    both, asked = (
        Domains(learned, reported),
        {"target_type": target_type, "skip_unlabelled": skip_unlabelled, "seed": seed},
    )
    check_labels(both, task, **asked)
    rows = probe_rows(both, kind, layers, task=task, **asked)
    splits, own = {row.split for row in learned.rows}, {}
    if splits & set(TEST_NAMES) and "train" in splits:
        there = probe_rows(learned, kind, layers, task=task, **asked)
        own = {(row["layer"], row["noise_level"]): row["test"] for row in there}
    names = {"learned": str(learned.folder), "reported": str(reported.folder)}
    for row in rows:
        row["domains"] = names
        if (score := own.get((row["layer"], row["noise_level"]))) is not None:
            row["own_domain"] = score
    return rows


def check_labels(both: Domains, task: str, **asked: Any) -> None:
    """Raises VidgenError for a column that one bank lacks, and classes that only the second has."""
    for bank in both.parts:
        if task not in bank.columns:
            raise VidgenError(f"{bank.folder} has no labels {task!r}; it has {', '.join(bank.columns) or 'none'}")
    found = task_of(both, name=task, **asked)
    if found.target_type == "class" and (new := sorted(set(found.y[found.test]) - set(found.y[found.train]))):
        learned, reported = (bank.folder for bank in both.parts)
        raise VidgenError(f"{task} {new[0]!r} is in {reported}, but not in what is learned from in {learned}")
