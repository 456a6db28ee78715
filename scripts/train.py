"""`vidgen train`: run a recipe, or go on with one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.files.json_lines import read_json_lines
from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.options import JsonOption, find_device
from vidgen.scripts.cli.outputs import check_folder_output
from vidgen.scripts.cli.printing import print_json, print_table

if TYPE_CHECKING:
    from vidgen.train.config import LoopConfig


def train(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="The name of a shipped recipe, or a YAML file.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Keys of the recipe to change, as steps=100 data.size=[64,64]."),
    ] = None,
    list_recipes: Annotated[bool, typer.Option("--list", help="Only print the names of the shipped recipes.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the whole recipe, every key with its value.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Train a model by a recipe.

    After a stop, the same command goes on from the last checkpoint in the run's folder (`out`). `vidgen train RECIPE
    --dry-run` prints every key that a recipe can have.
    Example: vidgen train tokenizer_default out=runs/mine steps=500
    """
    from vidgen.train.config.files import load_recipe

    if list_recipes:
        show_recipes(json)
        return
    if recipe is None:
        raise VidgenError("name a recipe, or a YAML file; `vidgen train --list` names the shipped ones")
    config = load_recipe(recipe, settings or [])
    if dry_run:
        print_recipe(config, json)
        return
    find_device(config.device)
    run_recipe(config, json)


def show_recipes(as_json: bool) -> None:
    """Print the shipped recipes, each with the first line of comment in its file."""
    from vidgen.train.config.files import recipe_name, shipped_recipes

    rows: list[tuple[str, str]] = []
    for path in shipped_recipes():
        first = path.read_text(encoding="utf-8").splitlines()[0]
        rows.append((recipe_name(path), first.lstrip("# ") if first.startswith("#") else ""))
    if as_json:
        print_json({"recipes": [{"name": name, "about": comment} for name, comment in rows]})
        return
    print_table("shipped recipes", ("name", "about"), rows)


def print_recipe(config: LoopConfig, as_json: bool) -> None:
    """Print every key of a recipe with its value, as YAML or JSON."""
    from omegaconf import OmegaConf

    resolved = OmegaConf.structured(config)
    if as_json:
        print_json(OmegaConf.to_container(resolved, enum_to_str=True))
        return
    print(OmegaConf.to_yaml(resolved), end="")


def run_recipe(config: LoopConfig, as_json: bool) -> None:
    """Train to the end and print where the model is; on Ctrl-C say which checkpoint is saved."""
    from vidgen.train.runtime.checkpoints import checkpoint_steps
    from vidgen.train.runtime.distributed import is_rank_zero
    from vidgen.train.runtime.loop import train as train_loop

    run = Path(config.out)
    check_folder_output(run, parents=True)
    try:
        final = train_loop(config)
    except KeyboardInterrupt as error:
        saved = checkpoint_steps(run)
        line = f"interrupted before the first checkpoint of {run}"
        if saved:
            line = f"interrupted; {run / f'checkpoint-{saved[-1]}'} is saved: the same command goes on from there"
        error.args = (line,)
        raise
    if not is_rank_zero():
        return
    metrics = last_metrics(run)
    if as_json:
        print_json({"final": str(final), "metrics": metrics})
        return
    scores = ", ".join(f"{k} {v:.4g}" for k, v in metrics.items() if k.startswith("validation_"))
    print(f"{final}: trained to step {metrics.get('step', config.steps)}{f', {scores}' if scores else ''}")


def last_metrics(run: Path) -> dict[str, Any]:
    """Return the last value of every metric in metrics.jsonl; {} where nothing was logged."""
    path = run / "metrics.jsonl"
    metrics: dict[str, Any] = {}
    if path.is_file():
        for _, row in read_json_lines(path, cut_short="any"):
            metrics |= row
    return metrics


if __name__ == "__main__":
    run_verb("train", train)
