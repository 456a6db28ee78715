"""`vidgen index`: a stored index of features that can grow, and the search for clips in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.option_sets import HardwareOptions, with_option_sets
from vidgen.scripts.cli.options import BankArgument, DrawNeighborsOption, JsonOption, ModelOption
from vidgen.scripts.cli.outputs import check_folder_output, check_output, check_overwrite
from vidgen.scripts.cli.printing import note_dropped, pluralize, print_json, print_table, progress
from vidgen.scripts.extract import open_model

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank
    from vidgen.representations.search import StoredIndex

app = typer.Typer(no_args_is_help=True, help="A stored index of features that can grow: add clips to it, search it.")

IndexArgument = Annotated[Path, typer.Argument(metavar="INDEX", help="The folder of the index.")]


@app.command()
def add(
    index: IndexArgument,
    bank: BankArgument,
    layer: Annotated[
        str | None,
        typer.Option(
            help="The features to index, as dit.blocks.3@t=0.10. Default: the index's own, or the bank's only ones."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Add the clips of a bank to an index, which is created if there is none.

    Clips that the index has are passed over; a bank of another model or preprocessing is refused.
    Example: vidgen index add films.index bank --layer tokenizer.latents
    """
    from vidgen.representations.bank import FeatureBank
    from vidgen.representations.search import grow_index

    check_overwrite(index, bank)
    check_folder_output(index)
    report = grow_index(index, FeatureBank.load(bank), layer)
    if json:
        print_json({"path": str(index), **report})
        return
    print(f"{index}: {pluralize(report['rows'], 'clip')} ({report['added']} new)")


@app.command()
@with_option_sets
def search(
    *,
    index: IndexArgument,
    query: Annotated[
        Path,
        typer.Argument(metavar="QUERY", help="What to search for: a clip, a folder of clips, a manifest, or a bank."),
    ],
    model: ModelOption = "default",
    k: Annotated[int, typer.Option(min=1, max=10**6, help="How many nearest clips to show for each.")] = 5,
    backend: Annotated[
        Literal["auto", "exact", "faiss"],
        typer.Option(help="Search exactly, or approximately with faiss; auto: exactly up to 200,000 clips."),
    ] = "auto",
    sheet: DrawNeighborsOption = None,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Find the clips of an index that are nearest to others, by the cosine of their features.

    Queries are read as the clips of the index were, by the same model.
    Example: vidgen index search films.index clip.mp4 --k 10 --sheet near.png
    """
    if sheet is not None:
        check_output(sheet)

    import tempfile

    from vidgen.representations.bank import META_NAME, FeatureBank
    from vidgen.representations.search import StoredIndex

    stored = StoredIndex(index)
    with tempfile.TemporaryDirectory() as scratch:
        is_bank = (query / META_NAME).is_file()
        bank = FeatureBank.load(query) if is_bank else extract_queries(stored, query, model, scratch, hardware)
        lines = stored.neighbors(bank, k, backend)
    if sheet is not None:
        from vidgen.scripts.plots.neighbor_sheet import draw_sheet, neighbor_tiles

        draw_sheet(
            [neighbor_tiles(bank, stored.bank, line) for line in lines], f"nearest by {stored.key} in {index}", sheet
        )
    rows = [describe(line, stored.key) for line in lines]
    if json:
        print_json({"index": str(index), "clips": len(stored), "rows": rows})
        return
    cells = [
        (row["query"] if rank == 0 else "", near["id"], near["label"] or "", f"{near['cosine']:.3f}")
        for row in rows
        for rank, near in enumerate(row["neighbours"])
    ]
    title = f"nearest of {pluralize(len(stored), 'clip')} by {stored.key}"
    print_table(title, ("clip", "nearest", "label", ">cosine"), cells)


def describe(line: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a query and its neighbors as plain data."""
    pairs = [(near["row"], near["cosine"]) for near in line["neighbours"]]
    neighbors = [{"id": row.id, "label": row.label, "group": row.group, "cosine": cosine} for row, cosine in pairs]
    return {"query": line["query"].id, "features": key, "neighbours": neighbors}


def extract_queries(
    index: StoredIndex, source: Path, model: str, scratch: str, hardware: HardwareOptions
) -> FeatureBank:
    """Return the features of the clips of `source`, extracted as those of the index were, in a bank below `scratch`.

    Raises VidgenError where none of them can be read, or the model is another one.
    """
    from vidgen.checkpoints.hashing import model_hash
    from vidgen.representations.bank import FeatureBank
    from vidgen.representations.extract import extract_source

    opened = open_model(model, hardware.device, hardware.dtype)
    meta = index.meta
    if model_hash(opened) != meta["model_hash"]:
        raise VidgenError(
            f"{index.bank.folder} was not made with the model {model!r}, or not in {hardware.dtype}: give --model "
            f"and --dtype as for `vidgen extract`"
        )
    window = {name: meta["preprocessing"][name] for name in ("num_frames", "fps", "windows")}
    with progress(source.name, None) as advance:
        report = extract_source(
            opened, source, Path(scratch) / "bank", layers=meta["layers"], noise_levels=meta["noise_levels"] or [0.1],
            pool=meta["pool"], seed=meta["seed"], prompt=meta["prompt"], size=tuple(meta["preprocessing"]["size"]),
            progress=advance, **window,
        )  # fmt: skip
    note_dropped(report["dropped"])
    return FeatureBank.load(Path(scratch) / "bank")


if __name__ == "__main__":
    run_verb("index", app)
