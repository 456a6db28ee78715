"""`vidgen extract`: features of clips to a bank on disk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vidgen.errors import VidgenError
from vidgen.interfaces import Encoder, Pipeline
from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.options import (
    AllowDamagedOption,
    BatchOption,
    DeviceOption,
    Dtype,
    DtypeOption,
    JsonOption,
    LayersOption,
    LimitOption,
    ModelFpsOption,
    ModelLengthOption,
    ModelSizeOption,
    NoiseLevelsOption,
    SeedOption,
    find_device,
    find_dtype,
    parse_names,
    parse_numbers,
    parse_size,
)
from vidgen.scripts.cli.outputs import check_folder_output
from vidgen.scripts.cli.printing import describe_memory, note, peak_memory_mb, pluralize, print_json, progress

if TYPE_CHECKING:
    from vidgen.representations.noising import Noising


def open_model(name: str, device: str, dtype: Dtype) -> Pipeline | Encoder:
    """Return the model of that name, on a device and in a precision as options say it."""
    from vidgen.pipelines.loading import load_feature_encoder

    where = find_device(device)
    return load_feature_encoder(name, device=where, dtype=find_dtype(dtype, where))


def reduce_model(model: Pipeline | Encoder, text: str) -> Encoder:
    """Return an encoder that computes fewer tokens, as --reduce says it."""
    from vidgen.models.encoders.reducers import reduce_encoder
    from vidgen.representations.latent_encoder import LatentEncoder

    try:
        if isinstance(model, LatentEncoder):
            return model.around(reduce_encoder(model.encoder, text))
        return reduce_encoder(model, text)
    except VidgenError as error:
        raise VidgenError(f"--reduce {error}") from None


def choose_layers(model: Pipeline | Encoder, text: str) -> list[str]:
    """Return the layers named, or for "all" the latents and every block of the denoiser (of others every layer)."""
    from vidgen.representations.model_layers import default_layers

    return default_layers(model, "all" if text.strip() == "all" else parse_names(text))


def choose_noise(name: str, model: Pipeline | Encoder, prompt: str) -> str | Noising:
    """Return what `FeatureExtractor` takes as noise: the name, or for "inverted" the flow of this pipeline."""
    if name != "inverted":
        return name
    if not isinstance(model, Pipeline):
        raise VidgenError(f"--noise inverted needs a denoiser, and {type(model).__name__} has none; leave it out")
    from vidgen.samplers.inverted_noise import InvertedNoise

    return InvertedNoise(pipe=model, prompt=prompt)


def parse_part(text: str) -> tuple[int, int]:
    """Return "2/4" as (2, 4). Raises VidgenError for anything else."""
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match is None:
        raise VidgenError(f"--part {text!r} is not I/N; give one such as 1/4")
    return int(match[1]), int(match[2])


def extract(
    model: Annotated[
        str,
        typer.Argument(help="A pipeline, tokenizer, or encoder of transformers or timm: a name, folder or hub id."),
    ],
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
    ensemble: Annotated[
        int, typer.Option(min=1, max=10**6, help="Mean features over so many draws of random noise.")
    ] = 1,
    num_frames: ModelLengthOption = None,
    size: ModelSizeOption = None,
    fps: ModelFpsOption = None,
    windows: Annotated[
        Literal["head", "centre", "random", "sliding"], typer.Option(help="Which frames of a clip; sliding: all.")
    ] = "head",
    stride: Annotated[
        int | None,
        typer.Option(min=1, max=10**6, help="Frames from one sliding window to the next. Default: its length."),
    ] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Add random weights, shuffled and single frames, pixels, for probes.")
    ] = False,
    views: Annotated[
        bool,
        typer.Option("--views", help="Add clips that are faster, slower, shifted, for probes of few labels."),
    ] = False,
    reduction: Annotated[
        str | None,
        typer.Option(
            "--reduce", metavar="NAME:NUMBER", help="Fewer tokens, as merge:0.2, of an encoder of train ssl/NAME."
        ),
    ] = None,
    prompt: Annotated[str, typer.Option(help="Text that the denoiser is conditioned on.")] = "",
    batch_size: BatchOption = 8,
    limit: LimitOption = None,
    part: Annotated[
        str, typer.Option(metavar="I/N", help="Every N-th clip from the I-th on, for `vidgen bank join`.")
    ] = "1/1",
    allow_damaged: AllowDamagedOption = False,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    json: JsonOption = False,
) -> None:
    """Write features of clips, read inside a tokenizer, a denoiser or another encoder, to a bank.

    Example: vidgen extract default clips -o bank --layers tokenizer.latents,dit.blocks.3 --noise-levels 0,0.1
    """
    if ensemble > 1 and noise != "random":
        raise VidgenError(f"--ensemble {ensemble} is of random noise, and --noise {noise} draws none; leave one out")
    frame = parse_size(size)
    check_folder_output(output, parents=True)
    levels, share = parse_numbers(noise_levels, "--noise-levels"), parse_part(part)

    from vidgen.representations.extract import extract_source

    opened = open_model(model, device, dtype)
    if reduction is not None:
        opened = reduce_model(opened, reduction)
    with progress(source.name, None) as moved, names_rows(output):
        report = extract_source(
            opened,
            source,
            output,
            layers=choose_layers(opened, layers),
            noise_levels=levels,
            pool=pool,
            seed=seed,
            prompt=prompt,
            noise=choose_noise(noise, opened, prompt),
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
            allow_damaged=allow_damaged,
            progress=moved,
        )
    if json:
        print_json(report | {"peak_mb": peak_memory_mb()})
        return
    for drop in report["dropped"]:
        note(f"left out: {drop['path']}: {drop['reason']}")
    left = f", {pluralize(len(report['dropped']), 'clip')} left out" if report["dropped"] else ""
    clips = f"{pluralize(report['rows'], 'clip')} ({report['added']} new)"
    print(f"{output}: {clips} x {pluralize(len(report['keys']), 'feature')}{left}{describe_memory()}")


@contextmanager
def names_rows(output: Path) -> Iterator[None]:
    """Add to the message of Ctrl-C, SIGTERM and SIGHUP how many clips the bank holds."""
    from vidgen.representations.bank import FeatureBank

    try:
        yield
    except KeyboardInterrupt as error:
        try:
            count = len(FeatureBank.load(output))
        except VidgenError:  # nothing was written yet
            count = 0
        if count:
            error.args = (f"interrupted; {output} holds {pluralize(count, 'clip')}, and the same command goes on",)
        raise


if __name__ == "__main__":
    run_verb("extract", extract)
