"""`vidgen sweep`: which layer, at which noise level, pooled how, says most of the labels."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated

import typer

from vidgen.scripts.cli.options import (
    ClipLengthOption,
    DeviceOption,
    Dtype,
    JsonOption,
    LimitOption,
    NoiseLevelsOption,
    RateOption,
    SeedOption,
    SizeOption,
    TapsOption,
    check_rate,
    parse_names,
    parse_numbers,
    parse_size,
)
from vidgen.scripts.cli.outputs import check_output
from vidgen.scripts.cli.printing import note, print_json, progress
from vidgen.scripts.extract import choose_layers, open_model
from vidgen.scripts.probe import GoalOption, KindOption, SkipOption, TaskOption, print_rows

REPORT, PICTURE, BANKS = "sweep.json", "sweep.png", "banks"


def sweep(
    model: Annotated[str, typer.Argument(help="A pipeline or tokenizer: a shipped name, a folder or a hub id.")],
    source: Annotated[Path, typer.Argument(metavar="DATA", help="A manifest with labels, or class folders.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="For sweep.json, sweep.png and the banks.")
    ],
    kind: KindOption = "knn",
    task: TaskOption = "label",
    target_type: GoalOption = None,
    skip_unlabelled: SkipOption = False,
    layers: TapsOption = "all",
    noise_levels: NoiseLevelsOption = "0,0.1,0.3,0.5",
    pools: Annotated[str, typer.Option(help="Of mean, max, temporal, spatial and none.")] = "mean,temporal",
    flat: Annotated[
        float, typer.Option(min=0, help="Stop after a coarse grid whose validation scores differ by no more.")
    ] = 0.02,
    num_frames: ClipLengthOption = None,
    size: SizeOption = None,
    fps: RateOption = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    dtype: Annotated[Dtype, typer.Option(help="Precision of the networks.")] = "float32",
    json: JsonOption = False,
) -> None:
    """Probe every layer x noise level x pool, with all baselines: a table, a heat map and JSON.

    The banks are kept: a second run, with another task or probe, extracts nothing anew.
    Example: vidgen sweep default shapes/labels.jsonl -o sweep --task motion --skip-unlabelled
    """
    check_rate(fps)
    frame, levels, pooled = parse_size(size), parse_numbers(noise_levels, "--noise-levels"), parse_names(pools)
    output.mkdir(exist_ok=True) if output.parent.is_dir() else check_output(output, folder=True)

    from vidgen.checkpoints.atomic import atomic_write
    from vidgen.representations.probes.sweep import sweep_source
    from vidgen.scripts.plots.sweep import draw_sweep

    opened = open_model(model, device, dtype)
    with progress(source.name, None) as moved:
        report = sweep_source(
            opened,
            source,
            out=output / BANKS,
            kind=kind,
            probe={"task": task, "target_type": target_type, "skip_unlabelled": skip_unlabelled},
            layers=choose_layers(opened, layers),
            noise_levels=levels,
            pools=pooled,
            flat=flat,
            seed=seed,
            num_frames=num_frames,
            size=frame,
            fps=fps,
            batch_size=batch_size,
            limit=limit,
            progress=moved,
        )
    with atomic_write(output / REPORT) as target:
        target.write_text(json_format.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    draw_sweep(report, output / PICTURE)
    for drop in report["dropped"]:
        note(f"left out: {drop['path']}: {drop['reason']}")
    if json:
        print_json(report)
        return
    print_rows(f"{kind} on {source.name}: the best on validation", report["rows"])
    if report["skipped"]:
        print(f"{len(report['skipped'])} of the grid left out: on a coarse grid scores differ by {flat:g} at most")
    print(f"{output / REPORT}, {output / PICTURE}")


if __name__ == "__main__":
    from vidgen.scripts.main import main_of

    main_of("sweep")
