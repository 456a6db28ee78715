"""How `vidgen probe` learns: from all of train, from a few clips, by training the model too, or for another bank."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.options import parse_numbers

ShotsOption = Annotated[str | None, typer.Option(help="Few-shot episodes of so many clips a class, as 1,5.")]
WaysOption = Annotated[int | None, typer.Option(min=2, help="Classes of an episode; default: all, 5 at most.")]
EpisodesOption = Annotated[int, typer.Option(min=1, help="How many episodes.")]
LabelsOption = Annotated[
    int | None, typer.Option(min=1, help="Semi-supervised: labels of so many clips a class, and views of the rest.")
]
TestBankOption = Annotated[
    Path | None, typer.Option(metavar="BANK", help="Cross-domain: learn on the one bank, report on this one.")
]
FineTuneOption = Annotated[
    str | None, typer.Option(metavar="MODEL", help="Train the bank's model too, up to the one tap of --taps.")
]


@dataclass(frozen=True, kw_only=True)
class Regime:
    """The options of the command line that say how is learned; at most one of shots, labels_per_class, test_bank and
    fine_tune, which VidgenError says."""

    shots: str | None = None
    labels_per_class: int | None = None
    test_bank: Path | None = None
    fine_tune: str | None = None
    ways: int | None = None
    episodes: int = 200

    def __post_init__(self) -> None:
        if len(self.named) > 1:
            raise VidgenError(f"{' and '.join(self.named)} are different ways to learn; choose one")
        if self.ways is not None and self.shots is None:
            raise VidgenError("--ways is of few-shot episodes; give --shots too")

    @property
    def named(self) -> list[str]:
        """The options that were given; without one, learning is from all of train."""
        return [f"--{f.name.replace('_', '-')}" for f in fields(self)[:4] if getattr(self, f.name) is not None]


def find_tables(
    folder: Path, kind: str, layers: list[str] | None, regime: Regime, asked: dict[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    """Rows by the title of their table. `asked`: task, goal, skip_unlabelled, seed."""
    from vidgen.representations.bank import FeatureBank
    from vidgen.representations.probes import probe_rows
    from vidgen.representations.probes.cross_domain import cross_domain_rows

    bank = FeatureBank.load(folder)
    if regime.fine_tune is not None:
        rows = tune(bank, layers, regime.fine_tune, asked)
        kinds = dict.fromkeys(row["kind"] for row in rows)
        return {f"{name} on {folder}": [row for row in rows if row["kind"] == name] for name in kinds}
    if regime.shots is not None:
        return few_shot_tables(bank, folder, kind, layers, regime, asked)
    if regime.labels_per_class is not None:
        return semi_supervised_tables(bank, folder, layers, regime.labels_per_class, asked)
    if regime.test_bank is not None:
        rows = cross_domain_rows(bank, FeatureBank.load(regime.test_bank), kind, layers, **asked)
        return {f"{kind} on {folder}, reported on {regime.test_bank}": rows}
    return {f"{kind} on {folder}": probe_rows(bank, kind, layers, **asked)}


def few_shot_tables(
    bank: Any, folder: Path, kind: str, layers: list[str] | None, regime: Regime, asked: dict[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    from vidgen.representations.probes.few_shot import Setting, few_shot_rows

    counts, asked, tables = parse_numbers(regime.shots, "--shots"), of_classes(asked), {}
    if not counts or any(count < 1 or count != int(count) for count in counts):
        raise VidgenError(f"--shots {regime.shots!r} is no list of whole numbers above 0; give some such as 1,5")
    for shots in map(int, counts):
        setting = Setting(ways=regime.ways, shots=shots, episodes=regime.episodes)
        rows = few_shot_rows(bank, kind, layers, setting=setting, **asked)
        tables[f"{kind} on {folder}: {rows[0]['ways']}-way {shots}-shot, {regime.episodes} episodes"] = rows
    return tables


def semi_supervised_tables(
    bank: Any, folder: Path, layers: list[str] | None, each: int, asked: dict[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    from vidgen.representations.probes.semi_supervised import semi_supervised_rows

    rows = semi_supervised_rows(bank, layers, labels_per_class=each, **of_classes(asked))
    about = f"{rows[0]['labelled']} labelled clips, {rows[0]['others']} others"
    return {f"semi-supervised on {folder}: {each} labels a class, {about}": rows}


def tune(bank: Any, layers: list[str] | None, name: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
    from vidgen.representations.probes.fine_tuning import fine_tune_rows
    from vidgen.scripts.extract import open_model

    if layers is None or len(layers) != 1:
        raise VidgenError("--fine-tune is up to one tap; name it, as --taps dit.blocks.4@t=0.10")
    key = bank.find_key(layers[0])
    return fine_tune_rows(bank, open_model(name, "cpu", "float32"), key, **asked)


def of_classes(asked: dict[str, Any]) -> dict[str, Any]:
    """The same without the goal, which these ways to learn do not leave open."""
    if asked["target_type"] not in (None, "class"):
        raise VidgenError(f"--goal {asked['target_type']} cannot be learned so: few-shot and few labels are of classes")
    return {name: value for name, value in asked.items() if name != "target_type"}
