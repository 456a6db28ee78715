"""`vidgen probe`: how well the features of a bank predict its labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.option_sets import with_option_sets
from vidgen.scripts.cli.options import BankArgument, BankLayersOption, JsonOption, SeedOption, parse_names
from vidgen.scripts.cli.outputs import check_folder_output
from vidgen.scripts.cli.printing import (
    format_interval,
    format_level,
    note_one_group,
    pluralize,
    print_json,
    print_table,
    progress,
)
from vidgen.scripts.cli.probe_protocols import ProbeOptions, ProtocolOptions, probe_tables

# Of some rows only: the head of their column, and how they are written.
EXTRA = {
    "temporal_gain": ("temporal gain", "{:+.3f}"),
    "difference": ("difference", "{:+.3f}"),
    "labels_alone": ("labels alone", "{:.3f}"),
    "own_domain": ("own domain", "{:.3f}"),
}


@with_option_sets
def probe(
    *,
    bank: BankArgument,
    options: ProbeOptions,
    layers: BankLayersOption = None,
    best: Annotated[
        bool, typer.Option("--best", help="Of every family of layers, show only the best on validation.")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="FEATURES",
            help="Also how far each is above these, with an interval on the same clips: a layer, or a family, as dit "
            "or raw_pixels, of which the best on validation counts.",
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write DIR/index.html, a page with the clips.")
    ] = None,
    protocol: ProtocolOptions,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Predict labels from features, and score it on the bank's test split with a 95% interval and baselines beside it.

    The manifest that was extracted needs columns of labels; without a column `split` a quarter of the groups is held
    out. By default the probe learns from all clips of train; --shots, --labels-per-class, --fine-tune, --test-bank and
    --leave-groups-out choose another protocol.
    Example: vidgen probe bank --kind linear --task colour --best
    """
    protocol.check()
    if against is not None and protocol.chosen not in ([], ["--leave-groups-out"]):
        raise VidgenError(f"--against is of probes that learn from all of train; leave {protocol.chosen[0]} out")
    if report is not None:
        if protocol.chosen:
            raise VidgenError(f"--report is of probes that learn from all of train; leave {protocol.chosen[0]} out")
        check_folder_output(report)
    names = parse_names(layers) if layers else None
    with progress(f"{options.kind} on {bank}", None) as advance:
        tables = probe_tables(bank, names, options, protocol, against, seed, advance)
    page = None if report is None else write_page(bank, next(iter(tables.values())), options, seed, report)
    if best and protocol.fine_tune is None:
        from vidgen.representations.probes.sweep import best_rows

        tables = {title: best_rows(rows) for title, rows in tables.items()}
    if json:
        rows = [row for rows in tables.values() for row in rows]
        print_json({"rows": rows} | ({} if page is None else {"report": str(page)}))
        return
    for title, rows in tables.items():
        print_rows(title, rows)
    if page is not None:
        print(page)


def write_page(folder: Path, rows: list[dict[str, Any]], options: ProbeOptions, seed: int, report: Path) -> Path:
    """Write the page of a bank's rows into the folder `report`, and return its path."""
    from vidgen.representations.bank import FeatureBank
    from vidgen.representations.probes import task_of
    from vidgen.scripts.pages.probe_page import fit_best_probe, write_probe_page

    bank = FeatureBank.load(folder)
    labels = options.labels()
    task = task_of(bank, seed, name=labels.pop("task"), **labels)
    return write_probe_page(fit_best_probe(bank, rows, task, seed), report)


def print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    """Print a table of probes, a line for each feature, and what it was learned from."""
    extra = {name: column for name, column in EXTRA.items() if any(name in row for row in rows)}
    heads = (f">{head}" for head, _ in extra.values())
    columns = ("features", ">noise", "choice", ">validation", ">test", ">95% interval", *heads, "")
    cells = []
    for row in rows:
        scores = (f"{row['validation']:.3f}", f"{row['test']:.3f}", format_interval(row["ci"]))
        others = [form.format(row[name]) + gap(row, name) if name in row else "" for name, (_, form) in extra.items()]
        choice = describe_choice(row["choice"])
        cells.append(
            (
                row["layer"],
                format_level(row["noise_level"]),
                choice,
                *scores,
                *others,
                "baseline" if row["baseline"] else "",
            )
        )
    print_table(title, columns, cells)
    note_one_group(rows)
    if rows:
        first = rows[0]
        clips = f"{pluralize(first['train_clips'], 'clip')} to learn from, {first['test_clips']} to report on"
        classes = "" if first["classes"] is None else f"{first['classes']} classes, "
        left = f", {first['unlabelled']} without a label" if first["unlabelled"] else ""
        print(f"{first['metric']} of {first['task']}: {classes}{clips}{left}")


def gap(row: dict[str, Any], name: str) -> str:
    """Return the interval of a difference, where there is one, after a space."""
    return f" {format_interval(row[f'{name}_ci'])}" if row.get(f"{name}_ci") else ""


def describe_choice(choice: Any) -> str:
    """Return the settings that a probe chose on validation as a cell of a table."""
    if choice is None:
        return ""
    parts = choice if isinstance(choice, list | tuple) else [choice]
    is_standardized = {True: "standardized", False: "raw"}  # the one setting that is yes or no
    return ", ".join(is_standardized[part] if isinstance(part, bool) else f"{part:g}" for part in parts)


if __name__ == "__main__":
    run_verb("probe", probe)
