"""`vidgen evaluate imitation`: whether a prior does with one object what it was shown of another."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vidgen.scripts.cli.option_sets import HardwareOptions, TokenOptions, with_option_sets
from vidgen.scripts.cli.options import CountOption, JsonOption, SeedOption
from vidgen.scripts.cli.printing import (
    describe_memory,
    format_interval,
    peak_memory_mb,
    pluralize,
    print_json,
    print_table,
    progress,
)


@with_option_sets
def imitation(
    prior: Annotated[str, typer.Argument(help="A folder that task `prior` has made, on sources of kind imitations.")],
    *,
    n: CountOption = 64,
    tokens: TokenOptions,
    seed: SeedOption = 0,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Measure in-context generation: a demonstration, and a caption that says of whom, not what.

    Beside it how often the motion is there after another demonstration, which is chance. Example: vidgen evaluate
    imitation runs/imitations/final
    """
    from vidgen.pipelines.evaluation.imitation_scores import score_imitation
    from vidgen.pipelines.priors.pipeline import PriorPipeline

    pipe = PriorPipeline.from_pretrained(prior, **hardware.settings())
    with progress(prior, n) as advance:
        report: dict[str, Any] = score_imitation(pipe, n, seed=seed, progress=advance, **tokens.settings())
    report = {"model": prior, "seed": seed, **report}
    if json:
        print_json(report | {"peak_mb": peak_memory_mb()})
        return
    rows = [(name.replace("_", " "), f"{report[name]:.3f}", format_interval(ci)) for name, ci in report["ci"].items()]
    print_table(f"imitation by {prior}, {pluralize(n, 'clip')}", ("as shown", ">share", ">95% interval"), rows)
    print(f"motion otherwise: after the demonstration of another clip{describe_memory()}")
