"""`vidgen provenance`: is the original of a clip found when it was recompressed, cropped, marked or sped up?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.scripts.cli.options import (
    ClipLengthOption,
    DeviceOption,
    Dtype,
    JsonOption,
    LimitOption,
    NoiseLevelsOption,
    RateOption,
    SeedOption,
    SizeOption,
    TapsOption,
    check_rate,
    parse_names,
    parse_numbers,
    parse_size,
)
from vidgen.scripts.cli.outputs import check_output
from vidgen.scripts.cli.printing import note, print_json, print_table, progress
from vidgen.scripts.extract import choose_layers, open_model

if TYPE_CHECKING:
    from vidgen.representations.search.provenance import EditedClip


def provenance(
    model: Annotated[str, typer.Argument(help="A pipeline or tokenizer: a shipped name, a folder or a hub id.")],
    source: Annotated[Path, typer.Argument(metavar="DATA", help="A folder of clips, or a manifest.")],
    edits: Annotated[
        str, typer.Option(help="Of unchanged, x264-28, x264-40, crop, logo, speed and mirrored; or all.")
    ] = "all",
    layers: TapsOption = "all",
    noise_levels: NoiseLevelsOption = "0.1",
    pool: Annotated[str, typer.Option(help="mean, max, temporal, spatial or none.")] = "mean",
    num_frames: ClipLengthOption = None,
    size: SizeOption = None,
    fps: RateOption = None,
    write: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the edited clips, lossless, in a new folder.")
    ] = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    dtype: Annotated[Dtype, typer.Option(help="Precision of the networks.")] = "float32",
    json: JsonOption = False,
) -> None:
    """Edit clips in several ways and look for their originals among all originals, by features: recall at 1 and 5 and
    the median rank of every edit, with random weights, raw pixels and chance beside it.

    Example: vidgen provenance default clips --layers tokenizer.latents --edits crop,logo
    """
    check_rate(fps)
    frame, levels = parse_size(size), parse_numbers(noise_levels, "--noise-levels")
    if write is not None:
        check_output(write, folder=True)

    from vidgen.data.transforms import TRANSFORMS
    from vidgen.representations.search.provenance import retrieve_originals

    opened = open_model(model, device, dtype)
    with progress(source.name, None) as moved:
        report = retrieve_originals(
            opened,
            source,
            edits=list(TRANSFORMS) if edits.strip() == "all" else parse_names(edits),
            layers=choose_layers(opened, layers),
            noise_levels=levels,
            pool=pool,
            num_frames=num_frames,
            size=frame,
            fps=fps,
            limit=limit,
            seed=seed,
            progress=moved,
            on_clip=None if write is None else lambda clip: write_clip(clip, write),
        )
    if json:
        print_json(report)
        return
    for drop in report["dropped"]:
        note(f"left out: {drop['path']}: {drop['reason']}")
    print_rows(f"originals of {source.name} found", report["rows"])
    held = f"; {report['held']} too short to be sped up, their last frame held" if report["held"] else ""
    print(f"{report['clips']} clips{held}")


def write_clip(clip: EditedClip, folder: Path) -> None:
    """Its windows, as DIR/EDIT/ID.mkv."""
    from vidgen.data.writing import write_video

    for edit, frames in clip.windows.items():
        name = Path(clip.id.lstrip("/").replace("..", "_").replace("#", "-"))
        target = folder / edit / f"{name}.mkv"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_video(frames, target, fps=clip.fps)


def print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    """Recall at 1 of every feature, a column an edit, with its median rank behind it."""
    edits = list(dict.fromkeys(row["edit"] for row in rows))
    kinds = list(dict.fromkeys((row["layer"], row["noise_level"]) for row in rows))
    there = {(row["layer"], row["noise_level"], row["edit"]): row for row in rows}
    cells = []
    for layer, level in kinds:
        mine = [there[layer, level, edit] for edit in edits]
        scores = [f"{row['test']:.3f} ({row['median_rank']:g})" for row in mine]
        cells.append(
            (layer, "" if level is None else f"{level:.2f}", *scores, "baseline" if mine[0]["baseline"] else "")
        )
    print_table(f"{title}: R@1 (median rank)", ("features", ">noise", *(f">{edit}" for edit in edits), ""), cells)


if __name__ == "__main__":
    from vidgen.scripts.main import main_of

    main_of("provenance")
