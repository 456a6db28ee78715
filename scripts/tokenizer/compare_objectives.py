"""`vidgen tokenizer compare-objectives`: reconstruction against denoising at equal budget, by decoding and probes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidgen.bounds import FPS
from vidgen.errors import VidgenError
from vidgen.scripts.cli.options import DeviceOption, JsonOption, SeedOption, find_device
from vidgen.scripts.cli.outputs import check_folder_output
from vidgen.scripts.cli.printing import note, print_json, print_table


def compare_objectives(
    clips: Annotated[Path, typer.Argument(metavar="DIR", help="Clips to train on; some are held out for decoding.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for the runs and tables; continued if there.")
    ] = Path("runs/objectives"),
    labeled: Annotated[
        Path | None,
        typer.Option(
            help="Clips with labels to probe features on, a manifest or folder. Default: synthetic ones only."
        ),
    ] = None,
    fps: Annotated[
        float, typer.Option(**FPS.limits, help="Take frames of labeled clips at this rate, a second.")
    ] = 12.5,
    steps: Annotated[int, typer.Option(min=1, max=10**6, help="Training steps of every variant.")] = 600,
    batch_size: Annotated[int, typer.Option(min=1, max=10**6, help="Clips of a training step.")] = 8,
    preset: Annotated[str, typer.Option(help="The preset of the tokenizer whose encoder is trained.")] = (
        "kl_causal_4x8x8_16ch"
    ),
    width: Annotated[int, typer.Option(min=8, max=65536, help="Width of the denoiser.")] = 192,
    depth: Annotated[int, typer.Option(min=1, max=1024, help="Blocks of the denoiser.")] = 6,
    head_dim: Annotated[int, typer.Option(min=8, max=10**6, help="Width of the denoiser's attention heads.")] = 48,
    num_frames: Annotated[int, typer.Option(min=2, max=10**6, help="Frames of a clip.")] = 17,
    size: Annotated[int, typer.Option(min=16, max=10**6, help="Height and width of clips in pixels.")] = 64,
    hold_out: Annotated[int, typer.Option(min=2, max=10**6, help="Every N-th file is kept for decoding.")] = 4,
    shapes: Annotated[int, typer.Option(min=50, max=10**6, help="Synthetic clips that probes learn from.")] = 300,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Train one encoder by reconstruction, by regression through a denoiser's network, and by denoising; compare.

    Example: vidgen tokenizer compare-objectives clips --labeled actions.csv -o runs/objectives
    """
    for path in (clips, labeled):
        if path is not None and not path.exists():
            raise VidgenError(f"{path}: no such file or folder; check the path")
    check_folder_output(output, parents=True)
    device = find_device(device)

    from vidgen.models.placement import fast_precision
    from vidgen.train.ablations.objective_report import NAME, budget_rows, decoding_rows, probe_rows
    from vidgen.train.ablations.objective_report import compare_objectives as compare
    from vidgen.train.ablations.objective_variants import Plan

    plan = Plan(
        clips=clips,
        out=output,
        labelled=labeled,
        fps=fps,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        preset=preset,
        width=width,
        depth=depth,
        head_dim=head_dim,
        num_frames=num_frames,
        size=size,
        hold_out=hold_out,
        shapes=shapes,
        autocast=fast_precision(device),
        device=device,
    )
    report = compare(plan, say=note)
    if json:
        print_json(report)
        return
    for title, (columns, rows) in {
        "budget": budget_rows(report),
        "decoding of held-out clips": decoding_rows(report),
        "accuracy of probes": probe_rows(report),
    }.items():
        print_table(title, (columns[0], *(f">{name}" for name in columns[1:])), rows)
    print(f"{output / NAME}.json and {NAME}.md: written")
