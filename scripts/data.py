"""`vidgen data`: look at a data set before using it; make one of the synthetic world."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.options import FpsOption, JsonOption, SeedOption, SizeOption, check_rate, parse_size
from vidgen.scripts.cli.outputs import check_output
from vidgen.scripts.cli.printing import print_json, print_table, progress

if TYPE_CHECKING:
    import numpy as np

    from vidgen.data.shapes import ShapeWorld
    from vidgen.data.shapes.scenes import SceneWorld

Scene = Literal["reversal", "order", "occlusion", "collision", "rate"]

app = typer.Typer(no_args_is_help=True, help="Data sets: inspect one, or synthesize one.")


@app.command()
def inspect(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of clips, a manifest, or one clip.")],
    num_frames: Annotated[int | None, typer.Option(min=1, help="Drop clips with fewer frames than this.")] = None,
    fps: FpsOption = None,
    full: Annotated[
        bool, typer.Option("--full/--first", help="Decode every frame, or the first alone (quick; misses late damage).")
    ] = True,
    json: JsonOption = False,
) -> None:
    """Show what of a data set is kept, and what is dropped and why.

    Example: vidgen data inspect clips --num-frames 17 --fps 8
    """
    check_rate(fps)

    from vidgen.data.validation import validate_source

    with progress(source.name, None) as moved:
        report = validate_source(
            source,
            num_frames=num_frames,
            fps=fps,
            decode="full" if full else "first",
            progress=moved,
        )
    print_json(report) if json else print_inspection(source, report)


def print_inspection(source: Path, report: dict[str, Any]) -> None:
    rows = []
    for clip in report["clips"]:
        size, length = f"{clip['width']}x{clip['height']}", f"{clip['seconds']:.2f}"
        about = "; ".join(clip["warnings"]) or clip["caption"] or clip["label"] or ""
        rows.append((clip["id"], "kept", clip["frames"], size, f"{clip['fps']:g}", length, clip["codec"], about))
    for drop in report["dropped"]:
        rows.append((Path(drop["path"]).name, "dropped", "", "", "", "", "", drop["reason"]))
    columns = ("clip", "", ">frames", ">size", ">fps", ">seconds", "codec", "remarks")
    print_table(str(source), columns, rows)
    kept = f"{report['kept']} kept ({report['frames']} frames, {report['hours'] * 60:.2f} minutes)"
    print(f"{kept}, {len(report['dropped'])} dropped")


@app.command()
def synthesize(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR|FILE", help="A new or empty folder, or a video to be made.")
    ],
    count: Annotated[int, typer.Option("--count", min=1, help="How many clips.")],
    num_frames: Annotated[int, typer.Option(min=1, help="Of each clip.")] = 17,
    size: SizeOption = "64",
    fps: Annotated[int, typer.Option(min=1, max=1000)] = 8,
    max_objects: Annotated[int, typer.Option(min=1, max=2, help="Moving shapes in a clip.")] = 1,
    scene: Annotated[Scene | None, typer.Option(help="Groups of clips that differ in one thing only.")] = None,
    split: Annotated[
        Literal["train", "held_out"], typer.Option(help="Two streams of clips that never meet.")
    ] = "train",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Write clips of moving shapes with captions (x.mp4 + x.txt) and exact labels (labels.jsonl, a manifest whose
    columns are tasks for probes: colour, shape, motion, direction, position, velocity, speed, count, order and others).

    --scene makes groups of clips that are alike but for what is asked: reversal (do they run forward or backward),
    order (which of two acts first), occlusion (what is hidden, when, for how long), collision (do two meet, when) and
    rate (frames a second). The column `group` keeps such clips on one side of a split.

    A name such as film.mp4 gets them as one film, one after the other, and no more than that.
    Example: vidgen data synthesize -o shapes --count 100
    """
    from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig
    from vidgen.data.shapes.scenes import SceneWorld
    from vidgen.data.writing import H264_SUFFIXES, LOSSLESS_SUFFIXES

    if scene and max_objects != 1:
        raise VidgenError("--max-objects is of clips without --scene; a scene has the objects that it needs")
    whole = output.suffix.lower() in H264_SUFFIXES + LOSSLESS_SUFFIXES
    check_output(output, folder=not whole)

    height, width = parse_size(size) or (64, 64)
    try:
        config = ShapeWorldConfig(
            height=height, width=width, num_frames=num_frames, fps=fps, max_objects=max_objects, split=split, seed=seed
        )
        world = SceneWorld(scene, config) if scene else ShapeWorld(config)
    except ValueError as error:
        raise VidgenError(f"no such world can be made: {error}") from None
    (write_film if whole else write_clips)(world, count, output)
    frames = count * num_frames
    if json:
        print_json({"path": str(output), "clips": count, "frames": frames, "seed": seed, "split": split})
        return
    kind = f"{height}x{width} at {fps} fps"
    if whole:
        print(f"{output}: {frames} frames ({frames / fps:g} s) of {kind}, {count} clips one after the other")
    else:
        print(f"{output}: {count} clips of {num_frames} frames, {kind}, with captions and labels.jsonl")


def write_clips(world: ShapeWorld | SceneWorld, count: int, output: Path) -> None:
    """The first `count` clips of the world as a folder of clips, captions and labels."""
    from vidgen.checkpoints.atomic import atomic_write
    from vidgen.data.shapes import label_tasks
    from vidgen.data.shapes.scenes import SceneClip
    from vidgen.data.writing import write_video

    digits = max(5, len(str(count - 1)))
    with atomic_write(output) as folder, progress(str(output), count) as moved:
        folder.mkdir()
        with (folder / "labels.jsonl").open("w", encoding="utf-8") as labels:
            for index in range(count):
                clip, name = world[index], f"{index:0{digits}d}"
                write_video(clip.video, folder / f"{name}.mp4", fps=world.config.fps)
                (folder / f"{name}.txt").write_text(clip.caption + "\n", encoding="utf-8")
                tasks = label_tasks(clip.labels, world.config)
                if isinstance(clip, SceneClip):
                    tasks |= clip.tasks | {"group": clip.group}
                row = {"path": f"{name}.mp4", "caption": clip.caption, **tasks, "labels": clip.labels.to_dict()}
                labels.write(json_format.dumps(row) + "\n")
                moved(index + 1)


def write_film(world: ShapeWorld | SceneWorld, count: int, output: Path) -> None:
    """The same clips one after the other in one video, in the memory of one of them."""
    from vidgen.data.writing import write_video

    with progress(str(output), count) as moved:

        def clips() -> Iterator[np.ndarray]:
            for index in range(count):
                yield world[index].video
                moved(index + 1)

        write_video(clips(), output, fps=world.config.fps)


if __name__ == "__main__":
    from vidgen.scripts.main import main_of

    main_of("data")
