"""`vidgen evaluate alignment`: how well texts and clips go together in the space of a dual encoder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.scripts.cli.option_sets import HardwareOptions, with_option_sets
from vidgen.scripts.cli.options import BatchOption, CountOption, JsonOption, MaxObjectsOption, SeedOption, parse_choices
from vidgen.scripts.cli.printing import (
    describe_memory,
    format_interval,
    note_dropped,
    peak_memory_mb,
    print_json,
    print_table,
    progress,
)

if TYPE_CHECKING:
    from vidgen.data.shapes.labels import ShapeWorldConfig
    from vidgen.interfaces import TextVideoEncoder

PARTS = ("retrieval", "words", "ideal-words", "counterfactuals")


@with_option_sets
def alignment(
    *,
    model: Annotated[
        str, typer.Option("--model", metavar="NAME|DIR", help="A dual encoder: a shipped name, a folder or a hub id.")
    ],
    n: CountOption = 1000,
    pairs: Annotated[int, typer.Option(min=1, max=10**6, help="How many counterfactual pairs of each kind.")] = 200,
    only: Annotated[str | None, typer.Option(help=f"Only these parts, of {','.join(PARTS)}. Default: all.")] = None,
    kinds: Annotated[
        str, typer.Option(help="Kinds of counterfactual pairs, as order,direction; all: every one.")
    ] = "all",
    max_objects: MaxObjectsOption = 1,
    prompts: Annotated[
        Path | None,
        typer.Option(help='Words for classes, as JSON {"colour": {"red": ["crimson"]}}. Default: a built-in table.'),
    ] = None,
    real: Annotated[
        Path | None, typer.Option(help="Also retrieve among these clips, a folder or manifest with captions.")
    ] = None,
    seed: SeedOption = 0,
    batch_size: BatchOption = 16,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Measure retrieval between held-out clips and captions, zero-shot words, and counterfactual pairs.

    Every clip that a caption is true of counts as right. Example: vidgen evaluate alignment --model NAME --n 1000
    """
    from vidgen.data.shapes.synonyms import SYNONYMS, read_synonyms
    from vidgen.representations.language.ideal_words import measure_prompts
    from vidgen.representations.language.world_clips import world_config

    parts = parse_choices(only or ",".join(PARTS), "--only", PARTS)
    kind_names = choose_kinds(kinds)
    synonyms = read_synonyms(prompts) if prompts else SYNONYMS
    encoder = open_encoder(model, hardware.settings())
    config = world_config(encoder, max_objects=max_objects, seed=seed)
    report: dict[str, Any] = {"model": model, "n": n, "max_objects": max_objects, "seed": seed}
    if "retrieval" in parts or "words" in parts:
        report |= measure_world(encoder, config, n, batch_size, parts, synonyms)
    if "ideal-words" in parts:
        report["ideal_words"] = asdict(measure_prompts(encoder, seed=seed))
    if "counterfactuals" in parts:
        report["pairs"] = pairs
        report["counterfactuals"] = measure_counterfactuals(encoder, config, kind_names, pairs, batch_size)
    if real is not None:
        report["real"] = measure_real(encoder, real, batch_size, seed)
    if json:
        print_json(report | {"peak_mb": peak_memory_mb()})
        return
    show(report)


def open_encoder(model: str, settings: dict[str, Any]) -> TextVideoEncoder:
    """Return the dual encoder of a name or folder. Raises VidgenError for anything else."""
    from vidgen.models.text_video.loading import load_text_video_encoder

    return load_text_video_encoder(model, **settings)


def choose_kinds(kinds: str) -> list[str]:
    """Return kinds of counterfactual pairs by a list of their names, or "all"."""
    from vidgen.data.shapes.scenes.counterfactuals import COUNTERFACTUALS

    names = tuple(COUNTERFACTUALS)
    return list(names) if kinds.strip() == "all" else parse_choices(kinds, "--kinds", names)


def measure_world(
    encoder: TextVideoEncoder,
    config: ShapeWorldConfig,
    n: int,
    batch_size: int,
    parts: list[str],
    synonyms: Any,
) -> dict[str, Any]:
    """Return retrieval and zero-shot accuracies on the first n clips of the world."""
    from vidgen.data.shapes.truth import truth_matrix
    from vidgen.representations.language.alignment import score_both_ways, score_synonyms
    from vidgen.representations.language.world_clips import embed_texts, embed_world

    with progress("clips", n) as advance:
        clips = embed_world(encoder, config, n, batch_size=batch_size, progress=advance)
    report: dict[str, Any] = {}
    if "retrieval" in parts:
        truth = truth_matrix(clips.captions, clips.labels)
        texts = embed_texts(encoder, clips.captions)
        scores = score_both_ways(encoder, texts, clips.embedding, truth, seed=config.seed)
        report["retrieval"] = {way: asdict(score) for way, score in scores.items()}
        report["true_clips_per_caption"] = float(truth.sum(axis=1).mean())
    singles = [i for i, labels in enumerate(clips.labels) if len(labels.objects) == 1]
    if "words" in parts and singles:
        labels = [clips.labels[i] for i in singles]
        words = score_synonyms(encoder, clips.embedding[singles], labels, synonyms)
        report["words"] = {way: {name: asdict(share) for name, share in row.items()} for way, row in words.items()}
    return report


