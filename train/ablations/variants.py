"""Files of ablations: a recipe with named variants of it, which train for one budget, and how they are measured."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from omegaconf import DictConfig, OmegaConf

from vidgen.bounds import Frames, Length, Positive, Side, check_fields
from vidgen.data.manifests import ClipRecord
from vidgen.errors import VidgenError
from vidgen.train.config import DataConfig, LoopConfig, TokenizerRecipe
from vidgen.train.config.files import (
    COMPARISONS,
    RECIPES,
    explain_errors,
    read_recipe,
    resolve_recipe,
    shipped_comparisons,
)
from vidgen.train.data.splits import source_records
from vidgen.train.runtime.runs import FREE_KEYS
from vidgen.train.tasks.tokenizer import build_tokenizer

BUDGET = ("seed", "steps", "batch_size", "autocast", "device", "data")  # what no variant may change
PREFIX = "compare_"  # of the shipped comparisons' files, beside the recipes


@dataclass
class EvaluationConfig:
    """The first `num_frames` frames of every held-out clip, at `size` (height, width), cropped.

    Latents of continuous variants are rounded to multiples of each of `steps`, in standard deviations of a channel;
    `step` is the one of them whose bits and PSNR stand in the table beside those of discrete variants.
    """

    num_frames: Frames = 17
    size: tuple[Side, Side] = (128, 128)
    steps: Annotated[list[Positive], Length(1, 1000)] = field(default_factory=lambda: [2.0, 1.0, 0.5, 0.25])
    step: Positive = 0.5


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`path` is the file, `recipe` what all variants share, `variants` their own recipes, in the file's order."""

    path: Path
    recipe: TokenizerRecipe
    variants: dict[str, TokenizerRecipe]
    evaluation: EvaluationConfig


def find_comparison(name: str) -> Path:
    """Return the YAML file of a comparison by its path, or by a shipped one's name, with or without "compare_"."""
    shipped = (COMPARISONS / f"{name}.yaml", COMPARISONS / f"{PREFIX}{name}.yaml", RECIPES / f"{name}.yaml")
    for path in (Path(name), *shipped):
        if path.is_file():
            return path
    names = ", ".join(p.stem for p in shipped_comparisons())
    raise VidgenError(f"comparison {name!r} is neither a file nor a shipped comparison; shipped: {names}")


def load_comparison(
    name: str, out: str | Path, *, clips: str | Path | None = None, overrides: Sequence[str] = ()
) -> Comparison:
    """Return the comparison `name`, each variant's run in a folder of its own below `out`.

    clips: a folder or manifest in place of the file's own, all of it but what is held out. overrides: `key=value`, for
    every variant. The file is a recipe with two keys more: `variants` {name: changes to the recipe} and `evaluation`.
    Raises VidgenError for a file, key or value that is none, a recipe of another task, and a variant that changes the
    budget.
    """
    path = find_comparison(name)
    with explain_errors(path):
        written = read_recipe(path)
        if not isinstance(written, DictConfig) or not isinstance(written.get("variants"), DictConfig):
            raise VidgenError(f"{path}: no comparison: it needs `variants`, each a name with changes to the recipe")
        changes = dict(written.pop("variants"))
        settings = OmegaConf.merge(OmegaConf.structured(EvaluationConfig), written.pop("evaluation", {}))
        evaluation = OmegaConf.to_object(settings)
    check_evaluation(evaluation, path)
    if not changes:
        raise VidgenError(f"{path}: `variants` is empty; give one name or more, each with changes to the recipe")
    recipe = _variant("", written, path, out, clips, overrides)
    variants = {}
    for label, change in changes.items():
        if not re.fullmatch(r"\w[\w.+-]*", str(label)):
            raise VidgenError(f"{path}: variant {label!r}: a name has letters, digits and . + - _ only")
        if change is not None and not isinstance(change, DictConfig):
            raise VidgenError(f"{path}: variant {label!r} is {change!r}; give it keys of the recipe, as model: {{...}}")
        with explain_errors(path):
            own = OmegaConf.merge(written, change or {})
        variants[str(label)] = _variant(str(label), own, path, out, clips, overrides)
        check_budget(str(label), variants[str(label)], recipe, path)
    return Comparison(path=path, recipe=recipe, variants=variants, evaluation=evaluation)


