"""Recipes: OmegaConf YAML over the dataclasses of a task, `key=value` on the command line; unknown keys are errors.

`base: NAME` in a recipe means that one with the changes below it. A list replaces the base's; a mapping of numbers over
a list changes these items of it: `sources: {1: {share: 0.5}}`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vidgen.errors import VidgenError
from vidgen.train.config.aliases import FORMER_DIFFUSION_KEYS, KEYS, VALUES, rename_keys, split_diffusion
from vidgen.train.config.run import LoopConfig

RECIPES = Path(__file__).parents[1] / "recipes"
COMPARISONS = RECIPES / "comparisons"  # of several recipes
# Read before the others: a recipe's dataclass depends on them, or they have had other names.
FIRST_KEYS = {"task", *KEYS, *VALUES, *FORMER_DIFFUSION_KEYS}


def find_recipe(name: str) -> Path:
    """Return the YAML file of a recipe given by path, or by the name of a shipped one."""
    for path in (Path(name), RECIPES / f"{name}.yaml", COMPARISONS / f"{name}.yaml"):
        if path.is_file():
            return path
    names = ", ".join(map(recipe_name, shipped_recipes()))
    raise VidgenError(f"recipe {name!r} is neither a file nor a shipped recipe; shipped: {names}")


def shipped_recipes() -> list[Path]:
    """Return the recipes of this package, those of published systems (align/NAME, ssl/NAME) last."""
    return [path for folder in ("", "align", "ssl") for path in sorted((RECIPES / folder).glob("*.yaml"))]


def recipe_name(path: Path) -> str:
    """Return what a shipped recipe is asked for by."""
    return path.relative_to(RECIPES).with_suffix("").as_posix()


def shipped_comparisons() -> list[Path]:
    """Return the files of this package that `vidgen tokenizer compare` runs."""
    return sorted(COMPARISONS.glob("*.yaml"))


def read_recipe(path: Path, heirs: tuple[Path, ...] = ()) -> DictConfig:
    """Return the YAML at `path`, by today's keys, over the recipe that its key `base` names, if it has one."""
    if path in heirs:
        raise VidgenError(f"{path} is its own base, by way of {heirs[-1]}; take one `base` out")
    recipe = OmegaConf.load(path)
    name = recipe.pop("base", "")
    base = read_recipe(find_recipe(name), (*heirs, path)) if name else OmegaConf.create()
    recipe = rename_keys(recipe, path, task=recipe.get("task", base.get("task")))
    return apply_changes(base, recipe, path) if name else recipe


def apply_changes(base: DictConfig, changes: DictConfig, path: Path) -> DictConfig:
    """Return `base` with `changes` over it, whose number of a list is that of an item or of one more; VidgenError for
    another."""
    for key, value in changes.items():
        below = base.get(key)
        if isinstance(value, DictConfig) and isinstance(below, ListConfig):
            if wrong := [number for number in value if number not in range(len(below) + 1)]:
                raise VidgenError(f"{path}: {key} has no item {wrong[0]}; its base has {len(below)}, from 0 on")
            items = [apply_changes(item, value[i], path) if i in value else item for i, item in enumerate(below)]
            changes[key] = [*items, value[len(below)]] if len(below) in value else items
        elif isinstance(value, DictConfig) and isinstance(below, DictConfig):
            changes[key] = apply_changes(below, value, path)
    return OmegaConf.merge(base, changes)


def parse_override(text: str) -> tuple[str, Any]:
    """Return the key and the value, read as YAML, of "key=value"; VidgenError for any other form."""
    key, equals, value = text.partition("=")
    if not equals:
        raise VidgenError(f"override {text!r} is not of the form key=value, e.g. steps=100")
    return key, OmegaConf.from_dotlist([f"value={value}"])["value"]


@contextmanager
def explain_errors(path: Path) -> Iterator[None]:
    """Within the block, what omegaconf, YAML and the file system say of `path` becomes a VidgenError of one line."""
    try:
        yield
    except VidgenError:
        raise
    except (OmegaConfBaseException, TypeError, ValueError, AttributeError, RecursionError) as error:
        key = f" (key {error.full_key})" if getattr(error, "full_key", None) else ""
        first = str(error).split("\n    full_key", 1)[0] or type(error).__name__  # behind it, omegaconf's own terms
        raise VidgenError(f"{path}: {first}{key}; `vidgen train --help` says where the keys are listed") from None
    except OSError as error:
        raise VidgenError(f"{path} cannot be read: {error.strerror}") from None
    except Exception as error:
        if type(error).__module__.startswith("yaml"):
            raise VidgenError(f"{path} is not valid YAML: {str(error).splitlines()[0]}") from None
        raise


def load_recipe(name: str, overrides: list[str] | tuple[str, ...] = ()) -> LoopConfig:
    """Return the recipe `name` with `key=value` overrides, checked against its task's dataclass.

    Raises VidgenError for an unknown recipe, task or key, a value of another type, or a missing `out`.
    """
    path = find_recipe(name)
    with explain_errors(path):
        written = read_recipe(path)
    if "variants" in written:
        command = f"vidgen tokenizer compare {name} --clips CLIPS --out FOLDER"
        raise VidgenError(f"{path} compares several recipes: `{command}` runs it")
    return resolve_recipe(written, overrides, path)


def resolve_recipe(written: DictConfig, overrides: list[str] | tuple[str, ...], path: Path) -> LoopConfig:
    """Return what `load_recipe` does, of a recipe that was read already; `path` is what errors name."""
    from vidgen.train.runtime.runs import settle_autocast
    from vidgen.train.tasks.registry import TASKS

    with explain_errors(path):
        changes = [parse_override(override) for override in overrides]
        first = OmegaConf.create({key: value for key, value in changes if key in FIRST_KEYS})
        first = rename_keys(first, path, task=first.get("task", written.get("task")))
        written = split_diffusion(OmegaConf.merge(written, first), path)
        task = written.get("task")
        if task not in tuple(TASKS):  # it may be a list, which no dictionary looks up
            raise VidgenError(f"{path}: task {task!r} is unknown; choose one of {', '.join(TASKS)}")
        checked = OmegaConf.merge(OmegaConf.structured(TASKS[task].recipe), written)
        for key, value in changes:
            if key in FIRST_KEYS:
                continue
            try:
                OmegaConf.update(checked, key, value, merge=True)
            except (TypeError, ValueError, IndexError) as error:  # what omegaconf says of names in a list, for one
                reason = str(error).splitlines()[0]
                raise VidgenError(
                    f"{path}: {key} cannot be set ({reason}); `vidgen train RECIPE --dry-run` prints the keys"
                ) from None
        recipe = OmegaConf.to_object(checked)
    recipe.check(path)
    settle_autocast(recipe)
    return recipe
