"""`vidgen evaluate moments`: how well the spans of films where a text is true are found."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.option_sets import HardwareOptions, with_option_sets
from vidgen.scripts.cli.options import BatchOption, JsonOption, MaxObjectsOption, SeedOption
from vidgen.scripts.cli.outputs import check_output
from vidgen.scripts.cli.printing import (
    describe_memory,
    format_interval,
    note,
    peak_memory_mb,
    print_json,
    print_table,
    progress,
)

if TYPE_CHECKING:
    from vidgen.representations.moments.evaluation import LocatedMoments
    from vidgen.representations.moments.metrics import MomentScores
    from vidgen.representations.moments.moment_files import MomentQuery

SHOWN = ("R1@0.5", "R1@0.7", "R5@0.5")
MAIN = "similarity, cuts"  # the method whose predictions are written


@with_option_sets
def moments(
    *,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME|DIR", help="A dual encoder: a shipped name, a folder or a hub id."),
    ] = None,
    films: Annotated[int, typer.Option(min=1, max=10**6, help="How many films of the world to measure on.")] = 10,
    clips: Annotated[int, typer.Option(min=1, max=10**5, help="How many clips a film has.")] = 30,
    stretch: Annotated[
        float, typer.Option(min=1, max=100, help="The longest clip of a film, in lengths of the shortest.")
    ] = 1.5,
    max_objects: MaxObjectsOption = 1,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|DIR", help="Measure on these annotations instead, or on the one .jsonl of a folder."
        ),
    ] = None,
    layout: Annotated[str, typer.Option(help="The layout of --data; see `vidgen data import`.")] = "qvhighlights",
    videos: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The videos of --data. Default: the folder that it is in.")
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(metavar="JSONL", help="Score these predictions of --data, ours or lighthouse's; no model needed."),
    ] = None,
    write: Annotated[
        Path | None, typer.Option(metavar="JSONL", help="Also write what was found by similarity and cuts.")
    ] = None,
    seed: SeedOption = 0,
    batch_size: BatchOption = 16,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Measure recall and mAP of spans found by similarity, without training, beside baselines that see no film.

    Films of the world are held-out clips in a row; a caption's true spans are all those of clips that it is true of.
    Example: vidgen evaluate moments --model NAME --films 10
    """
    if predictions is not None and data is None:
        raise VidgenError("--predictions needs the annotations that they are of; give --data")
    if (model is None) == (predictions is None):
        raise VidgenError("nothing to measure, or two things: give either --model or --predictions")
    if write is not None:
        check_output(write)
    report: dict[str, Any] = {"model": model, "seed": seed}
    if predictions is not None:
        scores, skipped = score_file(predictions, *read_data(data, layout))
        report |= {"predictions": str(predictions), "data": str(data)}
    else:
        located = locate_data(
            model, hardware.settings(), data, layout, videos, seed, batch_size,
            world={"films": films, "clips": clips, "stretch": stretch, "max_objects": max_objects},
        )  # fmt: skip
        scores, skipped = located.score(), located.skipped
        report |= {"data": None if data is None else str(data), "queries": len(located.queries)}
        report |= {"films": len({query.video for query in located.queries})}
        if write is not None:
            from vidgen.representations.moments.moment_files import write_predictions

            write_predictions(write, located.predictions[MAIN])
    report |= {"scores": {name: describe_scores(score) for name, score in scores.items()}}
    report |= {"skipped": [{"where": where, "reason": reason} for where, reason in skipped]}
    if json:
        print_json(report | {"peak_mb": peak_memory_mb()})
        return
    show(report, scores)


