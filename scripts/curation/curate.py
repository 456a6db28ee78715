"""`vidgen data curate`: columns of quality for the clips of a data set, and filters by them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.options import JsonOption
from vidgen.scripts.cli.outputs import check_output
from vidgen.scripts.cli.printing import pluralize, print_json, progress

GRAY = {"min": 0.0, "max": 255.0}
SECONDS = {"min": 0.0, "max": 1e6}


def curate(
    source: Annotated[
        Path, typer.Argument(metavar="CLIPS|MANIFEST", help="A folder of clips, a manifest, a tar, or one clip.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="JSONL", help="The manifest to write, lines of JSON.")
    ],
    min_motion: Annotated[float | None, typer.Option(**GRAY, help="Drop clips that move less.")] = None,
    max_motion: Annotated[float | None, typer.Option(**GRAY, help="Drop clips that move more.")] = None,
    min_sharpness: Annotated[
        float | None, typer.Option(min=0.0, max=1e7, help="Drop clips that are less sharp.")
    ] = None,
    min_seconds: Annotated[float | None, typer.Option(**SECONDS, help="Drop clips that are shorter.")] = None,
    max_seconds: Annotated[float | None, typer.Option(**SECONDS, help="Drop clips that are longer.")] = None,
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-duplicates", help="Keep one clip of those that are nearly the same, the first.")
    ] = False,
    single_scene: Annotated[
        bool, typer.Option("--single-scene", help="Drop clips with cuts between scenes; needs PySceneDetect.")
    ] = False,
    fps: Annotated[float, typer.Option(min=0.01, max=1000.0, help="Frames a second to look at.")] = 8.0,
    max_distance: Annotated[
        float | None,
        typer.Option(min=0.0, max=0.5, help="Share of the hashes' bits in which near-duplicates may differ: 0.04."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure the clips of a data set, and write a manifest of those that pass, with what was measured.

    Columns, as quality_motion, in gray levels of 0 to 255: motion (between frames), sharpness (variance of the
    Laplacian), brightness, contrast; seconds; cuts, where PySceneDetect is installed; and duplicate_of. Damaged clips
    are named and left out.
    Example: vidgen data curate clips -o kept.jsonl --min-motion 0.5 --drop-duplicates
    """
    from dataclasses import asdict

    from vidgen.data.curation.curating import curate_clips
    from vidgen.data.curation.duplicates import MAX_DISTANCE
    from vidgen.data.curation.filters import Filters

    check_output(output)
    if output.suffix.lower() != ".jsonl":
        raise VidgenError(f"{output}: manifests are written as lines of JSON; name a file .jsonl")
    filters = Filters(
        min_motion=min_motion,
        max_motion=max_motion,
        min_sharpness=min_sharpness,
        min_seconds=min_seconds,
        max_seconds=max_seconds,
        single_scene=single_scene,
        drop_duplicates=drop_duplicates,
    )
    with progress(source.name, None) as advance:
        distance = MAX_DISTANCE if max_distance is None else max_distance
        report = curate_clips(source, output, filters, fps=fps, max_distance=distance, progress=advance)
    if json:
        print_json({"path": str(output), "fps": fps, **asdict(report)})
        return
    for item in report.drops:
        print(f"dropped {item['id']}: {item['reason']}")
    if not report.has_cuts:
        print("cuts are not counted: PySceneDetect is not installed (pip install 'vidgen[scenedetect]')")
    counts = ", ".join(f"{count} by {name}" for name, count in report.dropped.items()) or "none"
    alike = pluralize(report.duplicates, "near-duplicate")
    print(f"{output}: {report.kept} of {pluralize(report.clips, 'clip')}; dropped {counts}; {alike}")
