"""`vidgen evaluate likelihood`: how many bits a prior needs for the tokens of clips it has not seen."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vidgen.scripts.cli.option_sets import HardwareOptions, with_option_sets
from vidgen.scripts.cli.options import BatchOption, CountOption, JsonOption, SeedOption
from vidgen.scripts.cli.printing import (
    describe_memory,
    format_interval,
    peak_memory_mb,
    print_json,
    print_table,
    progress,
)


@with_option_sets
def likelihood(
    prior: Annotated[str, typer.Argument(help="A folder that task `prior` has made.")],
    *,
    n: CountOption = 64,
    draws: Annotated[
        int, typer.Option(min=1, max=10**6, help="Orders, or masks, of a prior that has no one order.")
    ] = 16,
    seed: SeedOption = 0,
    batch_size: BatchOption = 8,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Measure the bits that a prior needs for held-out clips of the synthetic world, token by token.

    They are exact for a prior that goes token by token, and an upper bound for one that fills in masked tokens; beside
    them what tokens take without a prior. Example: vidgen evaluate likelihood prior
    """
    from vidgen.pipelines.evaluation.adherence import held_out_world
    from vidgen.pipelines.evaluation.token_likelihood import score_likelihood
    from vidgen.pipelines.priors.pipeline import PriorPipeline

    pipe = PriorPipeline.from_pretrained(prior, **hardware.settings())
    world = held_out_world(pipe.scheduler)
    clips = [(clip.video, clip.caption) for clip in (world[index] for index in range(n))]
    with progress(prior, n) as advance:
        settings = {"draws": draws, "seed": seed, "batch_size": batch_size, "advance": advance}
        report = {"model": prior, "seed": seed, **score_likelihood(pipe, clips, **settings)}
    if json:
        print_json(report | {"peak_mb": peak_memory_mb()})
    else:
        show(report)


def show(report: dict[str, Any]) -> None:
    """Print bits of a token by the prior and without it, and perplexity frame by frame."""
    name = "by the prior" if report["exact"] else "by the prior, at most"
    rows = [
        (name, f"{report['bits_per_token']:.3f}", format_interval(report["ci"])),
        ("by the tokens' own histogram", f"{report['histogram_bits_per_token']:.3f}", "-"),
        ("as stored", f"{report['stored_bits_per_token']:.3f}", "-"),
    ]
    print_table(f"bits a token, {report['n']} clips of {report['tokens']} tokens", ("tokens", ">bits", ">95%"), rows)
    if report["perplexity_by_frame"]:
        print("perplexity by latent frame: " + ", ".join(f"{value:.2f}" for value in report["perplexity_by_frame"]))
    if report["draws_error"]:
        print(f"{report['draws_error']:.4f} bits a token: standard error of the mean by its draws")
    print(f"{report['bits_per_pixel']:.4f} bits a pixel{describe_memory()}")