def measure_counterfactuals(
    encoder: TextVideoEncoder, config: ShapeWorldConfig, kinds: list[str], pairs: int, batch_size: int
) -> dict[str, Any]:
    """Return scores by kind of pair."""
    from vidgen.representations.language.counterfactuals import score_counterfactuals

    report = {}
    for kind in kinds:
        with progress(kind, pairs) as advance:
            score = score_counterfactuals(
                encoder, kind, pairs, config=config, batch_size=max(batch_size // 2, 1), progress=advance
            )
        report[kind] = asdict(score)
    return report


def measure_real(encoder: TextVideoEncoder, source: Path, batch_size: int, seed: int) -> dict[str, Any]:
    """Return retrieval among clips of a folder by their captions."""
    from vidgen.representations.language.alignment import score_both_ways
    from vidgen.representations.language.captioned_clips import embed_captioned
    from vidgen.representations.language.world_clips import embed_texts

    with progress(str(source), None) as advance:
        clips = embed_captioned(encoder, source, batch_size=batch_size, progress=advance)
    texts = embed_texts(encoder, clips.captions)
    scores = score_both_ways(encoder, texts, clips.embedding, clips.truth, seed=seed)
    dropped = [{"path": str(drop.path), "reason": drop.reason} for drop in clips.dropped]
    note_dropped(dropped)
    return {
        "n": len(clips.captions),
        "dropped": dropped,
        "retrieval": {way: asdict(score) for way, score in scores.items()},
    }


def show(report: dict[str, Any]) -> None:
    """Print a table for each part of the report."""
    if "retrieval" in report:
        show_retrieval(f"retrieval among {report['n']} held-out clips by {report['model']}", report["retrieval"])
        print(f"a caption is true of {report['true_clips_per_caption']:.2f} of these clips in the mean")
    if "words" in report:
        show_words(report["words"])
    if "ideal_words" in report:
        show_ideal_words(report["ideal_words"])
    if "counterfactuals" in report:
        show_counterfactuals(report["pairs"], report["counterfactuals"])
    if "real" in report:
        show_retrieval(f"retrieval among {report['real']['n']} clips with captions", report["real"]["retrieval"])
    print(f"right is every clip that a caption is true of{describe_memory()}")


def show_retrieval(title: str, ways: dict[str, Any]) -> None:
    """Print recall by way and number of items looked at."""
    rows = []
    for way, score in ways.items():
        for k, share in score["recall"].items():
            own, cells = score["own"][k], (f"{score['ceiling'][k]:.3f}", f"{score['chance'][k]:.3f}")
            shares = (f"{share['mean']:.3f}", format_interval(share["interval"]), f"{own['mean']:.3f}")
            rows.append((way, f"R@{k}", *shares, *cells, f"{score['median_rank']:.1f}"))
    columns = ("", "", ">any true", ">95% interval", ">its own", ">own's ceiling", ">any, shuffled", ">median rank")
    print_table(title, columns, rows)


def show_words(ways: dict[str, Any]) -> None:
    """Print zero-shot accuracy by attribute, in words of captions and in others."""
    from vidgen.data.shapes.synonyms import ATTRIBUTES, TRAINED

    rows = []
    for way, shares in ways.items():
        cells = [f"{shares[name]['mean']:.3f} ({format_interval(shares[name]['interval'])})" for name in ATTRIBUTES]
        rows.append((way, *cells))
    rows.append(("chance", *(f"{1 / len(TRAINED[name]):.3f}" for name in ATTRIBUTES)))
    print_table("zero-shot accuracy by prompts", ("prompts in", *(f">{name}" for name in ATTRIBUTES)), rows)


def show_ideal_words(measured: dict[str, Any]) -> None:
    """Print how far vectors of prompts are sums of words."""
    rows = [(f"variance explained by {name}", f"{share:.3f}") for name, share in measured["shares"].items()]
    rows += [("variance explained by all", f"{measured['explained']:.3f}")]
    rows += [("sums nearest to their own prompt", f"{measured['nearest']:.3f}")]
    rows += [("the same, of prompts held out", f"{measured['unseen']:.3f}"), ("chance", f"{measured['chance']:.4f}")]
    print_table("prompts as sums of ideal words", ("", ">share"), rows)


def show_counterfactuals(pairs: int, kinds: dict[str, Any]) -> None:
    """Print text, video and group scores by kind, beside the group scores of the twins."""
    from vidgen.representations.language.counterfactuals import CHANCE

    rows, twins = [], next(iter(kinds.values()))["twins"] if kinds else ()
    for kind, score in kinds.items():
        own = score["scores"]
        cells = [f"{own['text']['mean']:.3f}", f"{own['video']['mean']:.3f}", f"{own['group']['mean']:.3f}"]
        cells += [format_interval(own["group"]["interval"])]
        cells += [f"{score['twins'][name]['group']['mean']:.3f}" for name in twins]
        gain = score["gain"]
        rows.append((kind, *cells, f"{gain['mean']:+.3f}", format_interval(gain["interval"])))
    chances = [f"{CHANCE[name]:.3f}" for name in ("text", "video", "group")]
    rows.append(("chance", *chances, "", *(chances[2] for _ in twins), "", ""))
    columns = ("kind", ">text", ">video", ">group", ">95% interval", *(f">{name}" for name in twins))
    print_table(f"counterfactual pairs, {pairs} of each kind", (*columns, ">gain", ">95% interval"), rows)
