"""`vidgen bank`: show a bank of features, join several into one, export one for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.options import BankArgument, JsonOption
from vidgen.scripts.cli.outputs import check_output
from vidgen.scripts.cli.printing import pluralize, print_json, print_table

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank

Format = Literal["numpy", "parquet", "datasets"]
app = typer.Typer(no_args_is_help=True, help="Banks of features: show one, join several, export one.")


@app.command()
def show(bank: BankArgument, json: JsonOption = False) -> None:
    """Show what a bank holds and how it was made.

    Example: vidgen bank show bank
    """
    from vidgen.representations.bank import FeatureBank

    opened = FeatureBank.load(bank)
    if json:
        print_json(describe(opened))
        return
    cells = [(key, "x".join(map(str, opened.shapes[key]))) for key in opened.keys]
    title = f"{bank}: {pluralize(len(opened), 'clip')} in {pluralize(opened.num_shards, 'shard')}"
    print_table(title, ("features", ">of a clip"), cells)
    splits = describe(opened)["splits"]
    print(f"splits: {', '.join(f'{name} {count}' for name, count in splits.items()) or 'none'}")
    print(f"labels: {', '.join(opened.columns) or 'none'}")
    for name, value in opened.meta.items():
        if name not in ("keys", "layers", "banks"):
            print(f"{name}: {value}")


def describe(bank: FeatureBank) -> dict[str, Any]:
    """Return a bank as plain data."""
    splits = [row.split for row in bank.rows if row.split is not None]
    return {
        "rows": len(bank),
        "shards": bank.num_shards,
        "features": {key: list(bank.shapes[key]) for key in bank.keys},
        "splits": {name: splits.count(name) for name in dict.fromkeys(splits)},
        "labels": bank.columns,
        "meta": bank.meta,
    }


def describe_size(bank: FeatureBank) -> str:
    """Return how many clips and features a bank has."""
    return f"{pluralize(len(bank), 'clip')} x {pluralize(len(bank.keys), 'feature')}"


@app.command()
def join(
    banks: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]BANK...", help="Two or more folders of banks, each with a name of its own or none."
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="BANK", help="Folder of the new bank, which must be new or empty.")
    ],
    mixed: Annotated[
        bool,
        typer.Option(
            "--mixed", help="Of banks with names: also join features of clips that were resized or cut differently."
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Join banks: the clips of banks that were made alike, or the features of several models on the same clips.

    Banks with names (NAME=BANK) are joined by their features, banks without by their clips.
    Example: vidgen bank join part1 part2 -o whole; vidgen bank join ours=bank wan=other -o both
    """
    check_output(output, folder=True)
    named = dict(split_name(text) for text in banks)
    if len(named) < 2 or len(named) != len(banks):
        raise VidgenError("join takes two banks or more, each once, with names of their own or without any")

    from vidgen.representations.bank import FeatureBank
    from vidgen.representations.merge import join_features, join_rows

    opened = {name: FeatureBank.load(folder) for name, folder in named.items()}
    if all("=" in text for text in banks):
        joined = join_features(opened, output, mixed=mixed)
    elif any("=" in text for text in banks) or mixed:
        raise VidgenError("give a name to every bank to join their features, or to none (and no --mixed) for rows")
    else:
        joined = join_rows(list(opened.values()), output)
    print_json(describe(joined)) if json else print(f"{output}: {describe_size(joined)}")


def split_name(text: str) -> tuple[str, Path]:
    """Return "ours=bank" as name and folder; without = the folder is the name. VidgenError for a name with / or @."""
    name, equals, folder = text.partition("=")
    if not equals:
        return text, Path(text)
    if not name or set(name) & set("/@,"):
        raise VidgenError(f"{text!r}: a bank's name is a word without / or @, as in ours=bank")
    return name, Path(folder)


@app.command()
def export(
    bank: BankArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PATH", help="A new folder, or a .parquet file.")],
    kind: Annotated[
        Format,
        typer.Option("--format", help="Format of the copy: numpy arrays, a parquet table, or Hugging Face's datasets."),
    ],
    json: JsonOption = False,
) -> None:
    """Export a bank for other tools, shard by shard.

    The format parquet needs the package pyarrow, and datasets the package of that name.
    Example: vidgen bank export bank -o arrays --format numpy
    """
    check_output(output)

    from vidgen.representations.bank import FeatureBank
    from vidgen.representations.export import EXPORTS

    opened = FeatureBank.load(bank)
    EXPORTS[kind](opened, output)
    report = {"path": str(output), "format": kind, "rows": len(opened), "features": opened.keys}
    print_json(report) if json else print(f"{output}: {describe_size(opened)}")


if __name__ == "__main__":
    run_verb("bank", app)
