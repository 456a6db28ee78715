"""`vidgen locate`: when in a film a text is true."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.bounds import FPS, SECONDS
from vidgen.errors import VidgenError
from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.moments import format_time
from vidgen.scripts.cli.option_sets import HardwareOptions, with_option_sets
from vidgen.scripts.cli.options import AllowDamagedOption, BatchOption, JsonOption
from vidgen.scripts.cli.outputs import check_output, check_plot
from vidgen.scripts.cli.printing import describe_memory, peak_memory_mb, print_json, print_table, progress

if TYPE_CHECKING:
    from vidgen.interfaces import TextVideoEncoder
    from vidgen.representations.moments.curves import SimilarityCurve
    from vidgen.representations.moments.film_features import FilmFeatures
    from vidgen.representations.moments.spans import Span


@with_option_sets
def locate(
    *,
    film: Annotated[Path, typer.Argument(metavar="FILM", help="A film of any length, or a folder of its frames.")],
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="What is true at the moments to find.")],
    model: Annotated[
        str, typer.Option("--model", metavar="NAME|DIR", help="A dual encoder: a shipped name, a folder or a hub id.")
    ],
    top_k: Annotated[int, typer.Option(min=1, max=10_000, help="How many spans to name of each text.")] = 5,
    adapt: Annotated[
        bool, typer.Option("--adapt", help="Adapt each text to the film by what is most like it.")
    ] = False,
    summary: Annotated[
        float | None,
        typer.Option(**SECONDS.limits, help="Also name what says most of each text within so many seconds."),
    ] = None,
    chapters: Annotated[bool, typer.Option("--chapters", help="Also part the film where it changes.")] = False,
    fps: Annotated[
        float | None, typer.Option("--fps", **FPS.limits, help="Take frames at this rate. Default: the model's.")
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(min=1, max=10**6, help="Frames from one window to the next. Default: a quarter of a window."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="JSONL", help="Write the spans as lines of JSON, as QVHighlights does."),
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Also draw frames of the spans with their times.")
    ] = None,
    allow_damaged: AllowDamagedOption = False,
    batch_size: BatchOption = 16,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Find when in a film a text is true, by its similarity to windows of the film, without training.

    Memory does not grow with the film but for a vector a window. Scores are correlations with what a perfect moment
    would give. Example: vidgen locate film.mp4 "a red circle moves up" --model NAME --sheet moments.png
    """
    from vidgen.models.text_video.loading import load_text_video_encoder
    from vidgen.representations.moments.film_features import embed_film, window_format

    if output is not None:
        check_output(output)
    if sheet is not None:
        check_plot(sheet)
    if blank := [text for text in texts if not text.strip()]:
        raise VidgenError(f"{blank[0]!r} says nothing to look for; give a text such as 'a red circle moves up'")
    encoder = load_text_video_encoder(model, **hardware.settings())
    form = window_format(encoder, fps=fps, stride=stride)
    with progress(str(film), None) as advance:
        features = embed_film(encoder, film, form, allow_damaged=allow_damaged, batch_size=batch_size, progress=advance)
    moments = find_moments(encoder, features, texts, top_k, adapt, summary)
    report = {"model": model, "film": str(film), "duration": features.duration, "windows": len(features)}
    report["queries"] = [describe_moment(*moment) for moment in zip(texts, moments, strict=True)]
    if chapters:
        from vidgen.representations.moments.segmentation import segment_film

        report["chapters"] = [[span.start, span.end] for span in segment_film(features)]
    if output is not None:
        write_moments(output, film, texts, moments)
    if sheet is not None:
        draw_sheet(film, texts, moments, sheet)
    if json:
        print_json(report | {"peak_mb": peak_memory_mb()})
        return
    show(report)


