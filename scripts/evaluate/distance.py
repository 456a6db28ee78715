"""`vidgen evaluate distance`: how far generated clips are from real ones, by features of a model of ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.guidance import GuidanceOptions
from vidgen.scripts.cli.option_sets import (
    HardwareOptions,
    MaskingOptions,
    SamplerOptions,
    TokenOptions,
    with_option_sets,
)
from vidgen.scripts.cli.options import (
    BatchOption,
    JsonOption,
    LayersOption,
    ModelOption,
    NoiseLevelsOption,
    SeedOption,
    parse_numbers,
)
from vidgen.scripts.cli.printing import (
    describe_memory,
    format_interval,
    peak_memory_mb,
    print_json,
    print_table,
    progress,
)
from vidgen.scripts.sampling.pipelines import describe_settings, sampler_settings

if TYPE_CHECKING:
    from vidgen.pipelines.evaluation.feature_distance import Features


@with_option_sets
def distance(
    *,
    model: ModelOption = "default",
    n: Annotated[
        int, typer.Option(min=3, max=10**6, help="How many clips to generate, for twice as many real ones.")
    ] = 64,
    real: Annotated[
        Path | None, typer.Option(metavar="BANK", help="Features of real clips, a bank of `vidgen extract`.")
    ] = None,
    generated: Annotated[
        Path | None, typer.Option(metavar="BANK", help="Features of generated clips, extracted in the same way.")
    ] = None,
    features: Annotated[
        str, typer.Option(metavar="NAME|DIR", help="The model whose features are compared, as for --model.")
    ] = "default",
    layers: LayersOption = "all",
    noise_levels: NoiseLevelsOption = "0.1",
    sampling: SamplerOptions,
    guidance: GuidanceOptions,
    tokens: TokenOptions,
    masking: MaskingOptions,
    seed: SeedOption = 0,
    batch_size: BatchOption = 8,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Measure the kernel distance (KID, unbiased) of generated clips from real ones, beside that of real from real.

    Without banks, clips of held-out prompts are compared with the synthetic world's own, layer by layer; with --real
    and --generated, these banks. Example: vidgen evaluate distance --model default --n 64
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
    from vidgen.pipelines.loading import load_generator
    from vidgen.pipelines.video import VideoPipeline
    from vidgen.representations.extractor import FeatureExtractor
    from vidgen.scripts.extract import choose_layers, open_model

    encoder = open_model(features, hardware.device, hardware.dtype)
    levels = parse_numbers(noise_levels, "--noise-levels")
    extractor = FeatureExtractor(encoder, layers=choose_layers(encoder, layers), noise_levels=levels, seed=seed)
    placement = hardware.settings()
    pipe = load_generator(model, **placement)
    made_by = sampler_settings(pipe, model, sampling, guidance, tokens, masking)
    used = describe_settings(made_by)
    if isinstance(pipe, VideoPipeline):
        made_by["guidance"] = guidance.read(**placement)
        pipe = pipe.maker(**made_by)
        used = sampling.used(pipe.scheduler) | {"guidance": guidance.to_dict()}
    with progress(model, 3 * n) as advance:
        world = held_out_world(pipe.scheduler)
        rows = score_distance(pipe, extractor, world, n, seed=seed, batch_size=batch_size, progress=advance, **made_by)
    show({"model": model, "features": features, "n": n, "seed": seed, **used, "rows": rows}, json)


def read_banks(real: Path, generated: Path) -> tuple[Features, Features]:
    """Return the features that both banks hold under the same keys. VidgenError where they were not made alike."""
    from vidgen.representations.bank import FeatureBank

    banks = [FeatureBank.load(folder) for folder in (real, generated)]
    keys = [key for key in banks[0].keys if key in banks[1].keys]
    for name in ("model", "preprocessing"):
        first, second = (bank.meta.get(f"{name}_hash") for bank in banks)
        if first != second or not keys:
            raise VidgenError(f"{real} and {generated} are features of another {name}; extract both alike")
    first, second = ({key: bank.X(key) for key in keys} for bank in banks)
    return first, second


def show(report: dict[str, Any], as_json: bool) -> None:
    """Print the report as JSON, or as a table with a line for each feature."""
    if as_json:
        print_json(report | {"peak_mb": peak_memory_mb()})
        return
    lines = []
    for row in report["rows"]:
        distance = (f"{row['distance']:.4f}", format_interval(row["interval"], digits=4))
        floor = (f"{row['floor']:.4f}", format_interval(row["floor_range"], digits=4))
        lines.append((row["key"], *distance, *floor))
    counts = report["rows"][0]
    title = f"kernel distance of {report.get('model', report.get('generated'))}: {counts['n_generated']} generated"
    columns = ("features", ">distance", ">95% interval", ">real from real", ">95% of splits")
    print_table(f"{title} clips, {counts['n_real']} real ones", columns, lines)
    print(f"real from real: random halves of {counts['floor_n']} clips each; 0 but for chance{describe_memory()}")
