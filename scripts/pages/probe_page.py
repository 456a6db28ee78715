"""The page of `vidgen probe --report`: scores beside their baselines, what is mistaken for what, neighbors, clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vidgen.errors import VidgenError
from vidgen.files.atomic import atomic_write
from vidgen.representations.extractor import feature_key
from vidgen.representations.probes import PROBES, ProbeTask, choose_and_score
from vidgen.representations.probes.rows import features_for, is_model
from vidgen.representations.probes.sweep import best_rows
from vidgen.representations.probes.task import read_cell
from vidgen.representations.search.retrieval import similarities
from vidgen.scripts.cli.printing import pluralize, shorten_paths
from vidgen.scripts.pages import figures
from vidgen.scripts.pages.clip_shelf import ClipShelf
from vidgen.scripts.pages.rendering import render_page
from vidgen.scripts.plots.sweep import best_row

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank

PAGE = "index.html"
QUERIES = 5
NEIGHBORS = 5
MISTAKES = 12
HIDDEN = ("keys", "layers", "banks", "source", "preprocessing")  # of the meta: long, or said in another place
Table = tuple[Sequence[str], Sequence[Sequence[object]], Sequence[str]]  # columns, rows, the CSS class of each row


@dataclass(frozen=True, kw_only=True)
class ProbeReport:
    """What a page is about: all rows, the model's best row on validation, its task, and the predictions of that probe
    for the clips of the test split, in their order."""

    bank: FeatureBank
    rows: list[dict[str, Any]]
    best: dict[str, Any]
    task: ProbeTask
    predictions: np.ndarray


@dataclass(frozen=True, kw_only=True)
class PageClip:
    """A clip on a page: the data URI of its frames (None where they are gone), its title, a note and a CSS class."""

    source: str | None
    title: str
    note: str
    kind: str = ""


def fit_best_probe(bank: FeatureBank, rows: list[dict[str, Any]], task: ProbeTask, seed: int) -> ProbeReport:
    """Fit the model's best probe once more, for its predictions. Raises VidgenError where all rows are baselines."""
    if all(row["baseline"] for row in rows):
        raise VidgenError(f"{bank.folder} has no features of a model to report on; name some by --layers")
    best = best_row(rows, baseline=False)
    probe = PROBES[best["kind"]]
    features = features_for(bank, feature_key(best["layer"], best["noise_level"]), probe)
    score = choose_and_score(probe, features, task, seed=seed)
    return ProbeReport(bank=bank, rows=rows, best=best, task=task, predictions=score.predictions)


def write_probe_page(report: ProbeReport, folder: Path) -> Path:
    """Write folder/index.html, in place of one that is there, and return its path."""
    shelf = ClipShelf(report.bank)
    best = report.best
    best_of_families = best_rows(report.rows)
    text = render_page(
        "probe_page.html",
        title=f"{best['task']}: what the features know",
        subtitle=f"{best['kind']} probe of {report.bank.folder.name}, {pluralize(len(report.bank), 'clip')}",
        summary=summarize(report),
        scores={
            "svg": figures.draw_scores(best_of_families),
            "best": score_table(report, best_of_families),
            "all": score_table(report, report.rows),
        },
        heat_map=figures.draw_heat_map([row for row in report.rows if is_model(row["layer"])]),
        answers=compare_answers(report, shelf),
        neighbors=list_neighbors(report, shelf),
        facts=list_facts(report),
    )
    folder.mkdir(exist_ok=True)
    with atomic_write(folder / PAGE) as aside:
        aside.write_text(text, encoding="utf-8")
    return folder / PAGE


def summarize(report: ProbeReport) -> str:
    """Return a few sentences: the best score, the best baseline, and the temporal gain where it was measured."""
    best = report.best
    baselines = [row for row in report.rows if row["baseline"]]
    metric = figures.METRIC_NAMES.get(best["metric"], best["metric"])
    sentences = [
        f"Best on validation is {figures.short_name(best)}: {metric} {best['test']:.3f} on the test split, "
        f"95% interval {interval(best)}."
    ]
    if baselines:
        other = best_row(baselines, baseline=True)
        line = f"The best baseline, {figures.short_name(other)}, has {other['test']:.3f} ({interval(other)})"
        if best["ci"] is not None and other["ci"] is not None:
            apart = best["ci"][0] > other["ci"][1] or best["ci"][1] < other["ci"][0]
            line += f": the two intervals {'do not overlap' if apart else 'overlap'}"
        sentences.append(f"{line}.")
    if "temporal_gain" in best:
        gain = best["temporal_gain"]
        spread = interval(best, "temporal_gain_ci", "+.3f")
        sentences.append(
            f"With the frames of every clip in random order the same features have {best['test'] - gain:.3f}: "
            f"a temporal gain of {gain:+.3f} ({spread})."
        )
    return " ".join(sentences)


def interval(row: dict[str, Any], name: str = "ci", digits: str = ".3f") -> str:
    """Return the confidence interval of a row as text."""
    if row[name] is None:
        return "of one group, which has none"
    low, high = row[name]
    return f"{low:{digits}} to {high:{digits}}"


def score_table(report: ProbeReport, rows: Sequence[dict[str, Any]]) -> Table:
    """Return the table of rows: the best one marked, baselines gray."""
    has_gains = any("temporal_gain" in row for row in rows)
    columns = ("features", ">noise", ">validation", ">test", ">95% interval", *[">temporal gain"] * has_gains)
    cells, kinds = [], []
    for row in rows:
        level = "" if row["noise_level"] is None else f"{row['noise_level']:g}"
        gain = [f"{row['temporal_gain']:+.3f}" if "temporal_gain" in row else ""] * has_gains
        cells.append((row["layer"], level, f"{row['validation']:.3f}", f"{row['test']:.3f}", interval(row), *gain))
        kinds.append("best" if row is report.best else "baseline" if row["baseline"] else "")
    return columns, cells, kinds