def _variant(
    name: str, written: DictConfig, path: Path, out: str | Path, clips: str | Path | None, overrides: Sequence[str]
) -> TokenizerRecipe:
    """Return the checked recipe of one variant; of what all share for the name ""."""
    try:
        recipe = resolve_recipe(OmegaConf.merge({"out": "."}, written), tuple(overrides), path)
    except VidgenError as error:
        raise VidgenError(f"variant {name!r}: {error}" if name else str(error)) from None
    if not isinstance(recipe, TokenizerRecipe):
        raise VidgenError(f"{path}: task {recipe.task!r}: only recipes of task tokenizer can be compared")
    if recipe.max_minutes > 0:
        raise VidgenError(f"{path}: max_minutes={recipe.max_minutes:g}: a comparison's budget is in steps; set it to 0")
    data = recipe.data if clips is None else with_clips(recipe.data, clips, path)
    return dataclasses.replace(recipe, out=str(Path(out) / name), data=data)


def with_clips(data: DataConfig, clips: str | Path, path: Path) -> DataConfig:
    """Return the data with its files from `clips`, all of them. VidgenError where it has none from files."""
    if not any(source.kind == "clips" for source in data.sources):
        raise VidgenError(f"{path}: no source of kind 'clips' that --clips {clips} could stand in for")
    sources = [
        dataclasses.replace(source, path=str(clips), include=[]) if source.kind == "clips" else source
        for source in data.sources
    ]
    return dataclasses.replace(data, sources=sources)


def check_evaluation(evaluation: EvaluationConfig, path: Path) -> None:
    """Raise VidgenError for settings that measure nothing."""
    check_fields(evaluation, f"{path}: evaluation.")
    if evaluation.step not in evaluation.steps:
        raise VidgenError(
            f"{path}: evaluation.steps {list(evaluation.steps)} must be above 0 and hold evaluation.step, "
            f"{evaluation.step:g}"
        )


def check_budget(name: str, variant: LoopConfig, recipe: LoopConfig, path: Path) -> None:
    """Raise VidgenError where a variant would train on another budget than the rest."""
    if changed := [key for key in BUDGET if getattr(variant, key) != getattr(recipe, key)]:
        raise VidgenError(
            f"{path}: variant {name!r} changes {changed[0]}, which is the same for all: set it outside of `variants`"
        )


def check_model(name: str, recipe: TokenizerRecipe, path: Path) -> None:
    """Build a variant's tokenizer, to raise VidgenError before any of them trains."""
    try:
        build_tokenizer(recipe)
    except VidgenError as error:
        raise VidgenError(f"{path}: variant {name!r}: {error}") from None


def choose_variants(comparison: Comparison, only: Sequence[str]) -> list[str]:
    """Return the names of `only`, in the file's order; all for none. VidgenError for a name that is not there."""
    for name in only:
        if name not in comparison.variants:
            names = ", ".join(comparison.variants)
            raise VidgenError(f"variant {name!r} is not in {comparison.path}; choose of {names}")
    return [name for name in comparison.variants if not only or name in only]


def held_out_records(data: DataConfig, path: Path) -> list[ClipRecord]:
    """Return the clips that training never sees: those that its sources of files keep for validation, each file once.

    Raises VidgenError where there are none, or where another source trains on them.
    """
    sources = [source for source in data.sources if source.kind == "clips" and source.share > 0]
    if not sources:
        raise VidgenError(f"{path}: no source of kind 'clips' to hold clips out of; add one to data.sources")
    held_out: dict[Path, ClipRecord] = {}
    for source in sources:
        records = source_records(source, "validation")
        if not records or records == source_records(source, "train"):  # the latter for hold_out 0, and for one clip
            raise VidgenError(
                f"{path}: no clips of {source.path} are held out; give two clips or more, and hold_out >= 2"
            )
        held_out |= {Path(record.path).resolve(): record for record in records}
    for source in sources:
        trained = {Path(record.path).resolve() for record in source_records(source, "train")}
        if both := sorted(trained & set(held_out)):
            raise VidgenError(
                f"{path}: {both[0]} is held out, and trained on by a source of {source.path}; take one out"
            )
    return list(held_out.values())


def settings_of(config: LoopConfig) -> dict[str, Any]:
    """Return a recipe as JSON would give it back, without the keys that may differ when a run goes on."""
    plain = OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)
    return json.loads(json.dumps({key: value for key, value in plain.items() if key not in FREE_KEYS}))
