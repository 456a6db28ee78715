"""`vidgen probe`: what the features of a bank say about its labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vidgen.scripts.options import JsonOption, SeedOption, parse_names
from vidgen.scripts.reporting import print_json, print_table


def probe(
    bank: Annotated[Path, typer.Argument(metavar="BANK", help="The folder that `vidgen extract` wrote.")],
    kind: Annotated[
        Literal["knn"], typer.Option(help="k nearest neighbours by cosine; k chosen on validation.")
    ] = "knn",
    taps: Annotated[str | None, typer.Option(help="Only these, as tokenizer.latents,dit.blocks.3.")] = None,
    best: Annotated[bool, typer.Option("--best", help="Of every family of taps, only the best on validation.")] = False,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Accuracy of labels from features, on the bank's test split, with a 95% interval and the baselines beside it.

    The data need labels and a split, as columns of the manifest that was extracted.
    Example: vidgen probe bank --best
    """
    from vidgen.representations.bank import FeatureBank
    from vidgen.representations.knn import knn_rows
    from vidgen.representations.tables import best_rows

    rows = knn_rows(FeatureBank.load(bank), parse_names(taps) if taps else None, seed=seed)
    rows = best_rows(rows) if best else rows
    if json:
        print_json({"rows": rows})
        return
    print_rows(f"{kind} on {bank}", rows)


def print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    columns = ("features", ">noise", ">k", ">validation", ">test", ">95% interval", "")
    cells = []
    for row in rows:
        level = "" if row["noise_level"] is None else f"{row['noise_level']:.2f}"
        low, high = row["ci"]
        scores = (f"{row['validation']:.3f}", f"{row['test']:.3f}", f"{low:.3f} - {high:.3f}")
        cells.append((row["tap"], level, row["k"] or "", *scores, "baseline" if row["baseline"] else ""))
    print_table(title, columns, cells)
    if rows:
        first = rows[0]
        clips = f"{first['train_clips']} clips to learn from, {first['test_clips']} to report on"
        print(f"{first['metric']} of {first['task']}: {first['classes']} classes, {clips}")


if __name__ == "__main__":
    from vidgen.scripts.main import main_of

    main_of("probe")
