"""`vidgen sweep`: which layer, at which noise level, pooled how, predicts labels best."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.option_sets import HardwareOptions, ReadingOptions, with_option_sets
from vidgen.scripts.cli.options import (
    BatchOption,
    JsonOption,
    LayersOption,
    ModelArgument,
    NoiseLevelsOption,
    SeedOption,
    parse_names,
    parse_numbers,
)
from vidgen.scripts.cli.outputs import check_folder_output
from vidgen.scripts.cli.printing import note_dropped, print_json, progress, write_report
from vidgen.scripts.cli.probe_protocols import ProbeOptions
from vidgen.scripts.extract import choose_layers, open_model
from vidgen.scripts.probe import print_rows

REPORT = "sweep.json"
PICTURE = "sweep.png"
BANKS = "banks"


@with_option_sets
def sweep(
    *,
    model: ModelArgument,
    source: Annotated[
        Path, typer.Argument(metavar="DATA", help="A manifest with labels, or folders named for classes.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for sweep.json, sweep.png and the banks.")
    ],
    probe: ProbeOptions,
    layers: LayersOption = "all",
    noise_levels: NoiseLevelsOption = "0,0.1,0.3,0.5",
    pools: Annotated[
        str,
        typer.Option(
            help="How features are pooled over a clip: mean, max, temporal, spatial, frame, none, or several."
        ),
    ] = "mean,temporal",
    flat: Annotated[
        float,
        typer.Option(
            min=0,
            max=1e6,
            help="First, middle and last layer are scored first, at the lowest and highest level. If these scores "
            "differ by at most this, the others are skipped.",
        ),
    ] = 0.02,
    reading: ReadingOptions,
    batch_size: BatchOption = 8,
    seed: SeedOption = 0,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Probe every layer x noise level x pool, with all baselines: a table, a heat map and JSON.

    The banks are kept: a second run, with another task or probe, extracts nothing anew.
    Example: vidgen sweep default shapes/labels.jsonl -o sweep --task motion --skip-unlabeled
    """
    settings = reading.settings()
    levels = parse_numbers(noise_levels, "--noise-levels")
    check_folder_output(output)
    output.mkdir(exist_ok=True)

    from vidgen.representations.probes.sweep import sweep_source
    from vidgen.scripts.plots.sweep import draw_sweep

    opened = open_model(model, hardware.device, hardware.dtype)
    with progress(source.name, None) as advance:
        report = sweep_source(
            opened,
            source,
            out=output / BANKS,
            kind=probe.kind,
            probe=probe.labels(),
            layers=choose_layers(opened, layers),
            noise_levels=levels,
            pools=parse_names(pools),
            flat=flat,
            seed=seed,
            batch_size=batch_size,
            progress=advance,
            **settings,
        )
    write_report(report, output / REPORT)
    draw_sweep(report, output / PICTURE)
    note_dropped(report["dropped"])
    if json:
        print_json(report)
        return
    print_rows(f"{probe.kind} on {source.name}: the best on validation", report["rows"])
    if report["skipped"]:
        print(f"{len(report['skipped'])} of the grid left out: on a coarse grid scores differ by {flat:g} at most")
    print(f"{output / REPORT}, {output / PICTURE}")


if __name__ == "__main__":
    run_verb("sweep", sweep)
