"""`vidgen data`: inspect a data set before using it, import annotations, or synthesize clips of moving shapes."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vidgen.bounds import FRAMES
from vidgen.errors import VidgenError
from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.options import (
    AllowDamagedOption,
    FpsOption,
    JsonOption,
    MaxObjectsOption,
    SeedOption,
    parse_size,
)
from vidgen.scripts.cli.outputs import check_output
from vidgen.scripts.cli.printing import pluralize, print_json, print_table, progress
from vidgen.scripts.curation.curate import curate

if TYPE_CHECKING:
    import numpy as np

    from vidgen.data.shapes import ShapeWorld
    from vidgen.data.shapes.scenes import SceneWorld

MAX_LINES = 1000  # of a table, which takes a millisecond for each
DRAWING_BYTES = 24  # of each pixel of a clip; 27 to 80 are measured
Scene = Literal["reversal", "order", "occlusion", "collision", "rate"]

app = typer.Typer(no_args_is_help=True, help="Data sets: inspect one, import annotations of one, or synthesize one.")
app.command()(curate)


@app.command()
def inspect(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of clips, a manifest, or one clip.")],
    num_frames: Annotated[
        int | None,
        typer.Option(
            **FRAMES.limits, help="Drop clips with fewer frames than this. Default: drop none for its length."
        ),
    ] = None,
    fps: FpsOption = None,
    full: Annotated[
        bool,
        typer.Option("--full/--first", help="Decode every frame, or only the first: quick, and misses late damage."),
    ] = True,
    allow_damaged: AllowDamagedOption = False,
    json: JsonOption = False,
) -> None:
    """Show which clips of a data set can be used, and which are dropped and why.

    Example: vidgen data inspect clips --num-frames 17 --fps 8
    """

    from vidgen.data.validation import validate_source

    with progress(source.name, None) as advance:
        report = validate_source(
            source,
            num_frames=num_frames,
            fps=fps,
            decode="full" if full else "first",
            allow_damaged=allow_damaged,
            max_rows=None if json else MAX_LINES,
            progress=advance,
        )
    print_json(report) if json else print_inspection(source, report)


def print_inspection(source: Path, report: dict[str, Any]) -> None:
    """Print a line for every clip, and the totals."""
    rows = []
    for clip in report["clips"]:
        size = f"{clip['width']}x{clip['height']}"
        length = f"{clip['seconds']:.2f}"
        remark = "; ".join(clip["warnings"]) or clip["caption"] or clip["label"] or ""
        rows.append((clip["id"], "kept", clip["frames"], size, f"{clip['fps']:g}", length, clip["codec"], remark))
    for drop in report["dropped"]:
        rows.append((Path(drop["path"]).name, "dropped", "", "", "", "", "", drop["reason"]))
    columns = ("clip", "", ">frames", ">size", ">fps", ">seconds", "codec", "remarks")
    print_table(str(source), columns, rows)
    if len(rows) < report["total"]:
        print(f"the first {MAX_LINES} clips of each kind; --json has all")
    summary = f"{report['kept']} kept ({report['frames']} frames, {report['hours'] * 60:.2f} minutes)"
    print(f"{summary}, {report['total'] - report['kept']} dropped")


@app.command("import")
def import_layout(
    layout: Annotated[
        str, typer.Argument(metavar="LAYOUT", help="Whose annotations: msrvtt, didemo, ava, ... (below).")
    ],
    annotations: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of annotations in that layout.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="JSONL", help="The manifest to write, lines of JSON.")
    ],
    videos: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The folder with the videos, at any depth, by any suffix. Default: do not look for them.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Take this split alone (train, validation, test), and annotations that are of none as of it."
        ),
    ] = None,
    every_caption: Annotated[
        bool,
        typer.Option(
            "--every-caption", help="A row for each caption. Default: one row, by the first; `captions` has all."
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Write a manifest of a published data set's annotations: captions, labels, spans in seconds, and boxes.

    Lines that cannot be read and reversed spans are counted and named, and reading goes on; so are videos that are not
    in --videos. Spans become `start` and `end`, unless the folder has clips that are cut already.

    Layouts: activitynet_captions, ava, charades, charades_sta, coin, condensed_movies, didemo, finevideo, hmdb51,
    howto100m, internvid, kinetics, lsmdc, mad, msrvtt, msvd, msvd_indonesian, panda_70m, qvhighlights,
    something_something, ucf101, vatex, vidchapters, videoufo, vidgen_1m, youcook2.
    Example: vidgen data import didemo train_data.json -o didemo.jsonl --videos clips
    """
    from dataclasses import asdict

    from vidgen.data.annotations.importing import import_annotations

    check_output(output)
    if output.suffix.lower() != ".jsonl":
        raise VidgenError(f"{output}: manifests are written as lines of JSON; name a file .jsonl")
    report = import_annotations(layout, annotations, output, videos=videos, split=split, every_caption=every_caption)
    if json:
        print_json({"path": str(output), "layout": layout, **asdict(report)})
        return
    for skip in report.skips:
        print(f"passed over {skip['file']}, {skip['where']}: {skip['reason']}")
    if report.missing:
        more = ", ..." if report.missing_videos > len(report.missing) else ""
        print(f"not in {videos}: {', '.join(report.missing)}{more}")
    print(
        f"{output}: {pluralize(report.rows, 'row')} of {pluralize(report.videos, 'video')}; "
        f"{report.skipped} passed over ({report.bad_spans} for their spans), "
        f"{pluralize(report.missing_videos, 'video')} missing ({pluralize(report.missing_rows, 'annotation')})"
        + (f", {report.other_splits} of other splits" if split else "")
    )


