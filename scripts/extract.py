"""`vidgen extract`: features of clips to a bank on disk."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.options import (
    ClipLengthOption,
    DeviceOption,
    Dtype,
    JsonOption,
    LayersOption,
    LimitOption,
    NoiseLevelsOption,
    RateOption,
    SeedOption,
    SizeOption,
    check_rate,
    find_device,
    find_dtype,
    parse_names,
    parse_numbers,
    parse_size,
)
from vidgen.scripts.cli.printing import describe_memory, note, peak_memory_mb, print_json, progress


def open_model(name: str, device: str, dtype: Dtype) -> Any:
    """The pipeline of that name, or the tokenizer where the folder holds no more. VidgenError if there is none."""
    from vidgen.checkpoints.hub import find_model
    from vidgen.checkpoints.pretrained import read_config
    from vidgen.pipelines.loading import load_pipeline
    from vidgen.pipelines.tokenizer_loading import load_tokenizer
    from vidgen.pipelines.video import INDEX_NAME
    from vidgen.tokenizers.diffusion_decoder.model import DiffusionTokenizer

    where = find_device(device)
    folder, settings = find_model(name), {"device": where, "dtype": find_dtype(dtype, where)}
    if (folder / INDEX_NAME).is_file():
        return load_pipeline(name, **settings)
    if read_config(folder).get("_class_name") == DiffusionTokenizer.__name__:
        return DiffusionTokenizer.from_pretrained(folder, **settings)
    return load_tokenizer(name, **settings)


def choose_taps(model: Any, text: str) -> list[str]:
    """The layers named, or the latents and every block of the denoiser for "all"."""
    if text.strip() != "all":
        return parse_names(text)
    from vidgen.representations.extractor import list_layers

    return [info.name for info in list_layers(model) if info.module in ("latent", "denoiser")]


def find_noise(name: str, model: Any, prompt: str) -> Any:
    """What `FeatureExtractor` takes as noise: the name, or for "inverted" the flow of this pipeline."""
    if name != "inverted":
        return name
    if not hasattr(model, "denoiser"):
        raise VidgenError("--noise inverted needs a denoiser, and a tokenizer alone has none; leave it out")
    from vidgen.samplers.inverted_noise import InvertedNoise

    return InvertedNoise(pipe=model, prompt=prompt)


def parse_part(text: str) -> tuple[int, int]:
    """ "2/4" as (2, 4). Raises VidgenError for anything else."""
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match is None:
        raise VidgenError(f"--part {text!r} is not I/N; give one such as 1/4")
    return int(match[1]), int(match[2])


def extract(
    model: Annotated[str, typer.Argument(help="A pipeline or tokenizer: a shipped name, a folder or a hub id.")],
    source: Annotated[Path, typer.Argument(metavar="DATA", help="A clip, a folder of clips, a manifest, or a tar.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="BANK", help="The bank's folder; continued if there.")
    ],
    layers: LayersOption = "all",
    noise_levels: NoiseLevelsOption = "0.1",
    pool: Annotated[str, typer.Option(help="mean, max, temporal, spatial, frame or none.")] = "mean",
    noise: Annotated[
        str, typer.Option(help="random, predicted (by the denoiser) or inverted (by its flow, from the clip).")
    ] = "random",
    ensemble: Annotated[int, typer.Option(min=1, help="Mean features over so many draws of random noise.")] = 1,
    num_frames: ClipLengthOption = None,
    size: SizeOption = None,
    fps: RateOption = None,
    windows: Annotated[
        Literal["head", "centre", "random", "sliding"], typer.Option(help="Which frames of a clip; sliding: all.")
    ] = "head",
    stride: Annotated[
        int | None, typer.Option(min=1, help="Frames from one sliding window to the next; default: its length.")
    ] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Add random weights, shuffled and single frames, pixels, for probes.")
    ] = False,
    views: Annotated[
        bool,
        typer.Option("--views", help="Add clips that are faster, slower, shifted, for probes of few labels."),
    ] = False,
    prompt: Annotated[str, typer.Option(help="Text that the denoiser is conditioned on.")] = "",
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    limit: LimitOption = None,
    part: Annotated[
        str, typer.Option(metavar="I/N", help="Every N-th clip from the I-th on, for `vidgen bank join`.")
    ] = "1/1",
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    dtype: Annotated[Dtype, typer.Option(help="Precision of the networks.")] = "float32",
    json: JsonOption = False,
) -> None:
    """Write features of clips, read inside the tokenizer and the denoiser, to a bank.

    Example: vidgen extract default clips -o bank --layers tokenizer.latents,dit.blocks.3 --noise-levels 0,0.1
    """
    check_rate(fps)
    frame = parse_size(size)
    levels, share = parse_numbers(noise_levels, "--noise-levels"), parse_part(part)

    from vidgen.representations.extract import extract_source

    opened = open_model(model, device, dtype)
    with progress(source.name, None) as moved:
        report = extract_source(
            opened,
            source,
            output,
            layers=choose_taps(opened, layers),
            noise_levels=levels,
            pool=pool,
            seed=seed,
            prompt=prompt,
            noise=find_noise(noise, opened, prompt),
            ensemble=ensemble,
            num_frames=num_frames,
            size=frame,
            fps=fps,
            windows=windows,
            stride=stride,
            batch_size=batch_size,
            baselines=baselines,
            views=views,
            limit=limit,
            part=share,
            progress=moved,
        )
    if json:
        print_json(report | {"peak_mb": peak_memory_mb()})
        return
    for drop in report["dropped"]:
        note(f"left out: {drop['path']}: {drop['reason']}")
    left = f", {len(report['dropped'])} clips left out" if report["dropped"] else ""
    added = f"{report['rows']} clips ({report['added']} new) x {len(report['keys'])} features"
    print(f"{output}: {added}{left}{describe_memory()}")


if __name__ == "__main__":
    run_verb("extract", extract)
