"""`vidgen classify`: which of some classes clips show, by texts alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.option_sets import HardwareOptions, with_option_sets
from vidgen.scripts.cli.options import AllowDamagedOption, BatchOption, JsonOption
from vidgen.scripts.cli.printing import describe_memory, peak_memory_mb, print_json, print_table, progress

if TYPE_CHECKING:
    from torch import Tensor

    from vidgen.interfaces import TextVideoEncoder
    from vidgen.representations.language.zero_shot import ClassTexts
    from vidgen.representations.moments.film_features import FilmFeatures

SHOWN = 3  # descriptions of the best class that a table shows


@with_option_sets
def classify(
    *,
    clips: Annotated[list[Path], typer.Argument(metavar="CLIP...", help="Clips, or folders of frames, of any length.")],
    model: Annotated[
        str, typer.Option("--model", metavar="NAME|DIR", help="A dual encoder: a shipped name, a folder or a hub id.")
    ],
    labels: Annotated[str | None, typer.Option(help="The classes, as 'walking,running'.")] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(help="What is said of a class, {} being its label; again for several, whose scores are averaged."),
    ] = None,
    contexts: Annotated[
        str | None,
        typer.Option(
            help="Contexts, as 'indoors,outdoors': what a clip shows is inferred in each, and how likely it is."
        ),
    ] = None,
    descriptors: Annotated[
        Path | None,
        typer.Option(metavar="JSON", help='Descriptions in place of labels, {"walking": ["has one foot down"], ...}.'),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(min=1, max=10**6, help="Frames from one window to the next. Default: a quarter of a window."),
    ] = None,
    allow_damaged: AllowDamagedOption = False,
    batch_size: BatchOption = 16,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Say which of some classes each clip shows, by texts alone: no clip of any class is needed.

    A clip that is longer than the model's is read in windows, whose scores are averaged.
    Example: vidgen classify clip.mp4 --labels "a circle,a square,a star" --model NAME
    """
    from vidgen.models.text_video.loading import load_text_video_encoder
    from vidgen.representations.language.zero_shot import TEMPLATES, describe_classes, prompt_classes, read_descriptions

    if (labels is None) == (descriptors is None):
        raise VidgenError("give the classes by --labels, or by --descriptors FILE, one of the two")
    if descriptors is not None and (template or contexts):
        raise VidgenError("--template and --contexts are for --labels; descriptions are whole texts")
    settings = hardware.settings()
    if descriptors is not None:
        classes = describe_classes(read_descriptions(descriptors))
    else:
        classes = prompt_classes(labels.split(","), template or TEMPLATES)
    places = [part.strip() for part in contexts.split(",")] if contexts else []
    encoder = load_text_video_encoder(model, **settings)
    rows = []
    with progress(model, len(clips)) as advance:
        for number, clip in enumerate(clips, 1):
            features = embed_clip(encoder, clip, stride, allow_damaged, batch_size)
            rows.append({"clip": str(clip), **choose_class(encoder, features, classes, places)})
            advance(number)
    if json:
        print_json({"model": model, "labels": classes.labels, "clips": rows, "peak_mb": peak_memory_mb()})
        return
    show(rows, classes, descriptors is not None)


def embed_clip(
    encoder: TextVideoEncoder, clip: Path, stride: int | None, allow_damaged: bool, batch_size: int
) -> FilmFeatures:
    """Return the windows of a clip in the encoder's space."""
    from vidgen.representations.moments.film_features import embed_film, window_format

    form = window_format(encoder, stride=stride)
    return embed_film(encoder, clip, form, allow_damaged=allow_damaged, batch_size=batch_size)


def mean_scores(encoder: TextVideoEncoder, features: FilmFeatures, texts: tuple[str, ...]) -> Tensor:
    """Return the scores (n, 1) of texts with a clip, the mean over its windows."""
    import torch

    from vidgen.representations.moments.curves import score_texts

    return torch.from_numpy(score_texts(encoder, features, texts)).mean(dim=1, keepdim=True)


def choose_class(
    encoder: TextVideoEncoder, features: FilmFeatures, classes: ClassTexts, contexts: list[str]
) -> dict[str, Any]:
    """Return the probability of each class, that of each context, and the score of each text of the best class."""
    import torch

    from vidgen.representations.language.zero_shot import class_probabilities, context_probabilities

    scale, cells = float(encoder.logit_scale), {}
    if contexts:
        parts = [
            classes.mean(mean_scores(encoder, features, tuple(f"{t}, {c}" for t in classes.texts))) for c in contexts
        ]
        shares, of_contexts = context_probabilities(torch.stack(parts, dim=1), scale)
        cells["contexts"] = dict(zip(contexts, of_contexts[:, 0].tolist(), strict=True))
        scores = None
    else:
        scores = mean_scores(encoder, features, classes.texts)
        shares = class_probabilities(classes.mean(scores), scale)
    best = int(shares[:, 0].argmax())
    cells |= {
        "label": classes.labels[best],
        "probabilities": dict(zip(classes.labels, shares[:, 0].tolist(), strict=True)),
    }
    if scores is not None:
        own = [(text, scores[i, 0].item()) for i, text in enumerate(classes.texts) if classes.owners[i] == best]
        cells["texts"] = dict(sorted(own, key=lambda pair: -pair[1]))
    return cells


def show(rows: list[dict[str, Any]], classes: ClassTexts, described: bool) -> None:
    """Print a line for each clip, with the descriptions that speak most for its class where there are some."""
    cells = [(row["clip"], row["label"], *(f"{p:.3f}" for p in row["probabilities"].values())) for row in rows]
    print_table("classes by texts", ("clip", "class", *(f">{label}" for label in classes.labels)), cells)
    for row in rows:
        if described:
            print(f"{row['clip']}: " + "; ".join(f"{x:.3f} {text}" for text, x in list(row["texts"].items())[:SHOWN]))
        if "contexts" in row:
            print(f"{row['clip']}: " + ", ".join(f"{name} {x:.3f}" for name, x in row["contexts"].items()))
    print(f"{len(rows)} clips{describe_memory()}")


if __name__ == "__main__":
    run_verb("classify", classify)
