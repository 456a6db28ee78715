"""`vidgen probe`: what the features of a bank say about its labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vidgen.scripts.options import JsonOption, SeedOption, parse_names
from vidgen.scripts.outputs import check_output
from vidgen.scripts.reporting import print_json, print_table

Kind = Literal["knn", "linear", "ridge", "centroid", "mlp", "attentive", "lstm"]
Goal = Literal["class", "multilabel", "regression"]

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
    goal: GoalOption = None,
    skip_unlabelled: SkipOption = False,
    taps: Annotated[str | None, typer.Option(help="Only these, as tokenizer.latents,dit.blocks.3.")] = None,
    best: Annotated[bool, typer.Option("--best", help="Of every family of taps, only the best on validation.")] = False,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="DIR", help="Also write DIR/index.html, a page with clips.")
    ] = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """What features say of labels, on the bank's test split, with a 95% interval and the baselines beside it.

    The data need labels and a split, as columns of the manifest that was extracted.
    Example: vidgen probe bank --kind linear --task colour --best
    """
    from vidgen.representations.bank import FeatureBank
    from vidgen.representations.probes import probe_rows
    from vidgen.representations.sweep import best_rows

    if report is not None and not report.is_dir():
        check_output(report, folder=True)
    opened = FeatureBank.load(bank)
    rows = probe_rows(
        opened,
        kind,
        parse_names(taps) if taps else None,
        task=task,
        goal=goal,
        skip_unlabelled=skip_unlabelled,
        seed=seed,
    )
    page = None
    if report is not None:
        from vidgen.representations.probes import task_of
        from vidgen.scripts.pages.probe_page import find, write_probe_page

        asked = task_of(opened, seed, name=task, goal=goal, skip_unlabelled=skip_unlabelled)
        page = write_probe_page(find(opened, rows, asked, seed), report)
    rows = best_rows(rows) if best else rows
    if json:
        print_json({"rows": rows} | ({} if page is None else {"report": str(page)}))
        return
    print_rows(f"{kind} on {bank}", rows)
    if page is not None:
        print(page)


def print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    gains = any("temporal_gain" in row for row in rows)
    columns = ("features", ">noise", "choice", ">validation", ">test", ">95% interval", *[">temporal gain"] * gains, "")
    cells = []
    for row in rows:
        level = "" if row["noise_level"] is None else f"{row['noise_level']:.2f}"
        low, high = row["ci"]
        scores = (f"{row['validation']:.3f}", f"{row['test']:.3f}", f"{low:.3f} - {high:.3f}")
        gain = [f"{row['temporal_gain']:+.3f}" if "temporal_gain" in row else ""] * gains
        choice = describe_choice(row["choice"])
        cells.append((row["tap"], level, choice, *scores, *gain, "baseline" if row["baseline"] else ""))
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
