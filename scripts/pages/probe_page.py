"""The page of `vidgen probe --report`: scores beside their baselines, what is mistaken for what, neighbours, clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vidgen.checkpoints.atomic import atomic_write
from vidgen.errors import VidgenError
from vidgen.representations.extractor import feature_key
from vidgen.representations.probes import PROBES, ProbeTask, choose_and_score
from vidgen.representations.probes.rows import features_for, is_model
from vidgen.representations.probes.sweep import best_rows
from vidgen.representations.probes.task import read_cell
from vidgen.representations.search.retrieval import similarities
from vidgen.scripts.pages import figures, markup
from vidgen.scripts.pages.clip_shelf import ClipShelf
from vidgen.scripts.plots.sweep import best_row

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank

PAGE = "index.html"
QUERIES, NEIGHBOURS, MISTAKES = 5, 5, 12
HIDDEN = ("keys", "layers", "banks", "source", "preprocessing")  # of the meta: long, or said in another place


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a page is about: all rows, the best of the model's on validation, its task, and what it says of the clips
    of the test split, in their order."""

    bank: FeatureBank
    rows: list[dict[str, Any]]
    best: dict[str, Any]
    task: ProbeTask
    said: np.ndarray

    @property
    def key(self) -> str:
        return feature_key(self.best["layer"], self.best["noise_level"])


def find(bank: FeatureBank, rows: list[dict[str, Any]], task: ProbeTask, seed: int) -> Findings:
    """Fits the best probe of the model once more, for its answers. VidgenError where all rows are baselines."""
    if all(row["baseline"] for row in rows):
        raise VidgenError(f"{bank.folder} has no features of a model to report on; name some by --layers")
    best = best_row(rows, baseline=False)
    probe, key = PROBES[best["kind"]], feature_key(best["layer"], best["noise_level"])
    score = choose_and_score(probe, features_for(bank, key, probe), task, seed=seed)
    return Findings(bank=bank, rows=rows, best=best, task=task, said=score.predictions)


def write_probe_page(findings: Findings, folder: Path) -> Path:
    """Writes folder/index.html, in place of one that is there. Returns its path."""
    shelf = ClipShelf(findings.bank)
    best = findings.best
    title = f"{best['task']}: what the features know"
    parts = [
        f"<h1>{markup.escape(title)}</h1>",
        markup.paragraph(f"{best['kind']} probe of {findings.bank.folder.name}, {len(findings.bank)} clips", "soft"),
        *say_in_short(findings),
        *show_scores(findings),
        *show_grid(findings),
        *show_answers(findings, shelf),
        *show_neighbours(findings, shelf),
        *say_how(findings),
    ]
    folder.mkdir(exist_ok=True)
    with atomic_write(folder / PAGE) as aside:
        aside.write_text(markup.page(title, parts), encoding="utf-8")
    return folder / PAGE


def say_in_short(findings: Findings) -> list[str]:
    best, others = findings.best, [row for row in findings.rows if row["baseline"]]
    metric = figures.METRIC_NAMES.get(best["metric"], best["metric"])
    lines = [
        f"Best on validation is {figures.short_name(best)}: {metric} {best['test']:.3f} on the test split, "
        f"95% interval {interval(best)}."
    ]
    if others:
        other = best_row(others, baseline=True)
        apart = best["ci"][0] > other["ci"][1] or best["ci"][1] < other["ci"][0]
        lines.append(
            f"The best baseline, {figures.short_name(other)}, has {other['test']:.3f} ({interval(other)}): the two "
            f"intervals {'do not overlap' if apart else 'overlap'}."
        )
    if "temporal_gain" in best:
        gain, (low, high) = best["temporal_gain"], best["temporal_gain_ci"]
        lines.append(
            f"With the frames of every clip in random order the same features have {best['test'] - gain:.3f}: "
            f"a temporal gain of {gain:+.3f} ({low:+.3f} to {high:+.3f})."
        )
    return [markup.paragraph(" ".join(lines), "lead")]


def interval(row: dict[str, Any]) -> str:
    low, high = row["ci"]
    return f"{low:.3f} to {high:.3f}"


def show_scores(findings: Findings) -> list[str]:
    rows = best_rows(findings.rows)
    caption = "The best of every family of taps on validation, scored on test. Grey: what it has to beat."
    everything = markup.details(f"All {len(findings.rows)} features", markup.card(table_of(findings, findings.rows)))
    return [
        markup.heading("Scores"),
        markup.figure(figures.draw_scores(rows), caption),
        markup.card(table_of(findings, rows)),
        everything,
    ]


def table_of(findings: Findings, rows: Sequence[dict[str, Any]]) -> str:
    gains = any("temporal_gain" in row for row in rows)
    columns = ("features", ">noise", ">validation", ">test", ">95% interval", *[">temporal gain"] * gains)
    cells, kinds = [], []
    for row in rows:
        level = "" if row["noise_level"] is None else f"{row['noise_level']:g}"
        gain = [f"{row['temporal_gain']:+.3f}" if "temporal_gain" in row else ""] * gains
        cells.append((row["layer"], level, f"{row['validation']:.3f}", f"{row['test']:.3f}", interval(row), *gain))
        kinds.append("best" if row is findings.best else "baseline" if row["baseline"] else "")
    return markup.table(columns, cells, kinds)


