"""Dense probes of a model on the synthetic world, as rows of plain data: chosen on validation, reported on test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from vidgen.deprecation import renamed_keywords
from vidgen.errors import VidgenError
from vidgen.interfaces import Pipeline, TextEncoder, Tokenizer
from vidgen.representations.baselines import RANDOM, random_like
from vidgen.representations.dense.grids import PARTS
from vidgen.representations.dense.label_propagation import PropagationSettings
from vidgen.representations.dense.object_discovery import object_discovery_rows
from vidgen.representations.dense.reading import Reader
from vidgen.representations.dense.referring_expressions import (
    are_distinguishable,
    check_text,
    referring_expression_rows,
)
from vidgen.representations.dense.scenes import Scenes
from vidgen.representations.dense.segmentation import CLASS_SETS, segmentation_rows
from vidgen.representations.dense.slots import SlotSettings
from vidgen.representations.dense.tracked_labels import TRACKED
from vidgen.representations.dense.tracking import Tracks, tracking_rows
from vidgen.representations.extract import default_window
from vidgen.representations.extractor import FeatureExtractor

SETTINGS = tuple(
    PropagationSettings(top_k=k, temperature=t, radius=r) for k, t, r in product((1, 5, 10), (0.05, 0.2), (None, 2))
)
SLOTS = SlotSettings()
Model = Pipeline | Tokenizer


@dataclass(frozen=True, kw_only=True)
class DenseRun:
    """What tasks make their rows from: the features, and the options of `dense_rows`. encoders: of text, by the prefix
    of keys."""

    reader: Reader
    encoders: Mapping[str, TextEncoder]
    settings: Sequence[PropagationSettings]
    classes: str
    slots: SlotSettings
    seed: int
    on_tracks: Callable[[Tracks], None] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseTask:
    """A dense task, or several that share a reading of the features.

    rows(run, names): rows of the tasks `names`, all those of a run that have this entry. parts: that are read. check(
    model): raises VidgenError for a model that cannot do it. default: whether it is done where no tasks are named.
    """

    rows: Callable[[DenseRun, list[str]], list[dict[str, Any]]]
    parts: tuple[str, ...] = PARTS
    check: Callable[[Any], None] = lambda model: None
    default: bool = True


TRACKING = DenseTask(
    rows=lambda run, names: tracking_rows(run.reader.read_moving, names, run.settings, run.on_tracks),
    parts=("validation", "test"),
)
TASKS: dict[str, DenseTask] = {
    **dict.fromkeys(TRACKED, TRACKING),  # masks, points, boxes
    "segmentation": DenseTask(
        rows=lambda run, names: segmentation_rows(run.reader.read_moving, run.classes, run.seed)
    ),
    "expressions": DenseTask(
        rows=lambda run, names: referring_expression_rows(run.reader.read_expressions, run.encoders, run.seed),
        check=check_text, default=False,
    ),
    "slots": DenseTask(
        rows=lambda run, names: object_discovery_rows(run.reader.read_pairs, run.slots, run.seed), default=False
    ),
}  # fmt: skip
DEFAULT_TASKS = tuple(name for name, task in TASKS.items() if task.default)


@renamed_keywords(found="on_tracks", taps="layers")
def dense_rows(
    model: Model,
    tasks: Sequence[str] = DEFAULT_TASKS,
    *,
    layers: Sequence[str] = ("tokenizer.latents",),
    noise_levels: Sequence[float] = (0.1,),
    settings: Sequence[PropagationSettings] = SETTINGS,
    classes: str = "colour",
    clips: int = 64,
    num_frames: int | None = None,
    size: int | tuple[int, int] | None = None,
    max_objects: int = 2,
    slots: SlotSettings = SLOTS,
    batch_size: int = 8,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    on_tracks: Callable[[Tracks], None] | None = None,
) -> list[dict[str, Any]]:
    """Return a row for every task and layer (at every noise level), and for its baselines: the same with random
    weights, raw pixels cut into the same cells, the first frame kept still, and the truth on the same cells ("exact"),
    which shows what is lost to their size.

    A row has task, layer, noise_level, pool, kind, metric, validation, test, ci (95%, over clips), baseline, stride,
    choice, and other measures by name. Raises VidgenError for a task, layer or size that is not to be had, and for
    expressions of a model without a text-to-video denoiser.

    Args:
        model: a pipeline or a tokenizer.
        tasks: of `TASKS`. "masks", "points" and "boxes" are exact in the first frame and tracked by label propagation
            (see `propagate_labels`); "segmentation" is a linear map from cells to `classes`; "expressions" are masks of
            the object that a text names (see `referring_expression_rows`) and "slots" groups without labels (see
            `object_discovery_rows`), both in clips of two objects, whatever `max_objects`.
        layers: of the model.
        noise_levels: of the denoiser's layers.
        settings: of label propagation; the one that is best on validation is reported.
        classes: one of `CLASS_SETS`, for segmentation.
        clips: held-out clips to report on; as many to fit on, and half as many to choose on.
        num_frames, size: of the clips; None as in `extract_source`.
        max_objects: in a clip.
        slots: how slots are trained.
        batch_size: clips that are encoded at a time.
        seed: of noise, of random weights, of slots and of intervals.
        progress: called with the number of clips that are read, and of all.
        on_tracks: called with the tracks of the first held-out clips, for pictures of them.
    """
    if unknown := [task for task in tasks if task not in TASKS]:
        raise VidgenError(f"dense task {unknown[0]!r} is unknown; choose some of {', '.join(TASKS)}")
    if classes not in CLASS_SETS:
        raise VidgenError(f"classes {classes!r} are unknown; choose one of {', '.join(CLASS_SETS)}")
    if not isinstance(model, Pipeline | Tokenizer):
        raise VidgenError(
            f"{type(model).__name__} crops its frames, so that its cells do not lie on the labels; "
            "give a pipeline or a tokenizer"
        )
    for task in tasks:
        TASKS[task].check(model)
    window = default_window(model, num_frames, size, None)
    scenes = Scenes(
        num_frames=window["num_frames"], height=window["size"][0], width=window["size"][1],
        fps=round(window["fps"] or 8), counts={"train": clips, "validation": max(2, clips // 2), "test": clips},
        max_objects=max_objects, batch_size=batch_size,
    )  # fmt: skip
    twin = random_like(model, seed)
    together: dict[DenseTask, list[str]] = {}
    for name, task in TASKS.items():
        if name in tasks:
            together.setdefault(task, []).append(name)
    conditioned = [layer for layer in layers if layer.startswith("dit.")]
    reader = Reader(
        scenes=scenes, pairs=replace(scenes, max_objects=2, keep=are_distinguishable),
        extractors=make_extractors(model, twin, layers, noise_levels, seed),
        prompted=make_extractors(model, twin, conditioned, noise_levels, seed),
        total=sum(scenes.counts[part] for task in together for part in task.parts), progress=progress,
    )  # fmt: skip
    encoders = {"": model.text_encoder, RANDOM: twin.text_encoder} if isinstance(model, Pipeline) else {}
    run = DenseRun(
        reader=reader, encoders=encoders, settings=settings, classes=classes, slots=slots, seed=seed,
        on_tracks=on_tracks,
    )  # fmt: skip
    rows = [row for task, names in together.items() for row in task.rows(run, names)]
    return sorted(rows, key=lambda row: (tasks.index(row["task"]), row["baseline"]))


def make_extractors(
    model: Model, twin: Model, layers: Sequence[str], noise_levels: Sequence[float], seed: int
) -> dict[str, FeatureExtractor]:
    """Return the extractors of the model, and of the same with random weights; none for no layers."""
    options = {"layers": list(layers), "noise_levels": list(noise_levels), "pool": "none", "seed": seed}
    return {prefix: FeatureExtractor(one, **options) for prefix, one in (("", model), (RANDOM, twin)) if layers}
