"""`vidgen index`: a stored index of features that can grow, and what is near a clip in it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.options import DeviceOption, Dtype, JsonOption, ModelOption
from vidgen.scripts.cli.outputs import check_output
from vidgen.scripts.cli.printing import note, print_json, print_table, progress
from vidgen.scripts.extract import open_model

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank
    from vidgen.representations.search import StoredIndex

app = typer.Typer(no_args_is_help=True, help="A stored index of clips' features that can grow: add to it, search it.")

IndexArgument = Annotated[Path, typer.Argument(metavar="INDEX", help="The index's folder.")]


@app.command()
def add(
    index: IndexArgument,
    bank: Annotated[Path, typer.Argument(metavar="BANK", help="The folder that `vidgen extract` wrote.")],
    layer: Annotated[
        str | None, typer.Option(help="The feature, as tokenizer.latents or dit.blocks.3@t=0.10; later the same.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Add the clips of a bank to an index, which is made if it is not there. Clips that it has are passed over; a bank
    of another model or preprocessing is refused.

    Example: vidgen index add films.index bank --layer tokenizer.latents
    """
    from vidgen.representations.bank import FeatureBank
    from vidgen.representations.search import grow_index

    report = grow_index(index, FeatureBank.load(bank), layer)
    if json:
        print_json({"path": str(index), **report})
        return
    print(f"{index}: {report['rows']} clips ({report['added']} new)")


@app.command()
def search(
    index: IndexArgument,
    query: Annotated[Path, typer.Argument(metavar="QUERY", help="A clip, a folder of clips, a manifest, or a bank.")],
    model: ModelOption = "default",
    k: Annotated[int, typer.Option("--k", min=1, help="Neighbours of each clip.")] = 5,
    backend: Annotated[
        Literal["auto", "exact", "faiss"],
        typer.Option(help="auto: exact up to 200,000 clips, then faiss, which is approximate, where it is installed."),
    ] = "auto",
    sheet: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw the queries and what they find: hits green, others red.")
    ] = None,
    device: DeviceOption = "auto",
    dtype: Annotated[Dtype, typer.Option(help="Precision of the networks.")] = "float32",
    json: JsonOption = False,
) -> None:
    """The clips of an index nearest to others, by cosine. Clips are read as those of the index were, by the same model.

    Example: vidgen index search films.index clip.mp4 --k 10 --sheet near.png
    """
    if sheet is not None:
        check_output(sheet)

    from vidgen.representations.bank import META_NAME, FeatureBank
    from vidgen.representations.search import StoredIndex

    opened = StoredIndex(index)
    with tempfile.TemporaryDirectory() as scratch:
        is_bank = (query / META_NAME).is_file()
        bank = FeatureBank.load(query) if is_bank else extract_queries(opened, query, model, scratch, device, dtype)
        lines = opened.neighbours(bank, k, backend)
    if sheet is not None:
        from vidgen.scripts.plots.neighbor_sheet import draw_sheet, neighbor_tiles

        draw_sheet(
            [neighbor_tiles(bank, opened.bank, line) for line in lines], f"nearest by {opened.key} in {index}", sheet
        )
    plain = [describe(line, opened.key) for line in lines]
    if json:
        print_json({"index": str(index), "clips": len(opened), "rows": plain})
        return
    cells = [
        (line["query"] if i == 0 else "", near["id"], near["label"] or "", f"{near['cosine']:.3f}")
        for line in plain
        for i, near in enumerate(line["neighbours"])
    ]
    print_table(f"nearest of {len(opened)} clips by {opened.key}", ("clip", "found", "label", ">cosine"), cells)


def describe(line: dict[str, Any], key: str) -> dict[str, Any]:
    """A query and its neighbours as plain data."""
    near = [(one["row"], one["cosine"]) for one in line["neighbours"]]
    found = [{"id": row.id, "label": row.label, "group": row.group, "cosine": cosine} for row, cosine in near]
    return {"query": line["query"].id, "features": key, "neighbours": found}


def extract_queries(
    index: StoredIndex, source: Path, model: str, scratch: str, device: str, dtype: Dtype
) -> FeatureBank:
    """Features of the source as the index has them. Raises VidgenError where none of it can be read, or the model is
    another one."""
    from vidgen.checkpoints.hashing import model_hash
    from vidgen.representations.bank import FeatureBank
    from vidgen.representations.extract import extract_source

    opened, meta = open_model(model, device, dtype), index.meta
    if model_hash(opened) != meta["model_hash"]:
        raise VidgenError(
            f"{index.bank.folder} was not made with the model {model!r}, or not in {dtype}: give --model and --dtype "
            f"as for `vidgen extract`"
        )
    window = {name: meta["preprocessing"][name] for name in ("num_frames", "fps", "windows")}
    with progress(source.name, None) as moved:
        report = extract_source(
            opened, source, Path(scratch) / "bank", layers=meta["layers"], noise_levels=meta["noise_levels"] or [0.1],
            pool=meta["pool"], seed=meta["seed"], prompt=meta["prompt"], size=tuple(meta["preprocessing"]["size"]),
            progress=moved, **window,
        )  # fmt: skip
    for drop in report["dropped"]:
        note(f"left out: {drop['path']}: {drop['reason']}")
    return FeatureBank.load(Path(scratch) / "bank")


if __name__ == "__main__":
    from vidgen.scripts.main import main_of

    main_of("index")
