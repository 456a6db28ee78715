"""`vidgen retrieve`: which clips of a bank are found by the features of others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.option_sets import HardwareOptions, with_option_sets
from vidgen.scripts.cli.options import (
    BankLayersOption,
    DrawNeighborsOption,
    JsonOption,
    SeedOption,
    parse_counts,
    parse_names,
)
from vidgen.scripts.cli.outputs import check_output
from vidgen.scripts.cli.printing import (
    format_interval,
    format_level,
    note_one_group,
    pluralize,
    print_json,
    print_table,
)
from vidgen.scripts.cli.probe_protocols import SkipOption
from vidgen.scripts.text_video.search import search_by_text

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank


@with_option_sets
def retrieve(
    *,
    bank: Annotated[
        Path,
        typer.Argument(metavar="BANK|CLIPS", help="The folder that `vidgen extract` wrote; with --text, clips."),
    ],
    text: Annotated[
        list[str] | None,
        typer.Option("--text", help="Search clips (a file, folder or manifest) by this text; again for more."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME|DIR", help="Of --text: a dual encoder, a folder or a hub id."),
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, max=10_000, help="Of --text: how many clips to name.")] = 5,
    task: Annotated[
        str, typer.Option(help="The column of labels: a clip that shares the query's label is a hit.")
    ] = "label",
    layers: BankLayersOption = None,
    k: Annotated[str, typer.Option(help="Count hits among the first so many clips, as 1,5,10.")] = "1,5,10",
    same_group: Annotated[
        bool, typer.Option("--same-group", help="Also find clips of the query's own group (its subject or source).")
    ] = False,
    skip_unlabeled: SkipOption = False,
    query: Annotated[str | None, typer.Option(help="Only show the clips nearest to the one with this id.")] = None,
    sheet: DrawNeighborsOption = None,
    seed: SeedOption = 0,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Search with clips of test among those of train, by cosine: recall at k, median rank, mean average precision.

    Without such splits every clip is a query to all others. Clips of a group (subject, source) do not find each other.
    With --text, name the clips that a text is nearest to, and when in them.
    Example: vidgen retrieve bank --task motion; vidgen retrieve clips --text "a red circle grows" --model NAME
    """
    if text:
        settings = hardware.settings()
        search_by_text(bank, text, model, top_k=top_k, sheet=sheet, json=json, settings=settings)
        return
    if model is not None:
        raise VidgenError("--model is for --text: a bank has the features of its own model; leave it out")
    from vidgen.representations.bank import FeatureBank
    from vidgen.representations.search.retrieval import nearest_clips, retrieve_rows

    ks = parse_counts(k, "--k")
    features = FeatureBank.load(bank)
    names = parse_names(layers) if layers else None
    key = (names or features.keys)[0]
    if sheet is not None:
        draw_neighbors(features, key, sheet, task, query, same_group)
    if query is not None:
        neighbors = nearest_clips(features, key, query, max(ks))
        if json:
            print_json({"query": query, "features": key, "neighbours": neighbors})
            return
        cells = [(row["id"], row["label"] or "", row["group"] or "", f"{row['cosine']:.3f}") for row in neighbors]
        print_table(f"nearest to {query} by {key}", ("clip", "label", "group", ">cosine"), cells)
        return
    rows = retrieve_rows(
        features, names, task=task, ks=ks, same_group=same_group, skip_unlabelled=skip_unlabeled, seed=seed
    )
    if json:
        print_json({"rows": rows})
        return
    print_rows(f"retrieval in {bank}", rows)


def draw_neighbors(bank: FeatureBank, key: str, path: Path, task: str, query: str | None, same_group: bool) -> None:
    """Draw a contact sheet of queries with their nearest clips.

    Args:
        bank: the clips.
        key: the features to search by.
        path: the picture to write.
        task: the column of labels that says what a hit is.
        query: the id of the one query; None draws some.
        same_group: whether clips of the query's own group are found too.
    """
    from vidgen.representations.search.clips import list_neighbors
    from vidgen.scripts.plots.neighbor_sheet import draw_sheet, neighbor_tiles

    check_output(path)
    queries = None if query is None else [query]
    lines = list_neighbors(bank, bank.find_key(key), queries, task=task, same_group=same_group)
    draw_sheet([neighbor_tiles(bank, bank, line, task) for line in lines], f"nearest by {key}: {task}", path)


def print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    """Print a table of retrieval, a line for each feature, and what was searched."""
    ks = list(rows[0]["recall"])
    columns = ("features", ">noise", *(f">R@{k}" for k in ks), ">median rank", ">mAP", ">95% interval", "")
    cells = []
    for row in rows:
        recall = [f"{row['recall'][k]:.3f}" for k in ks]
        scores = (f"{row['median_rank']:.1f}", f"{row['test']:.3f}", format_interval(row["ci"]))
        cells.append(
            (row["layer"], format_level(row["noise_level"]), *recall, *scores, "baseline" if row["baseline"] else "")
        )
    print_table(title, columns, cells)
    note_one_group(rows)
    first = rows[0]
    left = f", {first['unanswered']} more without a clip to be found" if first["unanswered"] else ""
    print(f"{first['task']}: {first['queries']} queries in {pluralize(first['gallery'], 'clip')}{left}")


if __name__ == "__main__":
    run_verb("retrieve", retrieve)