def find_moments(
    encoder: TextVideoEncoder,
    features: FilmFeatures,
    texts: list[str],
    top_k: int,
    adapt: bool,
    summary: float | None,
) -> list[tuple[list[Span], SimilarityCurve, Any]]:
    """Return for each text its spans, its curve, and the summary of so many seconds, None where none is asked for."""
    from vidgen.representations.moments.curves import make_curves
    from vidgen.representations.moments.localization import LocalizationConfig, locate_on_curve
    from vidgen.representations.moments.refinement import Refinement, refine_curve
    from vidgen.representations.moments.segmentation import find_cuts, segment_film
    from vidgen.representations.moments.summaries import summarize

    cuts = find_cuts(features.changes, features.format.fps).tolist()
    config = LocalizationConfig(top_k=top_k)
    segments = segment_film(features) if summary is not None else []
    moments = []
    for curve in make_curves(encoder, features, texts):
        if adapt:
            curve = refine_curve(curve, features.vectors, Refinement())
        digest = None if summary is None else summarize(segments, curve, summary)
        moments.append((locate_on_curve(curve, cuts, config), curve, digest))
    return moments


def describe_moment(text: str, moment: tuple[list[Span], SimilarityCurve, Any]) -> dict[str, Any]:
    """Return the spans of a text as plain data."""
    spans, _, digest = moment
    cells: dict[str, Any] = {
        "text": text,
        "spans": [{"start": span.start, "end": span.end, "score": span.score} for span in spans],
    }
    if digest is not None:
        cells["summary"] = {"seconds": digest.seconds, "spans": [[span.start, span.end] for span in digest.spans]}
    return cells


def write_moments(output: Path, film: Path, texts: list[str], moments: list[tuple]) -> None:
    """Write a line of JSON for each text: its spans, and its saliency every two seconds."""
    from vidgen.representations.moments.localization import saliency_of
    from vidgen.representations.moments.moment_files import SALIENCY_SECONDS, MomentPrediction, write_predictions

    predictions = [
        MomentPrediction(
            qid=number,
            text=text,
            video=film.stem,
            spans=tuple(spans),
            saliency=tuple(saliency_of(curve, SALIENCY_SECONDS).tolist()),
        )
        for number, (text, (spans, curve, _)) in enumerate(zip(texts, moments, strict=True))
    ]
    write_predictions(output, predictions)


def draw_sheet(film: Path, texts: list[str], moments: list[tuple], sheet: Path) -> None:
    """Draw a line of frames for each span of each text."""
    from vidgen.scripts.plots.moment_sheet import MomentLine, draw_moments

    lines = []
    for number, (spans, *_) in enumerate(moments, 1):
        for rank, span in enumerate(spans, 1):
            which = f"{number}: " if len(texts) > 1 else ""
            label = f"{which}#{rank}, {span.score:.2f}\n{format_time(span.start)} to {format_time(span.end)}"
            lines.append(MomentLine(label=label, start=span.start, end=span.end))
    title = texts[0] if len(texts) == 1 else "; ".join(f"{number}: {text}" for number, text in enumerate(texts, 1))
    draw_moments(film, lines, title, sheet)


def show(report: dict[str, Any]) -> None:
    """Print a table of the spans of all texts."""
    rows = []
    for query in report["queries"]:
        for rank, span in enumerate(query["spans"], 1):
            times = (format_time(span["start"]), format_time(span["end"]))
            rows.append((query["text"] if rank == 1 else "", rank, *times, f"{span['score']:.3f}"))
    print_table(f"moments of {report['film']}", ("text", ">rank", ">from", ">to", ">score"), rows)
    for query in report["queries"]:
        if "summary" in query:
            spans = ", ".join(f"{format_time(start)} to {format_time(end)}" for start, end in query["summary"]["spans"])
            print(f"{query['summary']['seconds']:.1f} s on {query['text']!r}: {spans}")
    if "chapters" in report:
        print("chapters from " + ", ".join(format_time(start) for start, _ in report["chapters"]))
    print(f"{format_time(report['duration'])} of film in {report['windows']} windows{describe_memory()}")


if __name__ == "__main__":
    run_verb("locate", locate)
