"""`vidgen provenance`: is the original of a clip found after it was recompressed, cropped, marked or sped up?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.option_sets import HardwareOptions, ReadingOptions, with_option_sets
from vidgen.scripts.cli.options import (
    JsonOption,
    LayersOption,
    ModelArgument,
    NoiseLevelsOption,
    SeedOption,
    parse_names,
    parse_numbers,
)
from vidgen.scripts.cli.outputs import check_output
from vidgen.scripts.cli.printing import format_level, note_dropped, pluralize, print_json, print_table, progress
from vidgen.scripts.extract import choose_layers, open_model

if TYPE_CHECKING:
    from vidgen.representations.search.provenance import EditedClip


@with_option_sets
def provenance(
    *,
    model: ModelArgument,
    source: Annotated[Path, typer.Argument(metavar="DATA", help="A folder of clips, or a manifest.")],
    edits: Annotated[
        str,
        typer.Option(help="How clips are edited: unchanged, x264-28, x264-40, crop, logo, speed, mirrored, or all."),
    ] = "all",
    layers: LayersOption = "all",
    noise_levels: NoiseLevelsOption = "0.1",
    pool: Annotated[
        str, typer.Option(help="How features are pooled over a clip: mean, max, temporal, spatial or none.")
    ] = "mean",
    reading: ReadingOptions,
    write: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write the edited clips, lossless, to a new folder.")
    ] = None,
    seed: SeedOption = 0,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Edit clips in several ways, and look for their originals by features.

    Printed are recall at 1 and 5 and the median rank of every edit, with random weights, raw pixels and chance beside
    it. Example: vidgen provenance default clips --layers tokenizer.latents --edits crop,logo
    """
    settings = reading.settings()
    levels = parse_numbers(noise_levels, "--noise-levels")
    if write is not None:
        check_output(write, folder=True)

    from vidgen.data.transforms import TRANSFORMS
    from vidgen.representations.search.provenance import retrieve_originals

    opened = open_model(model, hardware.device, hardware.dtype)
    with progress(source.name, None) as advance:
        report = retrieve_originals(
            opened,
            source,
            edits=list(TRANSFORMS) if edits.strip() == "all" else parse_names(edits),
            layers=choose_layers(opened, layers),
            noise_levels=levels,
            pool=pool,
            seed=seed,
            progress=advance,
            on_clip=None if write is None else lambda clip: write_clip(clip, write),
            **settings,
        )
    if json:
        print_json(report)
        return
    note_dropped(report["dropped"])
    print_rows(f"originals of {source.name} found", report["rows"])
    short = f"; {report['held']} too short to be sped up, their last frame held" if report["held"] else ""
    print(f"{pluralize(report['clips'], 'clip')}{short}")


def write_clip(clip: EditedClip, folder: Path) -> None:
    """Write the windows of a clip as DIR/EDIT/ID.mkv."""
    from vidgen.data.writing import write_video

    for edit, frames in clip.windows.items():
        name = Path(clip.id.lstrip("/").replace("..", "_").replace("#", "-"))
        target = folder / edit / f"{name}.mkv"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_video(frames, target, fps=clip.fps)


def print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    """Print the recall at 1 of every feature, a column an edit, with its median rank behind it."""
    edits = list(dict.fromkeys(row["edit"] for row in rows))
    kinds = list(dict.fromkeys((row["layer"], row["noise_level"]) for row in rows))
    by_key = {(row["layer"], row["noise_level"], row["edit"]): row for row in rows}
    cells = []
    for layer, level in kinds:
        results = [by_key[layer, level, edit] for edit in edits]
        scores = [f"{row['test']:.3f} ({row['median_rank']:g})" for row in results]
        cells.append((layer, format_level(level), *scores, "baseline" if results[0]["baseline"] else ""))
    print_table(f"{title}: R@1 (median rank)", ("features", ">noise", *(f">{edit}" for edit in edits), ""), cells)


if __name__ == "__main__":
    run_verb("provenance", provenance)
