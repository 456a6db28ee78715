"""`vidgen tokenizer compare`: train variants of a tokenizer for one budget, and tabulate them on held-out clips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vidgen.scripts.cli.options import JsonOption, find_device, parse_names
from vidgen.scripts.cli.outputs import check_folder_output, check_output
from vidgen.scripts.cli.printing import note, print_json, print_table


def compare(
    comparison: Annotated[
        str, typer.Argument(metavar="FILE", help="A YAML file of variants, or the name of a shipped one.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Keys of the recipe to change for every variant, as steps=100 device=cuda."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the runs, results.json and table.md; continued if there.")
    ] = ...,
    clips: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Clips to train and measure on, in place of the file's own.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="A,B", help="Only these variants of the file. Default: all.")
    ] = None,
    report_file: Annotated[
        Path | None,
        typer.Option("-o", "--report", help="Also write the JSON to this file; --json FILE.json does the same."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Train every variant of a comparison file for the same steps on the same clips, and measure them on others.

    The same command goes on after a stop, and leaves finished variants alone.
    Example: vidgen tokenizer compare compare_bottlenecks --clips my_clips --out runs/bottlenecks
    """
    check_folder_output(out, parents=True)
    if report_file is not None:
        check_output(report_file)

    from vidgen.train.ablations.run import RESULTS, TABLE, write_json
    from vidgen.train.ablations.run import compare as compare_variants
    from vidgen.train.ablations.variants import load_comparison

    variants = load_comparison(comparison, out, clips=clips, overrides=settings or [])
    find_device(variants.recipe.device)
    report = compare_variants(variants, out, only=parse_names(only or ""), say=note)
    if report_file is not None:
        write_json(report_file, report)
    elif json:
        print_json(report)
    if not json:
        show(report)
        print(f"{out / TABLE}, {out / RESULTS}: {len(report['variants'])} variants")


def show(report: dict[str, Any]) -> None:
    """Print the table, narrower than the one in the file: without intervals and what is the same for all."""
    from vidgen.train.ablations.table import COLUMNS, describe_budget, table_rows

    rows = [[cell.split(" [")[0] for cell in row] for row in table_rows(report)]
    columns = [name if k < 2 else f">{name}" for k, name in enumerate(COLUMNS)]
    print_table("held-out clips", columns, rows)
    print(describe_budget(report))
