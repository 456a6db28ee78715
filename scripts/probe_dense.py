"""`vidgen probe-dense`: what single cells of a model's features know: masks, points and boxes followed, segments, what
text names, slots."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.options import (
    ClipLengthOption,
    DeviceOption,
    Dtype,
    JsonOption,
    NoiseLevelsOption,
    SeedOption,
    SizeOption,
    TapsOption,
    parse_names,
    parse_numbers,
    parse_size,
)
from vidgen.scripts.cli.outputs import check_output
from vidgen.scripts.cli.printing import print_json, print_table, progress
from vidgen.scripts.extract import choose_layers, open_model

MEASURES = {
    "masks": ("j_and_f", "j", "f"),
    "points": ("error_px", "near"),
    "boxes": ("iou", "middle_px"),
    "segmentation": ("miou",),
    "expressions": ("iou", "picked", "wrong_iou"),
    "slots": ("fg_ari",),
}
# Rows of one layer may differ in these: a column each.
KINDS = {"expressions": ("told",), "slots": ("kind",)}
FOLLOWED = ("masks", "points", "boxes")


def probe_dense(
    model: Annotated[str, typer.Argument(help="A pipeline or tokenizer: a shipped name, a folder or a hub id.")],
    tasks: Annotated[
        str, typer.Option(help="Of masks, points, boxes, segmentation, expressions and slots.")
    ] = "masks,points,boxes,segmentation",
    layers: TapsOption = "all",
    noise_levels: NoiseLevelsOption = "0.1",
    classes: Annotated[
        Literal["object", "shape", "colour"], typer.Option(help="What segmentation tells apart.")
    ] = "colour",
    clips: Annotated[int, typer.Option(min=2, help="Held-out clips to report on, and as many to fit on.")] = 50,
    max_objects: Annotated[int, typer.Option(min=1, max=2, help="Moving shapes in a clip.")] = 2,
    slots: Annotated[int, typer.Option(min=2, help="Slots in a frame, and clusters of k-means.")] = 4,
    slot_steps: Annotated[int, typer.Option(min=1, help="Steps that slots are trained for.")] = 500,
    num_frames: ClipLengthOption = None,
    size: SizeOption = None,
    top_k: Annotated[str, typer.Option(help="Matches that count; of several, the best on validation.")] = "1,5,10",
    temperature: Annotated[str, typer.Option(help="Of the softmax over their cosines; as --top-k.")] = "0.05,0.2",
    context: Annotated[str, typer.Option(help="Frames looked back, besides the first; as --top-k.")] = "3",
    radius: Annotated[str, typer.Option(help="Cells away that a match may lie, or any; as --top-k.")] = "any,2",
    picture: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw what was followed in the first held-out clips.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    dtype: Annotated[Dtype, typer.Option(help="Precision of the networks.")] = "float32",
    json: JsonOption = False,
) -> None:
    """Follow masks, points and boxes through clips of moving shapes by the affinity of features, and segment them by a
    linear map, against exact labels; find what a text names, and group cells by slots without labels; with random
    weights, raw pixels and the first frame kept still beside it.

    Example: vidgen probe-dense default --tasks masks,points --layers tokenizer.latents --size 128
    """
    frame, levels, names = parse_size(size), parse_numbers(noise_levels, "--noise-levels"), parse_names(tasks)
    if picture is not None:
        check_output(picture)
        if not set(names) & set(FOLLOWED):
            raise VidgenError(
                f"--picture shows what is followed; add {', '.join(FOLLOWED)} to --tasks, or leave it out"
            )

    from vidgen.representations.dense import SlotSettings, dense_rows
    from vidgen.scripts.plots.dense import draw_dense

    opened, found = open_model(model, device, dtype), []
    with progress(model, None) as moved:
        rows = dense_rows(
            opened,
            names,
            layers=choose_layers(opened, layers),
            noise_levels=levels,
            settings=parse_settings(top_k, temperature, context, radius),
            classes=classes,
            clips=clips,
            num_frames=num_frames,
            size=frame,
            max_objects=max_objects,
            slots=SlotSettings(count=slots, steps=slot_steps),
            batch_size=batch_size,
            seed=seed,
            progress=moved,
            on_tracks=found.append if picture is not None else None,
        )
    if picture is not None:
        draw_dense(rows, found, picture)
    if json:
        print_json({"rows": rows})
        return
    for task in dict.fromkeys(row["task"] for row in rows):
        print_rows(model, task, [row for row in rows if row["task"] == task])
    print(f"{rows[0]['clips']} held-out clips" + ("" if picture is None else f"; {picture}"))


def parse_settings(top_k: str, temperature: str, context: str, radius: str) -> list[Any]:
    """Every combination, as `PropagationSettings`. Raises VidgenError for what is none."""
    from vidgen.representations.dense import PropagationSettings

    radii = [None if name == "any" else parse_numbers(name, "--radius")[0] for name in parse_names(radius)]
    numbers = [parse_numbers(top_k, "--top-k"), parse_numbers(temperature, "--temperature")]
    numbers.append(parse_numbers(context, "--context"))
    try:
        made = [
            PropagationSettings(top_k=int(k), temperature=t, context=int(c), radius=None if r is None else int(r))
            for k, t, c, r in product(*numbers, radii)
        ]
    except ValueError as error:
        raise VidgenError(f"features cannot be followed so: {error}") from None
    if not made:
        raise VidgenError("--top-k, --temperature, --context and --radius need a value each; leave them out")
    return made


def print_rows(model: str, task: str, rows: list[dict[str, Any]]) -> None:
    first, *others = MEASURES[task]
    kinds = KINDS.get(task, ())
    scores = (f">{first}", ">95% interval", *(f">{name}" for name in others))
    columns = ("features", *kinds, ">noise", ">cells", *scores, "")
    cells = []
    for row in rows:
        level = "" if row["noise_level"] is None else f"{row['noise_level']:.2f}"
        low, high = row["ci"]
        size = "x".join(map(str, row["stride"]))
        numbers = (f"{row['test']:.3f}", f"{low:.3f} - {high:.3f}", *(f"{row[name]:.3f}" for name in others))
        which = (row["layer"], *(row[kind] for kind in kinds))
        cells.append((*which, level, f"{size} px", *numbers, "baseline" if row["baseline"] else ""))
    print_table(f"{task} by features of {model}", columns, cells)


if __name__ == "__main__":
    from vidgen.scripts.main import main_of

    main_of("probe-dense")
