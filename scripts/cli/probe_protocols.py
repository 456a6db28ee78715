"""How `vidgen probe` learns: from all of train, from few clips, by training the model too, or for another bank."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.options import parse_counts

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank

Kind = Literal["knn", "weighted_knn", "linear", "ridge", "centroid", "mlp", "attentive", "lstm"]
TargetType = Literal["class", "multilabel", "regression"]
Tables = dict[str, list[dict[str, Any]]]  # rows by the title of their table
SkipOption = Annotated[
    bool, typer.Option("--skip-unlabeled", help="Leave out clips without such a label, instead of an error.")
]


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """Which probe is fitted, and to which labels."""

    kind: Annotated[
        Kind, typer.Option(help="The probe that is fitted to the features; its settings are chosen on validation.")
    ] = "knn"
    task: Annotated[str, typer.Option(help="The labels to predict: the name of a column of the manifest.")] = "label"
    target_type: Annotated[
        TargetType | None, typer.Option(help="What the labels are. Default: as they look, whole numbers being classes.")
    ] = None
    skip_unlabeled: SkipOption = False

    def labels(self) -> dict[str, Any]:
        """Return the options of the labels as arguments of the probes."""
        return {"task": self.task, "target_type": self.target_type, "skip_unlabelled": self.skip_unlabeled}


@dataclass(frozen=True, kw_only=True)
class ProtocolOptions:
    """How the probe learns: at most one of them; or shots and test_bank."""

    shots: Annotated[
        str | None, typer.Option(help="Few-shot: learn from so many clips of each class, as 1,5, in many episodes.")
    ] = None
    ways: Annotated[
        int | None, typer.Option(min=2, max=10**6, help="Classes of a few-shot episode. Default: all, but 5 at most.")
    ] = None
    episodes: Annotated[int, typer.Option(min=1, max=10**6, help="How many few-shot episodes to take the mean of.")] = (
        200
    )
    labels_per_class: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10**6,
            metavar="N",
            help="Use only N labels per class; the remaining train clips are used without labels.",
        ),
    ] = None
    test_bank: Annotated[
        Path | None, typer.Option(metavar="OTHER", help="Learn on the bank argument, report the scores on OTHER.")
    ] = None
    fine_tune: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Fine-tuning: also train the bank's model, up to the one layer of --layers."
        ),
    ] = None

    leave_groups_out: Annotated[
        bool,
        typer.Option(
            "--leave-groups-out",
            help="Report on all clips, those of each group by a probe of the other groups; splits do not count.",
        ),
    ] = False

    @property
    def chosen(self) -> list[str]:
        """The options that choose a protocol; without one, learning is from all of train."""
        names = ("shots", "labels_per_class", "test_bank", "fine_tune", "leave_groups_out")
        return [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) not in (None, False)]

    def check(self) -> None:
        """Raise VidgenError for options that exclude each other."""
        if len(self.chosen) > 1 and self.chosen != ["--shots", "--test-bank"]:  # episodes may span two banks
            raise VidgenError(f"{' and '.join(self.chosen)} are different ways to learn; choose one")
        if self.ways is not None and self.shots is None:
            raise VidgenError("--ways is of few-shot episodes; give --shots too")


def probe_tables(
    folder: Path,
    layers: list[str] | None,
    probe: ProbeOptions,
    protocol: ProtocolOptions,
    against: str | None,
    seed: int,
    progress: Callable[[int, int], None],
) -> Tables:
    """Return the tables of a probe on the bank in `folder`. Raises VidgenError where the bank does not serve for it.

    Args:
        folder: the bank.
        layers: what is probed; None is all of it.
        probe: the kind of probe, and the labels.
        protocol: how it learns.
        against: what each is held against, of probes that learn from all of train.
        seed: of all random numbers.
        progress: called with the number of features that are done, and of all.
    """
    from vidgen.representations.bank import FeatureBank
    from vidgen.representations.probes import probe_rows
    from vidgen.representations.probes.cross_domain import cross_domain_rows

    bank = FeatureBank.load(folder)
    settings = probe.labels() | {"seed": seed}
    if protocol.fine_tune is not None:
        rows = fine_tuning_rows(bank, layers, protocol.fine_tune, settings)
        kinds = dict.fromkeys(row["kind"] for row in rows)
        return {f"{name} on {folder}": [row for row in rows if row["kind"] == name] for name in kinds}
    settings["progress"] = progress
    if protocol.shots is not None:
        return few_shot_tables(bank, layers, probe.kind, protocol, class_settings(settings))
    if protocol.labels_per_class is not None:
        return semi_supervised_tables(bank, layers, protocol.labels_per_class, class_settings(settings))
    if protocol.test_bank is not None:
        rows = cross_domain_rows(bank, FeatureBank.load(protocol.test_bank), probe.kind, layers, **settings)
        return {f"{probe.kind} on {folder}, reported on {protocol.test_bank}": rows}
    settings |= {"against": against, "leave_groups_out": protocol.leave_groups_out}
    return {f"{probe.kind} on {folder}": probe_rows(bank, probe.kind, layers, **settings)}


def few_shot_tables(
    bank: FeatureBank, layers: list[str] | None, kind: str, protocol: ProtocolOptions, settings: dict[str, Any]
) -> Tables:
    """Return a table for each number of shots."""
    from vidgen.representations.bank import FeatureBank
    from vidgen.representations.probes.cross_domain import check_cross_domain_few_shot, cross_domain_rows
    from vidgen.representations.probes.few_shot import Setting, check_few_shot, few_shot_rows

    rows_of, check = partial(few_shot_rows, bank), partial(check_few_shot, bank)
    source = str(bank.folder)
    if protocol.test_bank is not None:
        other = FeatureBank.load(protocol.test_bank)
        rows_of, check = partial(cross_domain_rows, bank, other), partial(check_cross_domain_few_shot, bank, other)
        source += f", reported on {protocol.test_bank}"
    every = [
        Setting(ways=protocol.ways, shots=shots, episodes=protocol.episodes)
        for shots in parse_counts(protocol.shots, "--shots")
    ]
    # all of them first: the last may need more clips than there are, and the others take minutes
    check(kind, every, **{name: value for name, value in settings.items() if name != "progress"})
    tables = {}
    for setting in every:
        rows = rows_of(kind, layers, setting=setting, **settings)
        title = f"{kind} on {source}: {rows[0]['ways']}-way {setting.shots}-shot, {protocol.episodes} episodes"
        tables[title] = rows
    return tables


def semi_supervised_tables(
    bank: FeatureBank, layers: list[str] | None, labels_per_class: int, settings: dict[str, Any]
) -> Tables:
    """Return the table of learning from few labels."""
    from vidgen.representations.probes.semi_supervised import semi_supervised_rows

    rows = semi_supervised_rows(bank, layers, labels_per_class=labels_per_class, **settings)
    clips = f"{rows[0]['labelled']} labelled clips, {rows[0]['others']} others"
    return {f"semi-supervised on {bank.folder}: {labels_per_class} labels a class, {clips}": rows}


def fine_tuning_rows(
    bank: FeatureBank, layers: list[str] | None, model: str, settings: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the rows of training the bank's model up to a layer."""
    from vidgen.representations.probes.fine_tuning import fine_tune_rows
    from vidgen.scripts.extract import open_model

    if layers is None or len(layers) != 1:
        raise VidgenError("--fine-tune is up to one layer; name it, as --layers dit.blocks.4@t=0.10")
    key = bank.find_key(layers[0])
    return fine_tune_rows(bank, open_model(model, "cpu", "float32"), key, **settings)


def class_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings without the target type. Raises VidgenError where it is another one than classes."""
    target_type = settings["target_type"]
    if target_type not in (None, "class"):
        raise VidgenError(f"--target-type {target_type} cannot be learned so: few-shot and few labels are of classes")
    return {name: value for name, value in settings.items() if name != "target_type"}
