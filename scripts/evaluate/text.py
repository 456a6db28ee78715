"""`vidgen evaluate text`: what do vectors of sentences know, by layer and by pooling?"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.option_sets import HardwareOptions, with_option_sets
from vidgen.scripts.cli.options import JsonOption, SeedOption, parse_choices
from vidgen.scripts.cli.printing import (
    describe_memory,
    format_interval,
    format_level,
    peak_memory_mb,
    print_json,
    print_table,
    progress,
)


@with_option_sets
def text(
    *,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Text encoders: minilm, folders of transformers, sentence-transformers or model2vec, or a model of "
            "ours with one, as default.",
        ),
    ],
    tasks: Annotated[str, typer.Option(help="Tasks, as colour,order; all: every one.")] = "all",
    poolings: Annotated[str, typer.Option(help="Poolings, as mean,cls,last,max,weighted.")] = "mean",
    train: Annotated[int, typer.Option(min=20, max=10**6, help="Sentences that a probe learns of.")] = 1000,
    n: Annotated[int, typer.Option(min=20, max=10**6, help="Held-out sentences to measure on.")] = 500,
    last_layer: Annotated[bool, typer.Option("--last-layer", help="Read the last layer alone.")] = False,
    seed: SeedOption = 0,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Measure what linear probes read off vectors of sentences: words, length, order, who does what.

    The sentences are captions of the synthetic world. Pairs of the same words in another order (order, direction,
    growth, agent, binding) are told by no bag of words. `changes` is how often another wording of a caption is nearer
    to it than one with one thing changed, by the encoder's own vectors: it has no probe.
    Example: vidgen evaluate text minilm default --poolings mean,last
    """
    from vidgen.models.text.pooling import POOLINGS
    from vidgen.representations.language.text_probing import TEXT_TASKS, make_text_task, probe_texts, tell_changes

    names = parse_choices(",".join(TEXT_TASKS) if tasks == "all" else tasks, "--tasks", TEXT_TASKS)
    chosen = parse_choices(poolings, "--poolings", POOLINGS)
    rows: list[dict[str, Any]] = []
    changes = {}
    with progress("sentences", len(models) * len(names)) as advance:
        for model in models:
            encoder = open_sentence_encoder(model, **hardware.settings())
            changes[model] = float(tell_changes(encoder, n, seed=seed).mean())
            for number, name in enumerate(names, 1):
                task = make_text_task(name, train, n)
                scores = probe_texts(encoder, task, chosen, last_layer=last_layer, seed=seed)
                rows += [
                    {"model": model, "task": name, "layer": layer, "pooling": pooling, "accuracy": score.test,
                     "ci": score.ci, "chance": task.chance}
                    for (layer, pooling), score in scores.items()
                ]  # fmt: skip
                advance(number, len(names))
    if json:
        print_json({"n": n, "train": train, "rows": rows, "changes": changes, "peak_mb": peak_memory_mb()})
        return
    print_texts(rows, names, changes)


def open_sentence_encoder(name: str, **settings: Any) -> Any:
    """Return a sentence encoder by name or folder; of a pipeline or a dual encoder of ours its text encoder."""
    from vidgen.checkpoints.hub import find_model
    from vidgen.models.text.loading import load_sentence_encoder
    from vidgen.models.text.packages import PACKAGES

    if name in PACKAGES:
        return load_sentence_encoder(name, **settings)
    folder = find_model(name)
    for part in ("text_encoder", "text"):
        if (folder / part).is_dir():
            return load_sentence_encoder(folder / part, **settings)
    try:
        return load_sentence_encoder(folder, **settings)
    except VidgenError as error:
        raise VidgenError(f"{name} has no text encoder: {error}") from None


def print_texts(rows: list[dict[str, Any]], names: list[str], changes: dict[str, float]) -> None:
    """Print a line for each layer and pooling, and a column for each task."""
    cells = []
    for key in dict.fromkeys((row["model"], row["layer"], row["pooling"]) for row in rows):
        own = {r["task"]: r for r in rows if (r["model"], r["layer"], r["pooling"]) == key}
        cells.append(
            (*key, *(f"{format_level(own[name]['accuracy'])} {format_interval(own[name]['ci'])}" for name in names))
        )
    chance = {row["task"]: row["chance"] for row in rows}
    cells.append(("one answer", "", "", *(format_level(chance[name]) for name in names)))
    print_table("what a linear probe reads", ("model", "layer", "pooling", *(f">{name}" for name in names)), cells)
    for model, share in changes.items():
        print(
            f"{model}: another wording is nearer than one thing changed in {share:.3f}, chance 0.5{describe_memory()}"
        )