def show_grid(findings: Findings) -> list[str]:
    drawn = figures.draw_heat_map([row for row in findings.rows if is_model(row["layer"])])
    if drawn is None:
        return []
    caption = "Validation scores by tap and noise level; the framed one was chosen, by these scores alone."
    return [markup.heading("Where it is known"), markup.figure(drawn, caption)]


def show_answers(findings: Findings, shelf: ClipShelf) -> list[str]:
    task, said = findings.task, findings.said
    truth = task.y[task.test]
    if task.target_type == "regression":
        drawn = figures.draw_numbers(truth, said, task.name)
        return [markup.heading("Answers"), markup.figure(drawn, "Every point is a clip of the test split.")]
    if task.target_type == "multilabel":
        return [markup.heading("Answers"), markup.card(table_of_words(task, truth, said))]
    from sklearn.metrics import confusion_matrix

    classes = sorted({*map(str, truth), *map(str, said)})
    counts = confusion_matrix(truth.astype(str), said.astype(str), labels=classes)
    caption = "Clips of the test split: truth down, the probe's answer across."
    wrong = [(row, a, b) for row, a, b in zip(task.test, truth, said, strict=True) if a != b]
    clips = [
        markup.clip(shelf.draw(findings.bank.rows[row]), f"{b}?", f"is {a}; {findings.bank.ids[row]}", "bad")
        for row, a, b in wrong[:MISTAKES]
    ]
    parts = [markup.heading("Answers"), markup.figure(figures.draw_confusion(counts, classes), caption)]
    if clips:
        parts += [
            markup.heading("Mistakes"),
            markup.paragraph(f"{len(wrong)} of {len(truth)} clips; the first {len(clips)}.", "soft"),
            markup.strip(clips, wrapped=True),
        ]
    return parts


def table_of_words(task: ProbeTask, truth: np.ndarray, said: np.ndarray) -> str:
    lines = []
    for k, word in enumerate(task.words):
        right = int((truth[:, k] & said[:, k]).sum())
        counts = (int(truth[:, k].sum()), int(said[:, k].sum()))
        shares = (f"{right / count:.2f}" if count else "" for count in (counts[1], counts[0]))
        lines.append((word, *counts, right, *shares))
    return markup.table(("word", ">clips with it", ">answers", ">right", ">precision", ">recall"), lines)


def show_neighbours(findings: Findings, shelf: ClipShelf) -> list[str]:
    """Clips of the test split, one a class as far as they go, and the nearest ones of train beside each."""
    bank, task = findings.bank, findings.task
    X, labels = bank.X(findings.key), np.array(bank.column(task.name), dtype=object)
    queries = one_of_each(task.test, labels)[:QUERIES]
    frames = "" if task.target_type == "regression" else f" Green: the same {task.name}."
    said = (
        "Clips of the test split (dark frame) and those of train that are nearest to them by cosine in "
        f"{figures.short_name(findings.best)}.{frames}"
    )
    parts = [markup.heading("Neighbours"), markup.paragraph(said, "soft")]
    for query, scores in zip(queries, similarities(X, np.array(queries), task.train), strict=True):
        nearest = np.argsort(-scores, kind="stable")[:NEIGHBOURS]
        shown = [markup.clip(shelf.draw(bank.rows[query]), spell(read_cell(labels[query])), bank.ids[query], "query")]
        for number in nearest:
            row = task.train[number]
            kind = "good" if labels[row] == labels[query] else "bad"
            if task.target_type == "regression":
                kind = ""
            note = f"{scores[number]:.3f}; {bank.ids[row]}"
            shown.append(markup.clip(shelf.draw(bank.rows[row]), spell(read_cell(labels[row])), note, kind))
        parts.append(markup.card(markup.strip(shown)))
    if not shelf.records:
        where = ", ".join(shelf.sources) or "their source"
        parts.append(markup.paragraph(f"The clips themselves are not at {where} any more.", "soft"))
    return parts


def spell(value: Any) -> str:
    """A value for people: numbers with three digits, lists without brackets, "none" for nothing."""
    parts = value if isinstance(value, list | tuple) else [value]
    if not parts or value in ("", None):
        return "none"
    return ", ".join(f"{part:.3g}" if isinstance(part, float) else str(part) for part in parts)


def one_of_each(rows: Sequence[int], labels: np.ndarray) -> list[int]:
    """`rows` in another order: the first of every label, then the second, and so on."""
    seen: dict[Any, int] = {}
    turn = []
    for row in rows:
        turn.append(seen.get(labels[row], 0))
        seen[labels[row]] = turn[-1] + 1
    return [int(row) for _, row in sorted(zip(turn, rows, strict=True), key=lambda pair: pair[0])]


def say_how(findings: Findings) -> list[str]:
    best, meta = findings.best, findings.bank.meta
    seen = meta.get("preprocessing", {})
    said = [
        ("probe", f"{best['kind']}, setting {spell(best['choice'])}"),
        ("chosen on", "validation, in the table; the test split was not looked at for it"),
        ("split", best["split"]),
        ("learned from", f"{best['train_clips']} clips in {best['train_groups']} groups"),
        ("reported on", f"{best['test_clips']} clips in {best['test_groups']} groups"),
        ("intervals", "percentile bootstrap over groups"),
        *((name.replace("_", " "), spell(value)) for name, value in meta.items() if name not in HIDDEN),
        *((f"frames: {name.replace('_', ' ')}", spell(value)) for name, value in seen.items()),
    ]
    return [markup.heading("How this was made"), markup.card(markup.facts(said))]