@app.command()
def synthesize(
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR|FILE",
            help="A new or empty folder for the clips, or one video file for all of them.",
        ),
    ],
    count: Annotated[int, typer.Option(min=1, max=10**6, help="How many clips to make.")],
    num_frames: Annotated[int, typer.Option(**FRAMES.limits, help="Frames of each clip.")] = 17,
    size: Annotated[
        str, typer.Option(metavar="N|HxW", help="Height and width of the frames in pixels, as 64 or 64x96.")
    ] = "64",
    fps: Annotated[int, typer.Option(min=1, max=1000, help="Frames a second of the clips.")] = 8,
    max_objects: MaxObjectsOption = 1,
    scene: Annotated[
        Scene | None,
        typer.Option(help="Make groups of clips that differ in one thing only, see above. Default: single clips."),
    ] = None,
    split: Annotated[
        Literal["train", "held_out"], typer.Option(help="Which of two streams to take clips from; no clip is in both.")
    ] = "train",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Write clips of moving shapes, with captions and exact labels.

    A folder gets x.mp4 and x.txt of each clip, and labels.jsonl, a manifest whose columns are tasks for probes: colour,
    shape, motion, direction, position, velocity, speed, count, order and others.

    --scene makes groups of clips that differ in one thing only: reversal (forward or backward), order (which of two
    acts first), occlusion (what is hidden, when, for how long), collision (whether two meet, and when) and rate (frames
    a second). The column `group` keeps such clips on one side of a split.

    An output such as film.mp4 gets all clips one after the other in one video, without captions and labels.
    Example: vidgen data synthesize -o shapes --count 100
    """
    from vidgen.checkpoints.memory import check_bytes
    from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig
    from vidgen.data.shapes.scenes import SceneWorld
    from vidgen.data.writing import H264_SUFFIXES, LOSSLESS_SUFFIXES

    if scene and max_objects != 1:
        raise VidgenError("--max-objects is of clips without --scene; a scene has the objects that it needs")
    is_film = output.suffix.lower() in H264_SUFFIXES + LOSSLESS_SUFFIXES
    check_output(output, folder=not is_film)

    height, width = parse_size(size) or (64, 64)
    needed = DRAWING_BYTES * num_frames * height * width
    check_bytes(needed, f"drawing a clip of {num_frames}x{height}x{width}", "lower --num-frames or --size")
    try:
        config = ShapeWorldConfig(
            height=height, width=width, num_frames=num_frames, fps=fps, max_objects=max_objects, split=split, seed=seed
        )
        world = SceneWorld(scene, config) if scene else ShapeWorld(config)
    except ValueError as error:
        raise VidgenError(f"no such world can be made: {error}") from None
    (write_film if is_film else write_clips)(world, count, output)
    frames = count * num_frames
    if json:
        print_json({"path": str(output), "clips": count, "frames": frames, "seed": seed, "split": split})
        return
    kind = f"{height}x{width} at {fps} fps"
    clips = pluralize(count, "clip")
    if is_film:
        print(f"{output}: {frames} frames ({frames / fps:g} s) of {kind}, {clips} one after the other")
    else:
        print(f"{output}: {clips} of {num_frames} frames, {kind}, with captions and labels.jsonl")


def write_clips(world: ShapeWorld | SceneWorld, count: int, output: Path) -> None:
    """Write the first `count` clips of a world as a folder of clips, captions and labels."""
    from vidgen.data.shapes import label_tasks
    from vidgen.data.shapes.scenes import SceneClip
    from vidgen.data.writing import write_video
    from vidgen.files.atomic import atomic_write

    digits = max(5, len(str(count - 1)))
    with atomic_write(output) as folder, progress(str(output), count) as advance:
        folder.mkdir()
        with (folder / "labels.jsonl").open("w", encoding="utf-8") as labels:
            for index in range(count):
                clip = world[index]
                name = f"{index:0{digits}d}"
                write_video(clip.video, folder / f"{name}.mp4", fps=world.config.fps)
                (folder / f"{name}.txt").write_text(clip.caption + "\n", encoding="utf-8")
                tasks = label_tasks(clip.labels, world.config)
                if isinstance(clip, SceneClip):
                    tasks |= clip.tasks | {"group": clip.group}
                row = {"path": f"{name}.mp4", "caption": clip.caption, **tasks, "labels": clip.labels.to_dict()}
                labels.write(json_format.dumps(row) + "\n")
                advance(index + 1)


def write_film(world: ShapeWorld | SceneWorld, count: int, output: Path) -> None:
    """Write the same clips one after the other into one video, in the memory of one of them."""
    from vidgen.data.writing import write_video

    with progress(str(output), count) as advance:

        def clips() -> Iterator[np.ndarray]:
            for index in range(count):
                yield world[index].video
                advance(index + 1)

        write_video(clips(), output, fps=world.config.fps)


if __name__ == "__main__":
    run_verb("data", app)