def compare_answers(report: ProbeReport, shelf: ClipShelf) -> dict[str, Any]:
    """Return what the page shows of the predictions beside the truth: a figure or a table, and the mistakes."""
    task, predictions = report.task, report.predictions
    truth = task.y[task.test]
    if task.target_type == "regression":
        svg = figures.draw_numbers(truth, predictions, task.name)
        return {"svg": svg, "caption": "Every point is a clip of the test split.", "mistakes": []}
    if task.target_type == "multilabel":
        return {"svg": None, "table": word_table(task, truth, predictions), "mistakes": []}
    from sklearn.metrics import confusion_matrix

    classes = sorted({*map(str, truth), *map(str, predictions)})
    counts = confusion_matrix(truth.astype(str), predictions.astype(str), labels=classes)
    triples = zip(task.test, truth, predictions, strict=True)
    mistakes = [(row, label, answer) for row, label, answer in triples if label != answer]
    bank = report.bank
    names = shorten_paths(bank.ids)
    return {
        "svg": figures.draw_confusion(counts, classes),
        "caption": "Clips of the test split: truth down, the probe's answer across.",
        "mistake_count": f"{len(mistakes)} of {len(truth)} clips",
        "mistakes": [
            PageClip(
                source=shelf.draw(bank.rows[row]), title=f"{answer}?", note=f"is {label}; {names[row]}", kind="bad"
            )
            for row, label, answer in mistakes[:MISTAKES]
        ],
    }


def word_table(task: ProbeTask, truth: np.ndarray, predictions: np.ndarray) -> Table:
    """Return counts, precision and recall of every word of a multilabel task."""
    rows = []
    for k, word in enumerate(task.words):
        right = int((truth[:, k] & predictions[:, k]).sum())
        relevant, answered = int(truth[:, k].sum()), int(predictions[:, k].sum())
        shares = (f"{right / count:.2f}" if count else "" for count in (answered, relevant))
        rows.append((word, relevant, answered, right, *shares))
    return ("word", ">clips with it", ">answers", ">right", ">precision", ">recall"), rows, ()


def list_neighbors(report: ProbeReport, shelf: ClipShelf) -> dict[str, Any]:
    """Return clips of the test split, one a class as far as they go, each with the nearest ones of train."""
    bank, task, best = report.bank, report.task, report.best
    features = bank.X(feature_key(best["layer"], best["noise_level"]))
    labels = np.array(bank.column(task.name), dtype=object)
    queries = one_of_each(task.test, labels)[:QUERIES]
    is_class = task.target_type != "regression"
    names = shorten_paths(bank.ids)

    def tile(row: int, kind: str, score: str = "") -> PageClip:
        return PageClip(
            source=shelf.draw(bank.rows[row]),
            title=spell(read_cell(labels[row])),
            note=score + names[row],
            kind=kind,
        )

    rows = []
    for query, scores in zip(queries, similarities(features, np.array(queries), task.train), strict=True):
        tiles = [tile(query, "query")]
        for number in np.argsort(-scores, kind="stable")[:NEIGHBORS]:
            row = task.train[number]
            kind = ("good" if labels[row] == labels[query] else "bad") if is_class else ""
            tiles.append(tile(row, kind, f"{scores[number]:.3f}; "))
        rows.append(tiles)
    return {
        "caption": "Clips of the test split (dark frame) and those of train that are nearest to them by cosine in "
        f"{figures.short_name(best)}.{f' Green: the same {task.name}.' if is_class else ''}",
        "rows": rows,
        "absent": ""
        if shelf.records
        else f"The clips themselves are not at {', '.join(shorten_paths(shelf.sources)) or 'their source'} any more.",
    }


def spell(value: Any) -> str:
    """Return a value for people: numbers with three digits, lists without brackets, "none" for nothing."""
    parts = value if isinstance(value, list | tuple) else [value]
    if not parts or value in ("", None):
        return "none"
    return ", ".join(f"{part:.3g}" if isinstance(part, float) else str(part) for part in parts)


def one_of_each(rows: Sequence[int], labels: np.ndarray) -> list[int]:
    """Return `rows` in another order: the first of every label, then the second, and so on."""
    counts: dict[Any, int] = {}
    ranks = []
    for row in rows:
        ranks.append(counts.get(labels[row], 0))
        counts[labels[row]] = ranks[-1] + 1
    return [int(row) for _, row in sorted(zip(ranks, rows, strict=True), key=lambda pair: pair[0])]


def list_facts(report: ProbeReport) -> list[tuple[str, str]]:
    """Return how the page was made: names and what they are."""
    best, meta = report.best, report.bank.meta
    facts = [
        ("probe", f"{best['kind']}, setting {spell(best['choice'])}"),
        ("chosen on", "validation, in the table; the test split was not looked at for it"),
        ("split", best["split"]),
        ("learned from", f"{best['train_clips']} clips in {best['train_groups']} groups"),
        ("reported on", f"{best['test_clips']} clips in {best['test_groups']} groups"),
        ("intervals", "percentile bootstrap over groups"),
        *((name.replace("_", " "), spell(value)) for name, value in meta.items() if name not in HIDDEN),
        *((f"frames: {name.replace('_', ' ')}", spell(value)) for name, value in meta.get("preprocessing", {}).items()),
    ]
    return list(zip((name for name, _ in facts), shorten_paths([value for _, value in facts]), strict=True))
