"""`vidgen systems`: published systems, and what of vidgen runs each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.options import JsonOption
from vidgen.scripts.cli.printing import print_json, print_table

TABLE = Path(__file__).with_name("systems.yaml")
STATUSES = ("works", "partly", "out")


def read_systems() -> dict[str, dict[str, Any]]:
    """Return the rows by name, each with its title and systems."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.load(TABLE))


def systems(
    row: Annotated[str | None, typer.Argument(help="One row, such as M15. Default: all.")] = None,
    *,
    json: JsonOption = False,
) -> None:
    """List published systems by what they can: what works, by which recipe, and what is missing.

    Example: vidgen systems M16
    """
    rows = read_systems()
    if row is not None and row.upper() not in rows:
        raise VidgenError(f"row {row!r} is not listed; choose one of {', '.join(rows)}")
    chosen = rows if row is None else {row.upper(): rows[row.upper()]}
    if json:
        print_json({"rows": chosen})
        return
    for name, group in chosen.items():
        lines = [(s["name"], s["status"], s.get("recipe", ""), s.get("note", "")) for s in group["systems"]]
        print_table(f"{name}. {group['title']}", ("system", "status", "vidgen train", "note"), lines)


if __name__ == "__main__":
    run_verb("systems", systems)
