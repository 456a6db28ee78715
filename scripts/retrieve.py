"""`vidgen retrieve`: what the features of a bank find."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.options import JsonOption, SeedOption, parse_names, parse_numbers
from vidgen.scripts.cli.outputs import check_output
from vidgen.scripts.cli.printing import print_json, print_table
from vidgen.scripts.probe import SkipOption

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank


def retrieve(
    bank: Annotated[Path, typer.Argument(metavar="BANK", help="The folder that `vidgen extract` wrote.")],
    task: Annotated[str, typer.Option(help="A hit has the query's label in this column.")] = "label",
    layers: Annotated[str | None, typer.Option(help="Only these, as tokenizer.latents,dit.blocks.3.")] = None,
    k: Annotated[str, typer.Option("--k", help="Hits among the first so many, as 1,5,10.")] = "1,5,10",
    same_group: Annotated[bool, typer.Option("--same-group", help="Clips of the query's own group count too.")] = False,
    skip_unlabelled: SkipOption = False,
    query: Annotated[str | None, typer.Option(help="Show the clips nearest to the one with this id instead.")] = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw some queries and what they find: hits green, others red.")
    ] = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Find clips of the test split among those of train, by cosine: recall at k, median rank, mean average precision.

    Without such splits every clip is looked for in all others. Clips of one group (subject, source) do not find each
    other. Example: vidgen retrieve bank --task motion; vidgen retrieve bank --layers tokenizer.latents --query 00003.mp4
    """
    from vidgen.representations.bank import FeatureBank
    from vidgen.representations.search.retrieval import find_neighbours, retrieve_rows

    ks = [int(n) for n in parse_numbers(k, "--k")]
    if not ks or min(ks) < 1:
        raise VidgenError(f"--k {k!r} is no list of whole numbers above 0; give some such as 1,5,10")
    opened, names = FeatureBank.load(bank), parse_names(layers) if layers else None
    if sheet is not None:
        draw_neighbours(opened, (names or opened.keys)[0], sheet, task, query, same_group)
    if query is not None:
        key = (names or opened.keys)[0]
        near = find_neighbours(opened, key, query, max(ks))
        if json:
            print_json({"query": query, "features": key, "neighbours": near})
            return
        cells = [(row["id"], row["label"] or "", row["group"] or "", f"{row['cosine']:.3f}") for row in near]
        print_table(f"nearest to {query} by {key}", ("clip", "label", "group", ">cosine"), cells)
        return
    rows = retrieve_rows(
        opened, names, task=task, ks=ks, same_group=same_group, skip_unlabelled=skip_unlabelled, seed=seed
    )
    if json:
        print_json({"rows": rows})
        return
    print_rows(f"retrieval in {bank}", rows)


def draw_neighbours(
    bank: FeatureBank, key: str, path: Path, task: str, query: str | None = None, same_group: bool = False
) -> None:
    """The contact sheet of one query, or of some."""
    from vidgen.representations.search.clips import list_neighbours
    from vidgen.scripts.plots.neighbor_sheet import draw_sheet, neighbor_tiles

    check_output(path)
    queries = None if query is None else [query]
    lines = list_neighbours(bank, bank.find_key(key), queries, task=task, same_group=same_group)
    draw_sheet([neighbor_tiles(bank, bank, line, task) for line in lines], f"nearest by {key}: {task}", path)


def print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    ks = list(rows[0]["recall"])
    columns = ("features", ">noise", *(f">R@{k}" for k in ks), ">median rank", ">mAP", ">95% interval", "")
    cells = []
    for row in rows:
        level = "" if row["noise_level"] is None else f"{row['noise_level']:.2f}"
        low, high = row["ci"]
        recall = [f"{row['recall'][k]:.3f}" for k in ks]
        scores = (f"{row['median_rank']:.1f}", f"{row['test']:.3f}", f"{low:.3f} - {high:.3f}")
        cells.append((row["layer"], level, *recall, *scores, "baseline" if row["baseline"] else ""))
    print_table(title, columns, cells)
    first = rows[0]
    left = f", {first['unanswered']} more without a clip to be found" if first["unanswered"] else ""
    print(f"{first['task']}: {first['queries']} queries in {first['gallery']} clips{left}")


if __name__ == "__main__":
    from vidgen.scripts.main import main_of

    main_of("retrieve")
