"""`vidgen probe-dense`: what single cells of a model's features know: masks, points and boxes tracked through a clip,
segments, objects that a text names, slots."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.option_sets import HardwareOptions, with_option_sets
from vidgen.scripts.cli.options import (
    BatchOption,
    JsonOption,
    LayersOption,
    MaxObjectsOption,
    ModelArgument,
    ModelLengthOption,
    ModelSizeOption,
    NoiseLevelsOption,
    SeedOption,
    parse_names,
    parse_numbers,
    parse_size,
)
from vidgen.scripts.cli.outputs import check_output
from vidgen.scripts.cli.printing import format_interval, format_level, print_json, print_table, progress
from vidgen.scripts.extract import choose_layers, open_model

if TYPE_CHECKING:
    from vidgen.representations.dense import PropagationSettings

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
TRACKED = ("masks", "points", "boxes")


@with_option_sets
def probe_dense(
    *,
    model: ModelArgument,
    tasks: Annotated[
        str, typer.Option(help="What to measure, of masks, points, boxes, segmentation, expressions and slots.")
    ] = "masks,points,boxes,segmentation",
    layers: LayersOption = "all",
    noise_levels: NoiseLevelsOption = "0.1",
    classes: Annotated[
        Literal["object", "shape", "colour"], typer.Option(help="The classes that segmentation tells apart.")
    ] = "colour",
    clips: Annotated[
        int, typer.Option(min=2, max=10**6, help="Held-out clips to report on, and as many others to fit on.")
    ] = 50,
    max_objects: MaxObjectsOption = 2,
    slots: Annotated[
        int, typer.Option(min=2, max=10**6, help="Slots in a frame, and clusters of the k-means beside them.")
    ] = 4,
    slot_steps: Annotated[int, typer.Option(min=1, max=10**6, help="Training steps of the slots.")] = 500,
    num_frames: ModelLengthOption = None,
    size: ModelSizeOption = None,
    top_k: Annotated[
        str,
        typer.Option(help="Tracking: how many of the best matches count. Of several, the best on validation is used."),
    ] = "1,5,10",
    temperature: Annotated[
        str, typer.Option(help="Tracking: temperature of the softmax over the cosines of matches; as --top-k.")
    ] = "0.05,0.2",
    context: Annotated[
        str, typer.Option(help="Tracking: earlier frames to match with, besides the first; as --top-k.")
    ] = "3",
    radius: Annotated[
        str, typer.Option(help="Tracking: how far away a match may lie, in cells, or any; as --top-k.")
    ] = "any,2",
    picture: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Also draw what was tracked in the first held-out clips.")
    ] = None,
    batch_size: BatchOption = 8,
    seed: SeedOption = 0,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Measure what single cells of features know, on clips of moving shapes with exact labels.

    Masks, points and boxes are tracked by label propagation; segments are predicted by a linear map; expressions
    are texts that name an object; slots group cells without labels. Random weights, raw pixels and the first frame held
    still stand beside it.
    Example: vidgen probe-dense default --tasks masks,points --layers tokenizer.latents --size 128
    """
    frame_size = parse_size(size)
    levels = parse_numbers(noise_levels, "--noise-levels")
    names = parse_names(tasks)
    if picture is not None:
        check_output(picture)
        if not set(names) & set(TRACKED):
            raise VidgenError(f"--picture shows what is tracked; add {', '.join(TRACKED)} to --tasks, or leave it out")

    from vidgen.representations.dense import SlotSettings, dense_rows
    from vidgen.scripts.plots.dense import draw_dense

    opened = open_model(model, hardware.device, hardware.dtype)
    tracks: list[Any] = []
    with progress(model, None) as advance:
        rows = dense_rows(
            opened,
            names,
            layers=choose_layers(opened, layers),
            noise_levels=levels,
            settings=parse_settings(top_k, temperature, context, radius),
            classes=classes,
            clips=clips,
            num_frames=num_frames,
            size=frame_size,
            max_objects=max_objects,
            slots=SlotSettings(count=slots, steps=slot_steps),
            batch_size=batch_size,
            seed=seed,
            progress=advance,
            on_tracks=tracks.append if picture is not None else None,
        )
    if picture is not None:
        draw_dense(rows, tracks, picture)
    if json:
        print_json({"rows": rows})
        return
    for task in dict.fromkeys(row["task"] for row in rows):
        print_rows(model, task, [row for row in rows if row["task"] == task])
    print(f"{rows[0]['clips']} held-out clips" + ("" if picture is None else f"; {picture}"))


def parse_settings(top_k: str, temperature: str, context: str, radius: str) -> list[PropagationSettings]:
    """Return every combination of the settings of tracking. Raises VidgenError for what is none."""
    from vidgen.representations.dense import PropagationSettings

    radii = [None if name == "any" else parse_numbers(name, "--radius")[0] for name in parse_names(radius)]
    numbers = [parse_numbers(top_k, "--top-k"), parse_numbers(temperature, "--temperature")]
    numbers.append(parse_numbers(context, "--context"))
    try:
        settings = [
            PropagationSettings(top_k=int(k), temperature=t, context=int(c), radius=None if r is None else int(r))
            for k, t, c, r in product(*numbers, radii)
        ]
    except ValueError as error:
        raise VidgenError(f"nothing can be tracked so: {error}") from None
    if not settings:
        raise VidgenError("--top-k, --temperature, --context and --radius need a value each; leave them out")
    return settings


def print_rows(model: str, task: str, rows: list[dict[str, Any]]) -> None:
    """Print the table of a task, a line for each layer."""
    first, *others = MEASURES[task]
    kinds = KINDS.get(task, ())
    scores = (f">{first}", ">95% interval", *(f">{name}" for name in others))
    columns = ("features", *kinds, ">noise", ">cells", *scores, "")
    cells = []
    for row in rows:
        size = "x".join(map(str, row["stride"]))
        numbers = (f"{row['test']:.3f}", format_interval(row["ci"]), *(f"{row[name]:.3f}" for name in others))
        labels = (row["layer"], *(row[kind] for kind in kinds))
        cells.append(
            (*labels, format_level(row["noise_level"]), f"{size} px", *numbers, "baseline" if row["baseline"] else "")
        )
    print_table(f"{task} by features of {model}", columns, cells)


if __name__ == "__main__":
    run_verb("probe-dense", probe_dense)
