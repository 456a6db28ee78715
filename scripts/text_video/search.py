"""`vidgen retrieve CLIPS --text`: which clips, and when in them, a text is nearest to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidgen.errors import VideoError, VidgenError
from vidgen.scripts.cli.moments import format_time
from vidgen.scripts.cli.outputs import check_plot
from vidgen.scripts.cli.printing import describe_memory, note, pluralize, print_json, print_table, progress


@dataclass(frozen=True, kw_only=True)
class TextHit:
    """A clip by its path, the window of it that a text is nearest to, in seconds, and the score there."""

    path: Path
    start: float
    end: float
    score: float


def search_clips(
    source: Path, texts: list[str], model: str, *, top_k: int = 5, settings: dict[str, Any] | None = None
) -> tuple[list[list[TextHit]], list[str], int]:
    """Return for each text the `top_k` clips that it is nearest to, the best first, each by its best window; the clips
    that cannot be read, with the reason; and how many were searched.

    Raises VidgenError for texts without words, for a model without texts, and where no clip can be read.
    """
    from vidgen.data.manifests import find_clips
    from vidgen.models.text_video.loading import load_text_video_encoder
    from vidgen.representations.moments.curves import score_texts
    from vidgen.representations.moments.film_features import embed_film, window_format

    if blank := [text for text in texts if not text.strip()]:
        raise VidgenError(f"--text {blank[0]!r} says nothing to look for; give words such as 'a red circle moves up'")
    paths = list(dict.fromkeys(Path(record.path) for record in find_clips(source)))
    encoder = load_text_video_encoder(model, **(settings or {}))
    hits: list[list[TextHit]] = [[] for _ in texts]
    unread = []
    with progress(str(source), len(paths)) as advance:
        for number, path in enumerate(paths, 1):
            try:
                features = embed_film(encoder, path, window_format(encoder))
            except VideoError as error:
                unread.append(f"{path.name} ({error})")
                continue
            for row, scores in zip(hits, score_texts(encoder, features, texts), strict=True):
                best = int(scores.argmax())
                start, end = features.bounds[best].tolist()
                row.append(TextHit(path=path, start=start, end=end, score=float(scores[best])))
            advance(number)
    if not hits[0]:
        raise VidgenError(f"{source}: none of {pluralize(len(paths), 'clip')} can be read: {unread[0]}")
    return [sorted(row, key=lambda hit: -hit.score)[:top_k] for row in hits], unread, len(hits[0])


def search_by_text(
    source: Path,
    texts: list[str],
    model: str | None,
    *,
    top_k: int,
    sheet: Path | None,
    json: bool,
    settings: dict[str, Any],
) -> None:
    """Search clips by texts, and print or draw what is nearest. Raises VidgenError as `search_clips`."""
    if model is None:
        raise VidgenError(
            "--text needs --model, a dual encoder: a folder of `vidgen train align`, or of CLIP or X-CLIP"
        )
    if sheet is not None:
        check_plot(sheet)
    hits, unread, count = search_clips(source, texts, model, top_k=top_k, settings=settings)
    for line in unread:
        note(f"left out: {line}")
    if sheet is not None:
        draw_hits(texts, hits, sheet)
    if json:
        rows = [[{**vars(hit), "path": str(hit.path)} for hit in row] for row in hits]
        print_json({"model": model, "clips": count, "left_out": unread, "hits": dict(zip(texts, rows, strict=True))})
        return
    cells = []
    for text, row in zip(texts, hits, strict=True):
        for rank, hit in enumerate(row, 1):
            times = (format_time(hit.start), format_time(hit.end))
            cells.append((text if rank == 1 else "", rank, hit.path.name, *times, f"{hit.score:.3f}"))
    print_table(f"nearest in {source}", ("text", ">rank", "clip", ">from", ">to", ">score"), cells)
    print(f"{pluralize(count, 'clip')} searched{describe_memory()}")


def draw_hits(texts: list[str], hits: list[list[TextHit]], sheet: Path) -> None:
    """Draw a line of frames for each clip of each text."""
    from vidgen.scripts.plots.moment_sheet import MomentLine, draw_moments

    lines = []
    for number, row in enumerate(hits, 1):
        for rank, hit in enumerate(row, 1):
            which = f"{number}: " if len(texts) > 1 else ""
            label = f"{which}#{rank}, {hit.score:.2f}\n{hit.path.name[:24]}"
            lines.append(MomentLine(label=label, start=hit.start, end=hit.end, path=hit.path))
    title = texts[0] if len(texts) == 1 else "; ".join(f"{number}: {text}" for number, text in enumerate(texts, 1))
    draw_moments(hits[0][0].path, lines, title, sheet)
