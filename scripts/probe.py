"""`vidgen probe`: what the features of a bank say about its labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.options import JsonOption, SeedOption, parse_names
from vidgen.scripts.cli.outputs import check_output
from vidgen.scripts.cli.printing import print_json, print_table
from vidgen.scripts.cli.probe_protocols import (
    EpisodesOption,
    FineTuneOption,
    LabelsOption,
    Regime,
    ShotsOption,
    TestBankOption,
    WaysOption,
    find_tables,
)

Kind = Literal["knn", "linear", "ridge", "centroid", "mlp", "attentive", "lstm"]
Goal = Literal["class", "multilabel", "regression"]

# Of some rows only: the head of their column, and how they are written.
EXTRA = {
    "temporal_gain": ("temporal gain", "{:+.3f}"),
    "labels_alone": ("labels alone", "{:.3f}"),
    "own_domain": ("own domain", "{:.3f}"),
}

KindOption = Annotated[Kind, typer.Option(help="What is fitted; its settings are chosen on validation.")]
TaskOption = Annotated[str, typer.Option(help="Which labels: the name of a column of the manifest.")]
GoalOption = Annotated[
    Goal | None, typer.Option(help="What the labels are; default: as they look, whole numbers being classes.")
]
SkipOption = Annotated[bool, typer.Option("--skip-unlabelled", help="Leave clips without such a label out.")]


def probe(
    bank: Annotated[Path, typer.Argument(metavar="BANK", help="The folder that `vidgen extract` wrote.")],
    kind: KindOption = "knn",
    task: TaskOption = "label",
    target_type: GoalOption = None,
    skip_unlabelled: SkipOption = False,
    layers: Annotated[str | None, typer.Option(help="Only these, as tokenizer.latents,dit.blocks.3.")] = None,
    best: Annotated[bool, typer.Option("--best", help="Of every family of taps, only the best on validation.")] = False,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="DIR", help="Also write DIR/index.html, a page with clips.")
    ] = None,
    shots: ShotsOption = None,
    ways: WaysOption = None,
    episodes: EpisodesOption = 200,
    labels_per_class: LabelsOption = None,
    test_bank: TestBankOption = None,
    fine_tune: FineTuneOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """What features say of labels, on the bank's test split, with a 95% interval and the baselines beside it.

    The data need labels and a split, as columns of the manifest that was extracted. One of --shots, --labels-per-class,
    --fine-tune and --test-bank says that learning is from little, of the model itself, or for clips of another kind.
    Example: vidgen probe bank --kind linear --task colour --best
    """
    regime = Regime(shots=shots, ways=ways, episodes=episodes, labels_per_class=labels_per_class, test_bank=test_bank,
                    fine_tune=fine_tune)  # fmt: skip
    if report is not None:
        if regime.named:
            raise VidgenError(f"--report is of probes that learn from all of train; leave {regime.named[0]} out")
        if not report.is_dir():
            check_output(report, folder=True)
    asked = {"task": task, "target_type": target_type, "skip_unlabelled": skip_unlabelled, "seed": seed}
    tables = find_tables(bank, kind, parse_names(layers) if layers else None, regime, asked)
    page = None if report is None else write_page(bank, next(iter(tables.values())), asked, report)
    if best and fine_tune is None:
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


def write_page(folder: Path, rows: list[dict[str, Any]], asked: dict[str, Any], report: Path) -> Path:
    """The page of a bank's rows."""
    from vidgen.representations.bank import FeatureBank
    from vidgen.representations.probes import task_of
    from vidgen.scripts.pages.probe_page import fit_best_probe, write_probe_page

    bank, seed = FeatureBank.load(folder), asked["seed"]
    task = task_of(
        bank, seed, name=asked["task"], target_type=asked["target_type"], skip_unlabelled=asked["skip_unlabelled"]
    )
    return write_probe_page(fit_best_probe(bank, rows, task, seed), report)


def print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    extra = {name: about for name, about in EXTRA.items() if any(name in row for row in rows)}
    heads = (f">{head}" for head, _ in extra.values())
    columns = ("features", ">noise", "choice", ">validation", ">test", ">95% interval", *heads, "")
    cells = []
    for row in rows:
        level = "" if row["noise_level"] is None else f"{row['noise_level']:.2f}"
        low, high = row["ci"]
        scores = (f"{row['validation']:.3f}", f"{row['test']:.3f}", f"{low:.3f} - {high:.3f}")
        others = [form.format(row[name]) if name in row else "" for name, (_, form) in extra.items()]
        choice = describe_choice(row["choice"])
        cells.append((row["layer"], level, choice, *scores, *others, "baseline" if row["baseline"] else ""))
    print_table(title, columns, cells)
    if rows:
        first = rows[0]
        clips = f"{first['train_clips']} clips to learn from, {first['test_clips']} to report on"
        classes = "" if first["classes"] is None else f"{first['classes']} classes, "
        left = f", {first['unlabelled']} without a label" if first["unlabelled"] else ""
        print(f"{first['metric']} of {first['task']}: {classes}{clips}{left}")


def describe_choice(choice: Any) -> str:
    if choice is None:
        return ""
    return ", ".join(f"{part:g}" for part in choice) if isinstance(choice, list | tuple) else f"{choice:g}"


if __name__ == "__main__":
    from vidgen.scripts.main import main_of

    main_of("probe")
