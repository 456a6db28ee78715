"""`vidgen evaluate distance`: how far generated clips are from real ones, by features of a model of ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.guidance import GuidanceScaleOption
from vidgen.scripts.cli.options import (
    DeviceOption,
    Dtype,
    JsonOption,
    ModelOption,
    NoiseLevelsOption,
    SeedOption,
    TapsOption,
    find_device,
    find_dtype,
    parse_numbers,
)
from vidgen.scripts.cli.printing import (
    describe_memory,
    peak_memory_mb,
    print_json,
    print_table,
    progress,
    settings_used,
)

if TYPE_CHECKING:
    from vidgen.pipelines.evaluation.feature_distance import Features

BANK = "A bank of `vidgen extract`, of "
BankOption = Annotated[Path | None, typer.Option("--real", metavar="BANK", help=BANK + "real clips.")]
OtherBankOption = Annotated[Path | None, typer.Option("--generated", metavar="BANK", help=BANK + "generated clips.")]


def distance(
    model: ModelOption = "default",
    n: Annotated[int, typer.Option("--n", min=3, help="Generated clips; of the world's own, twice as many.")] = 64,
    real: BankOption = None,
    generated: OtherBankOption = None,
    features: Annotated[
        str, typer.Option("--features", metavar="NAME|DIR", help="The model whose features are compared.")
    ] = "default",
    layers: TapsOption = "all",
    noise_levels: NoiseLevelsOption = "0.1",
    num_inference_steps: Annotated[int | None, typer.Option(min=1, help="Default: the model's.")] = None,
    guidance_scale: GuidanceScaleOption = None,
    sampler: Annotated[str | None, typer.Option(help="Default: the model's.")] = None,
    seed: SeedOption = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Clips made at once.")] = 8,
    device: DeviceOption = "auto",
    dtype: Annotated[Dtype, typer.Option("--dtype", help="Precision of the networks.")] = "float32",
    json: JsonOption = False,
) -> None:
    """Unbiased kernel distance (KID) of generated clips from real ones, layer by layer, beside that of real from real.

    Without banks: of clips of held-out prompts from the synthetic world's own. With --real and --generated: of what
    these hold. Example: vidgen evaluate distance --model default --n 64
    """
    if (real is None) != (generated is None):
        raise VidgenError("--real and --generated are banks that are compared with each other; give both, or neither")
    if real is not None and generated is not None:
        from vidgen.pipelines.evaluation.feature_distance import compare_features

        rows = compare_features(*read_banks(real, generated), seed=seed)
        show({"real": str(real), "generated": str(generated), "seed": seed, "rows": rows}, json)
        return

    from vidgen.pipelines.evaluation.adherence import held_out_world
    from vidgen.pipelines.evaluation.feature_distance import score_distance
    from vidgen.pipelines.loading import load_pipeline
    from vidgen.representations.extractor import FeatureExtractor
    from vidgen.scripts.extract import choose_layers, open_model

    where = find_device(device)
    seen = open_model(features, device, dtype)
    levels = parse_numbers(noise_levels, "--noise-levels")
    extractor = FeatureExtractor(seen, layers=choose_layers(seen, layers), noise_levels=levels, seed=seed)
    pipe = load_pipeline(model, device=where, dtype=find_dtype(dtype, where))
    settings = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale, "sampler": sampler}
    with progress(model, 3 * n) as moved:
        world = held_out_world(pipe.scheduler)
        sizes = {"seed": seed, "batch_size": batch_size}
        rows = score_distance(pipe, extractor, world, n, progress=moved, **sizes, **settings)
    used = settings_used(pipe.scheduler, settings)
    show({"model": model, "features": features, "n": n, "seed": seed, **used, "rows": rows}, json)


def read_banks(real: Path, generated: Path) -> tuple[Features, Features]:
    """What both banks hold under the same keys. VidgenError where they were not made alike."""
    from vidgen.representations.bank import FeatureBank

    banks = [FeatureBank.load(folder) for folder in (real, generated)]
    keys = [key for key in banks[0].keys if key in banks[1].keys]
    for what in ("model", "preprocessing"):
        one, two = (bank.meta.get(f"{what}_hash") for bank in banks)
        if one != two or not keys:
            raise VidgenError(f"{real} and {generated} are features of another {what}; extract both alike")
    one, two = ({key: bank.X(key) for key in keys} for bank in banks)
    return one, two


def show(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(report | {"peak_mb": peak_memory_mb()})
        return
    lines = []
    for row in report["rows"]:
        (low, high), (least, most) = row["interval"], row["floor_range"]
        found = (f"{row['distance']:.4f}", f"{low:.4f} - {high:.4f}")
        lines.append((row["key"], *found, f"{row['floor']:.4f}", f"{least:.4f} - {most:.4f}"))
    counts = report["rows"][0]
    title = f"kernel distance of {report.get('model', report.get('generated'))}: {counts['n_generated']} generated"
    columns = ("features", ">distance", ">95% interval", ">real from real", ">95% of splits")
    print_table(f"{title} clips, {counts['n_real']} real ones", columns, lines)
    print(f"real from real: random halves of {counts['floor_n']} clips each; 0 but for chance{describe_memory()}")