def locate_data(
    model: str,
    settings: dict[str, Any],
    data: Path | None,
    layout: str,
    videos: Path | None,
    seed: int,
    batch_size: int,
    *,
    world: dict[str, Any],
) -> LocatedMoments:
    """Return what all methods find, on annotated videos where there is `data`, else on films of the world."""
    from vidgen.data.shapes.films import FilmConfig
    from vidgen.models.text_video.loading import load_text_video_encoder
    from vidgen.representations.language.world_clips import world_config
    from vidgen.representations.moments import evaluation
    from vidgen.representations.moments.film_features import window_format

    encoder = load_text_video_encoder(model, **settings)
    form = window_format(encoder)
    if data is not None:
        queries, skipped = read_data(data, layout)
        folder = videos or (data if data.is_dir() else data.parent)
        tasks = evaluation.annotated_films(encoder, queries, folder, form, batch_size=batch_size, skipped=skipped)
        total, bounds = len({query.video for query in queries if query.spans}), None
    else:
        config = FilmConfig(
            world=world_config(encoder, max_objects=world["max_objects"], seed=seed),
            num_clips=world["clips"],
            stretch=world["stretch"],
        )
        tasks, skipped = evaluation.world_films(encoder, config, world["films"], form, batch_size), []
        total, bounds = world["films"], evaluation.train_bounds(config)
    with progress("films", total) as advance:
        located = evaluation.locate_moments(encoder, tasks, skipped=skipped, progress=advance)
    evaluation.add_baselines(located, bounds, seed)
    return located


def read_data(data: Path, layout: str) -> tuple[list[MomentQuery], list[tuple[str, str]]]:
    """Return the queries of a file of annotations, or of the only .jsonl of a folder, and the entries left out."""
    from vidgen.data.annotations.report import ReadReport
    from vidgen.representations.moments.moment_files import read_queries

    if data.is_dir():
        files = sorted(data.glob("*.jsonl"))
        if len(files) != 1:
            raise VidgenError(f"{data}: has {len(files)} .jsonl files; name the one with the annotations")
        data = files[0]
    report = ReadReport()
    queries = read_queries(layout, data, report)
    return queries, list_skips(report)


def list_skips(report: Any) -> list[tuple[str, str]]:
    """Return the entries that could not be read, the first ones each with its reason, and a count of the others."""
    skips = list(report.skips)
    if report.skipped > len(skips):
        skips.append((f"{report.skipped - len(skips)} more entries", "as those above"))
    return skips


def score_file(
    file: Path, queries: list[MomentQuery], skipped: list[tuple[str, str]]
) -> tuple[dict[str, MomentScores], list[tuple[str, str]]]:
    """Return the scores of a file of predictions, and the entries left out of both files."""
    from vidgen.data.annotations.report import ReadReport
    from vidgen.representations.moments.metrics import score_spans
    from vidgen.representations.moments.moment_files import match_predictions, read_predictions

    report = ReadReport()
    kept, matched = match_predictions(queries, list(read_predictions(file, report)))
    scores = score_spans(
        [query.spans for query in kept], [one.spans for one in matched], [query.video for query in kept]
    )
    return {file.name: scores}, skipped + list_skips(report)


def describe_scores(scores: MomentScores) -> dict[str, Any]:
    """Return scores as plain data."""
    return {
        "recall": {name: asdict(mean) for name, mean in scores.recall.items()},
        "average_precision": {f"{iou:g}": asdict(mean) for iou, mean in scores.average_precision.items()},
        "mean_average_precision": asdict(scores.mean_average_precision),
        "mean_iou": asdict(scores.mean_iou),
    }


def show(report: dict[str, Any], scores: dict[str, MomentScores]) -> None:
    """Print a line for each way to find moments."""
    for skip in report["skipped"]:
        note(f"left out: {skip['where']}: {skip['reason']}")
    rows = []
    for name, score in scores.items():
        cells = [f"{score.recall[key].mean:.3f} ({format_interval(score.recall[key].interval)})" for key in SHOWN]
        average = score.mean_average_precision
        rows.append((name, *cells, f"{average.mean:.3f} ({format_interval(average.interval)})"))
    first = next(iter(scores.values())).mean_iou.n
    where = f" in {report['films']} films" if "films" in report else ""
    print_table(f"moments of {first} queries{where}", ("by", *(f">{key}" for key in SHOWN), ">mAP"), rows)
    print(f"95% intervals over films{describe_memory()}")
