"""`vidgen solvers`: what each solver is worth where the truth is known, measured on the spot."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.options import JsonOption, parse_names
from vidgen.scripts.cli.printing import print_json, print_table, progress

app = typer.Typer(help="Solvers, measured where the truth is known.", no_args_is_help=True)
OnlyOption = Annotated[str | None, typer.Option("--only", help="Only these, as euler,unipc.")]


@app.command()
def orders(only: OnlyOption = None, json: JsonOption = False) -> None:
    """Claimed and measured order of convergence of each solver on each path, on Gaussian data.

    Example: vidgen solvers orders --only heun,unipc
    """
    from vidgen.samplers.evaluation.convergence import measure_orders

    rows, names = [], chosen(only)
    with progress("solvers", len(names)) as moved:
        for i, name in enumerate(names):
            rows += measure_orders([name])
            moved(i + 1)
    if json:
        print_json({"rows": rows})
        return
    columns = ("solver", "path", ">claimed", ">measured", ">noise to data", ">evaluations a step", "")
    lines = []
    for r in rows:
        found = (f"{r['measured']:.2f}", f"{r['whole_run']:.2f}")
        lines.append((r["name"], r["path"], r["claimed"], *found, r["evaluations"], about(r)))
    print_table("order of convergence on Gaussian data", columns, lines)
    print("measured: between log SNRs of -4.4 and 4.4; noise to data: in even steps of t, ends included")


def about(row: dict[str, Any]) -> str:
    if row["name"] == "rk45":
        return "fixed steps; noise to data: over evaluations, by tolerance"
    return "of the distribution" if row["stochastic"] else ""


@app.command()
def matrix(
    steps: Annotated[int, typer.Option(min=1, help="Steps of every run.")] = 32,
    only: OnlyOption = None,
    json: JsonOption = False,
) -> None:
    """Error of moments on a mixture of Gaussians, for every objective, path and solver.

    Of the mean, the standard deviation and the cube root of the third moment the largest error counts; the mixture's
    standard deviation is about 1. Example: vidgen solvers matrix --steps 16
    """
    from vidgen.diffusion.prediction_types import PREDICTION_TYPES
    from vidgen.samplers.evaluation.convergence import moment_matrix

    rows, names = [], chosen(only)
    with progress("solvers", len(names)) as moved:
        for i, name in enumerate(names):
            rows += moment_matrix([name], steps=steps)
            moved(i + 1)
    if json:
        print_json({"steps": steps, "rows": rows})
        return
    lines = []
    for first in range(0, len(rows), len(PREDICTION_TYPES)):  # one line a solver and path
        group = rows[first : first + len(PREDICTION_TYPES)]
        errors = [f"{row['error']:.4f}" for row in group]
        lines.append((group[0]["solver"], group[0]["path"], group[0]["evaluations"], *errors))
    columns = ("solver", "path", ">evaluations", *(f">{kind}" for kind in PREDICTION_TYPES))
    print_table(f"largest error of moments after {steps} steps", columns, lines)


def chosen(only: str | None) -> list[str]:
    """The solvers asked for, all by default. VidgenError for a name that is none."""
    from vidgen.samplers.solvers import SAMPLERS

    names = list(SAMPLERS) if only is None else parse_names(only)
    unknown = [name for name in names if name not in SAMPLERS]
    if unknown or not names:
        raise VidgenError(f"--only {only!r} names what is no solver; choose from {', '.join(SAMPLERS)}")
    return names


if __name__ == "__main__":
    from vidgen.scripts.main import main_of

    main_of("solvers")
