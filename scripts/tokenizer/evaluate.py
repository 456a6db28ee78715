"""`vidgen tokenizer evaluate`: every metric of every clip, by protocol, and rates beside those of video codecs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.bounds import FRAMES
from vidgen.errors import VidgenError
from vidgen.scripts.cli.option_sets import FastHardwareOptions, with_option_sets
from vidgen.scripts.cli.options import (
    ClipsArgument,
    FitOption,
    FpsOption,
    JsonOption,
    ModelOption,
    PriorOption,
    ReportOption,
    SecondsOption,
    SizeOption,
    parse_names,
    parse_numbers,
    parse_size,
)
from vidgen.scripts.cli.outputs import check_output, check_plot
from vidgen.scripts.cli.printing import (
    describe_memory,
    format_interval,
    note,
    peak_memory_mb,
    pluralize,
    print_json,
    print_table,
    progress,
    write_report,
)
from vidgen.scripts.tokenizer.clip_codecs import choose_model, open_codec

if TYPE_CHECKING:
    from vidgen.tokenizers.evaluation.protocols import ClipProtocol
    from vidgen.tokenizers.evaluation.rate_distortion import Sweep

UNITS = {"psnr": "dB", "psnr_frames": "dB", "temporal_psnr": "dB", "first_psnr": "dB", "rest_psnr": "dB", "seam": "dB"}
UNITS["flicker"] = "levels of 255"


@with_option_sets
def evaluate(
    *,
    source: ClipsArgument,
    model: ModelOption = "default",
    prior: PriorOption = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="Frames and size as in published tables, such as mcljcv-17x256@30fps or davis. Default: the options."
        ),
    ] = None,
    size: SizeOption = None,
    fit: FitOption = "crop",
    num_frames: Annotated[
        int | None,
        typer.Option(
            **FRAMES.limits, help="Take the first N frames, and leave shorter clips out. Default: all frames."
        ),
    ] = None,
    fps: FpsOption = None,
    max_seconds: SecondsOption = None,
    rate_distortion: Annotated[
        bool, typer.Option("--rate-distortion", help="Also measure bits a pixel and PSNR, beside --codecs.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Measure --rate-distortion and draw it into this .png, .svg or .pdf.")
    ] = None,
    codecs: Annotated[str, typer.Option(help="Video codecs to compare with, of x264, x265 and av1.")] = "x264,x265,av1",
    steps: Annotated[str, typer.Option(help="Step sizes that continuous latents are rounded to.")] = "2,1,0.5,0.25",
    output: ReportOption = None,
    hardware: FastHardwareOptions,
    json: JsonOption = False,
) -> None:
    """Measure a tokenizer on clips: fidelity, flicker, seams, codebook usage, and rates beside codecs.

    Clips that cannot be read are named and left out. Example: vidgen tokenizer evaluate clips --protocol davis --json
    """
    clip_options = {
        "size": parse_size(size),
        "fit": fit,
        "num_frames": num_frames,
        "fps": fps,
        "max_seconds": max_seconds,
    }
    if output is not None:
        check_output(output)
    if plot is not None:
        check_plot(plot)
    rule = choose_protocol(protocol, clip_options)
    sweep = choose_sweep(codecs, steps) if rate_distortion or plot is not None or prior is not None else None
    model = choose_model(model, prior)
    report = {"model": model, "prior": prior, "protocol": protocol}
    report |= measure(source, model, rule, sweep, hardware, prior)
    if plot is not None:
        from vidgen.scripts.plots.rates import draw_rates

        draw_rates(report, plot)
    show(report, output, json)


def measure(
    source: Path,
    model: str,
    rule: ClipProtocol,
    sweep: Sweep | None,
    hardware: FastHardwareOptions,
    prior: str | None = None,
) -> dict[str, Any]:
    """Return the report on the clips of `source`, with the tokenizer, precision and settings that it was made with.
    With a `prior` the sweep has a point of the tokens that it codes."""
    from vidgen.data.manifests import find_clips
    from vidgen.metrics import find_perceptual
    from vidgen.pipelines.loading import load_tokenizer
    from vidgen.tokenizers.evaluation.reconstruction import evaluate as evaluate_clips
    from vidgen.tokenizers.evaluation.reconstruction import plain

    records = find_clips(source)
    settings = hardware.settings()
    if prior is None:
        tokenizer = load_tokenizer(model, **settings)
    else:
        codec = open_codec(model, hardware, None, "encode", prior)
        tokenizer, sweep = codec.tokenizer, replace(sweep, token_bits=codec.coder.bits)
    perceptual, missing, network = find_perceptual(settings["device"])
    with progress(source.name, len(records)) as advance:
        report = evaluate_clips(
            tokenizer, records, rule, perceptual=perceptual, sweep=sweep, progress=advance, say=note
        )
    for name, reason in missing.items():
        report["left_out"][name] = {"clips": len(report["clips"]), "reason": reason}
    return {
        "tokenizer": tokenizer.config.name,
        "dtype": str(settings["dtype"]).removeprefix("torch."),
        "settings": plain(rule),
        "lpips_network": network,
        **report,
        "peak_mb": peak_memory_mb(),
    }


def choose_protocol(name: str | None, options: dict[str, Any]) -> ClipProtocol:
    """Return the named protocol, or one of the options. VidgenError for both: the name would no longer be true."""
    from vidgen.tokenizers.evaluation.protocols import ClipProtocol, check_protocol, find_protocol

    if name is None:
        return check_protocol(ClipProtocol(**options))
    rule = find_protocol(name)
    changed = ["--" + key.replace("_", "-") for key, value in options.items() if value not in (None, "crop")]
    if changed:
        raise VidgenError(f"--protocol {name} fixes what {', '.join(changed)} would change; leave one of the two out")
    return rule


def choose_sweep(codecs: str, steps: str) -> Sweep:
    """Return the codecs and steps of the options. VidgenError for names and sizes that are none."""
    from vidgen.data.video_codecs import CODECS, has_codec
    from vidgen.tokenizers.evaluation.rate_distortion import Sweep

    sizes = parse_numbers(steps, "--steps")
    names = parse_names(codecs)
    if not sizes or min(sizes) <= 0:
        raise VidgenError(f"--steps {steps!r}: give step sizes above 0, such as 1,0.5")
    for name in names:
        if name not in CODECS:
            raise VidgenError(f"--codecs {name!r} is unknown; choose of {', '.join(CODECS)}")
        if not has_codec(CODECS[name]):
            raise VidgenError(f"--codecs {name!r}: this FFmpeg has no {CODECS[name].encoder}; leave it out")
    return replace(Sweep(), steps=tuple(sizes), codecs=tuple(CODECS[name] for name in names))


def show(report: dict[str, Any], output: Path | None, as_json: bool) -> None:
    """Print the report as tables, or write it as JSON to a file or to stdout."""
    if output is not None:
        write_report(report, output)
    elif as_json:
        print_json(report)
    if not as_json:
        print_means(report)
        if "rate_distortion" in report:
            print_rates(report["rate_distortion"])
        print(f"{pluralize(len(report['clips']), 'clip')}, {len(report['dropped'])} left out{describe_memory()}")


def print_means(report: dict[str, Any]) -> None:
    """Print the mean of every metric, the profile of seams, and the use of codebooks."""
    rows = []
    left_out = report["left_out"]
    for name in [*report["mean"], *(name for name in left_out if name not in report["mean"])]:
        mean = report["mean"].get(name)
        missing = left_out.get(name)
        count = sum(clip[name] is not None for clip in report["clips"])
        remark = f"not of {missing['clips']}: {missing['reason']}" if missing else UNITS.get(name, "")
        interval = format_interval(report["ci"].get(name))
        rows.append((name, "-" if mean is None else f"{mean:.3f}", interval, count, remark))
    title = f"{report['model']} ({report['tokenizer']}), {report['protocol'] or 'no protocol'}"
    print_table(title, ("metric", ">mean", ">95% interval", ">clips", "note"), rows)
    seam = report["seam"]
    profile = [(k + 1, f"{v:.2f}", f"{seam['temporal_psnr'][k]:.2f}") for k, v in enumerate(seam["psnr"])]
    if profile:
        print_table("seam profile", (">frame in chunk", ">PSNR dB", ">temporal PSNR dB"), profile)
    if usage := report["usage"]:
        books = zip(usage["usage"], usage["perplexity"], usage["bits_per_token"], strict=True)
        rows = [(k, f"{u:.3f}", f"{p:.1f}", f"{b:.2f} of {usage['bits']:.2f}") for k, (u, p, b) in enumerate(books)]
        print_table("tokens", (">codebook", ">usage", ">perplexity", ">bits a token"), rows)


def print_rates(rates: dict[str, Any]) -> None:
    """Print a line a point, with each codec's PSNR at the coded rate, and in brackets the tokenizer's gain over it."""
    names = list(rates["codecs"])
    rows = []
    for point in rates["points"]:
        cells = []
        for name in names:
            match = point["matched"].get(name)
            few = "" if not match or match["clips"] == point["clips"] else f" {match['clips']}/{point['clips']}"
            cells.append(f"{match['psnr']:.2f} ({match['gain']:+.2f}){few}" if match else "off its curve")
        bpp = [f"{point[key]:.4f}" for key in ("raw_bpp", "entropy_bpp", "coded_bpp")]
        rows.append((point["name"], *bpp, f"{point['psnr']:.2f}", *cells))
    columns = ("point", ">raw bpp", ">entropy bpp", ">coded bpp", ">PSNR dB", *(f">{name} dB at it" for name in names))
    print_table("rate and distortion", columns, rows)
    for name, curve in rates["codecs"].items():
        note(f"{name}: {curve[-1]['bpp']:.4f} to {curve[0]['bpp']:.4f} bpp swept")
