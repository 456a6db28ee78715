"""`vidgen evaluate sampler-law`: how far decoders of token priors are from the model's law, where it is known."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vidgen.scripts.cli.options import JsonOption, SeedOption, parse_names
from vidgen.scripts.cli.printing import pluralize, print_json, print_table, progress


def sampler_law(
    *,
    only: Annotated[
        str | None, typer.Option(help="Only these decoders, as autoregressive,maskgit. Default: all.")
    ] = None,
    draws: Annotated[int, typer.Option(min=100, max=10**8, help="How many sequences each decoder draws.")] = 100_000,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Measure each decoder of token priors on a law that is known: 8 tokens of 3 values, 6,561 sequences.

    A Potts model on 2x2x2 tokens, whose conditionals are exact, takes the network's place, so that all distance is the
    decoder's. Example: vidgen evaluate sampler-law --only any_order,maskgit
    """
    from vidgen.samplers.evaluation.token_decoding import (
        GRID,
        count_cases,
        expected_kl,
        expected_total_variation,
        measure_decoders,
    )
    from vidgen.samplers.evaluation.token_laws import potts_law

    names = None if only is None else parse_names(only)
    with progress("decoders", count_cases(names)) as advance:
        rows = measure_decoders(names, draws=draws, seed=seed, progress=advance)
    law = potts_law(GRID).probabilities
    report = {
        "draws": draws,
        "seed": seed,
        "perfect": {"total_variation": expected_total_variation(law, draws), "kl": expected_kl(law, draws)},
        "rows": rows,
    }
    if json:
        print_json(report)
    else:
        show(report)


def show(report: dict[str, Any]) -> None:
    """Print a line for each decoder and setting, and what perfect draws would have."""
    columns = (
        "decoder",
        "setting",
        "exact",
        ">passes",
        ">total variation",
        ">KL, nats",
        "by",
        ">p of its draws",
    )
    lines = []
    for row in report["rows"]:
        distance = (f"{row['total_variation']:.4f}", f"{row['kl']:.4f}", row["by"])
        p_value = "" if row["p_value"] is None else f"{row['p_value']:.3f}"
        claim = "yes" if row["exact"] else "no"
        lines.append((row["decoder"], row["setting"], claim, f"{row['passes']:.2f}", *distance, p_value))
    print_table(f"laws of decoders, {pluralize(report['draws'], 'draw')} each", columns, lines)
    perfect = report["perfect"]
    print(
        f"perfect draws: total variation {perfect['total_variation']:.4f}, KL {perfect['kl']:.4f}; "
        "p: chi-square of the draws under the law that was enumerated"
    )
