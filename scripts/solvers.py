"""`vidgen solvers`: the accuracy of each solver on data whose exact solution is known, measured on the spot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.options import JsonOption, parse_names
from vidgen.scripts.cli.printing import print_json, print_table, progress

app = typer.Typer(help="Accuracy of solvers on data whose exact solution is known.", no_args_is_help=True)
OnlyOption = Annotated[
    str | None, typer.Option("--only", help="Measure only these solvers, as euler,unipc. Default: all.")
]


@app.command()
def orders(only: OnlyOption = None, json: JsonOption = False) -> None:
    """Measure the order of convergence of each solver on each path, on Gaussian data, beside the claimed one.

    Example: vidgen solvers orders --only heun,unipc
    """
    from vidgen.samplers.evaluation.convergence import measure_orders

    rows = measure_each(only, lambda name: measure_orders([name]))
    if json:
        print_json({"rows": rows})
        return
    columns = ("solver", "path", ">claimed", ">measured", ">noise to data", ">evaluations a step", "")
    lines = []
    for row in rows:
        orders = (row["claimed"], f"{row['measured']:.2f}", f"{row['whole_run']:.2f}")
        lines.append((row["name"], row["path"], *orders, row["evaluations"], describe_order(row)))
    print_table("order of convergence on Gaussian data", columns, lines)
    print("measured: between log SNRs of -4.4 and 4.4; noise to data: in even steps of t, ends included")


def describe_order(row: dict[str, Any]) -> str:
    """Return what is to be said about how an order was measured."""
    if row["name"] == "rk45":
        return "fixed steps; noise to data: over evaluations, by tolerance"
    return "of the distribution" if row["stochastic"] else ""


@app.command()
def matrix(
    steps: Annotated[int, typer.Option(min=1, max=10**6, help="Steps that every solver takes.")] = 32,
    only: OnlyOption = None,
    json: JsonOption = False,
) -> None:
    """Measure the error of moments on a mixture of Gaussians, for every prediction type, path and solver.

    Of the mean, the standard deviation and the cube root of the third moment the largest error counts; the mixture's
    standard deviation is about 1. Example: vidgen solvers matrix --steps 16
    """
    from vidgen.diffusion.prediction_types import PREDICTION_TYPES
    from vidgen.samplers.evaluation.convergence import moment_matrix

    rows = measure_each(only, lambda name: moment_matrix([name], steps=steps))
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


@app.command()
def schedules(only: OnlyOption = None, json: JsonOption = False) -> None:
    """Measure errors at 5 to 50 steps on Karras' schedule, flow with shifts 1 and 3, and cosine.

    Against the exact probability flow of Gaussians and two mixtures, root mean square over all; of solvers that draw
    noise no such error is defined, so they are left out. Example: vidgen solvers schedules --only dpmpp_2m,dpmpp_3m
    """
    from vidgen.samplers.evaluation.practical import STEPS, practical_errors
    from vidgen.samplers.solvers import SAMPLERS

    rows = measure_each(only, lambda name: [] if SAMPLERS[name].stochastic else practical_errors([name]))
    if json:
        print_json({"rows": rows})
        return
    lines = [(row["name"], row["schedule"], *(f"{row['errors'][n]:.4f}" for n in STEPS)) for row in rows]
    print_table("error by number of steps", ("solver", "schedule", *(f">{n}" for n in STEPS)), lines)


def measure_each(only: str | None, measure: Callable[[str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the rows of the solvers named, all by default, one solver after the other."""
    rows = []
    names = choose_solvers(only)
    with progress("solvers", len(names)) as advance:
        for done, name in enumerate(names, start=1):
            rows += measure(name)
            advance(done)
    return rows


def choose_solvers(only: str | None) -> list[str]:
    """Return the solvers named, all by default. VidgenError for a name that is none."""
    from vidgen.samplers.solvers import SAMPLERS

    names = list(SAMPLERS) if only is None else parse_names(only)
    unknown = [name for name in names if name not in SAMPLERS]
    if unknown or not names:
        raise VidgenError(f"--only {only!r} names what is no solver; choose from {', '.join(SAMPLERS)}")
    return names


if __name__ == "__main__":
    run_verb("solvers", app)
