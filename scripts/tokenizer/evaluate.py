"""`vidgen tokenizer evaluate`: every metric of every clip, by protocol, and rates beside those of video codecs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from vidgen.errors import VidgenError
from vidgen.scripts.cli.options import (
    DeviceOption,
    Dtype,
    DtypeOption,
    FitOption,
    FpsOption,
    JsonOption,
    ModelOption,
    SizeOption,
    check_rate,
    find_device,
    find_dtype,
    parse_names,
    parse_numbers,
    parse_size,
)
from vidgen.scripts.cli.outputs import check_output, check_plot
from vidgen.scripts.cli.printing import (
    describe_memory,
    note,
    peak_memory_mb,
    print_json,
    print_table,
    progress,
    write_report,
)

if TYPE_CHECKING:
    from vidgen.tokenizers.evaluation.protocols import ClipProtocol
    from vidgen.tokenizers.evaluation.rate_distortion import Sweep

UNITS = {"psnr": "dB", "psnr_frames": "dB", "temporal_psnr": "dB", "first_psnr": "dB", "rest_psnr": "dB", "seam": "dB"}
UNITS["flicker"] = "levels of 255"


class JsonToFile(TyperCommand):
    """`--json report.json` is `--json -o report.json`; any other word after --json is not its value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = []
        for before, word in zip(["", *args], args, strict=False):
            words += ["-o"] if before == "--json" and word.endswith(".json") and not word.startswith("-") else []
            words.append(word)
        return super().parse_args(ctx, words)


def evaluate(
    source: Annotated[Path, typer.Argument(metavar="CLIP|DIR", help="A clip, or a folder or manifest of clips.")],
    model: ModelOption = "default",
    protocol: Annotated[
        str | None, typer.Option(help="Frames and size as published tables have them: mcljcv-17x256@30fps, davis, ...")
    ] = None,
    size: SizeOption = None,
    fit: FitOption = "crop",
    num_frames: Annotated[
        int | None, typer.Option("--num-frames", min=1, help="Take the first N frames; leave shorter clips out.")
    ] = None,
    fps: FpsOption = None,
    max_seconds: Annotated[float | None, typer.Option("--max-seconds", help="Take the first S seconds.")] = None,
    rate_distortion: Annotated[
        bool, typer.Option("--rate-distortion", help="Bits per pixel and PSNR beside x264, x265 and AV1.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw --rate-distortion into a .png, .svg or .pdf.")
    ] = None,
    codecs: Annotated[str, typer.Option("--codecs", help="Codecs to compare with.")] = "x264,x265,av1",
    steps: Annotated[
        str, typer.Option("--steps", help="Step sizes of rounded latents, for continuous tokenizers.")
    ] = "2,1,0.5,0.25",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the JSON to this file; so does --json FILE.json.")
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    json: JsonOption = False,
) -> None:
    """Measure a tokenizer on clips: fidelity, flicker, seams, codebook usage, and rates beside codecs.

    Clips that cannot be read are named and left out. Example: vidgen tokenizer evaluate clips --protocol davis --json
    """
    check_rate(fps)
    own = {"size": parse_size(size), "fit": fit, "num_frames": num_frames, "fps": fps, "max_seconds": max_seconds}
    if output is not None:
        check_output(output)
    if plot is not None:
        check_plot(plot)
    rule = choose_protocol(protocol, own)
    sweep = choose_sweep(codecs, steps) if rate_distortion or plot is not None else None
    report = {"model": model, "protocol": protocol, **measure(source, model, rule, sweep, device, dtype)}
    if plot is not None:
        from vidgen.scripts.plots.rates import draw_rates

        draw_rates(report, plot)
    show(report, output, json)


def measure(
    source: Path, model: str, rule: ClipProtocol, sweep: Sweep | None, device: str, dtype: Dtype
) -> dict[str, Any]:
    """The report of `vidgen.tokenizers.evaluating.evaluate` with what it was made with."""
    from vidgen.data.manifests import find_clips
    from vidgen.metrics import find_lpips
    from vidgen.pipelines.loading import load_tokenizer
    from vidgen.tokenizers.evaluation.reconstruction import evaluate as evaluate_clips
    from vidgen.tokenizers.evaluation.reconstruction import plain

    records = find_clips(source)
    where = find_device(device)
    precision = find_dtype(dtype, where)
    tokenizer = load_tokenizer(model, device=where, dtype=precision)
    lpips, found = find_lpips(where)
    with progress(source.name, len(records)) as moved:
        report = evaluate_clips(tokenizer, records, rule, lpips=lpips, sweep=sweep, progress=moved, say=note)
    if lpips is None:
        report["left_out"]["lpips"] = {"clips": len(report["clips"]), "reason": found}
    made = {"tokenizer": tokenizer.config.name, "dtype": str(precision).removeprefix("torch."), "settings": plain(rule)}
    return {**made, "lpips_network": found if lpips is not None else None, **report, "peak_mb": peak_memory_mb()}


def choose_protocol(name: str | None, own: dict[str, Any]) -> ClipProtocol:
    """The named protocol, or one of the options. VidgenError for both at once: the name would no longer be true."""
    from vidgen.tokenizers.evaluation.protocols import ClipProtocol, check_protocol, find_protocol

    if name is None:
        return check_protocol(ClipProtocol(**own))
    rule = find_protocol(name)
    given = ["--" + key.replace("_", "-") for key, value in own.items() if value not in (None, "crop")]
    if given:
        raise VidgenError(f"--protocol {name} fixes what {', '.join(given)} would change; leave one of the two out")
    return rule


def choose_sweep(codecs: str, steps: str) -> Sweep:
    """The codecs and steps of the options. VidgenError for names and sizes that are none."""
    from vidgen.data.video_codecs import CODECS, has_codec
    from vidgen.tokenizers.evaluation.rate_distortion import Sweep

    sizes, names = parse_numbers(steps, "--steps"), parse_names(codecs)
    if not sizes or min(sizes) <= 0:
        raise VidgenError(f"--steps {steps!r}: give step sizes above 0, such as 1,0.5")
    for name in names:
        if name not in CODECS:
            raise VidgenError(f"--codecs {name!r} is unknown; choose of {', '.join(CODECS)}")
        if not has_codec(CODECS[name]):
            raise VidgenError(f"--codecs {name!r}: this FFmpeg has no {CODECS[name].encoder}; leave it out")
    return replace(Sweep(), steps=tuple(sizes), codecs=tuple(CODECS[name] for name in names))


def show(report: dict[str, Any], output: Path | None, as_json: bool) -> None:
    """JSON to a file or to stdout, or tables."""
    if output is not None:
        write_report(report, output)
    elif as_json:
        print_json(report)
    if not as_json:
        print_means(report)
        if "rate_distortion" in report:
            print_rates(report["rate_distortion"])
        print(f"{len(report['clips'])} clips, {len(report['dropped'])} left out{describe_memory()}")


def print_means(report: dict[str, Any]) -> None:
    rows, left_out = [], report["left_out"]
    for name in [*report["mean"], *(name for name in left_out if name not in report["mean"])]:
        mean, interval, why = report["mean"].get(name), report["ci"].get(name), left_out.get(name)
        spread = "-" if interval is None else f"{interval[0]:.3f} - {interval[1]:.3f}"
        n = sum(clip[name] is not None for clip in report["clips"])
        remark = f"not of {why['clips']}: {why['reason']}" if why else UNITS.get(name, "")
        rows.append((name, "-" if mean is None else f"{mean:.3f}", spread, n, remark))
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
    """A line a point; for each codec its PSNR at the coded rate, and in brackets how much better the tokenizer is."""
    names = list(rates["codecs"])
    rows = []
    for point in rates["points"]:
        cells = []
        for name in names:
            found = point["matched"].get(name)
            few = "" if not found or found["clips"] == point["clips"] else f" {found['clips']}/{point['clips']}"
            cells.append(f"{found['psnr']:.2f} ({found['gain']:+.2f}){few}" if found else "off its curve")
        bpp = [f"{point[key]:.4f}" for key in ("raw_bpp", "entropy_bpp", "coded_bpp")]
        rows.append((point["name"], *bpp, f"{point['psnr']:.2f}", *cells))
    columns = ("point", ">raw bpp", ">entropy bpp", ">coded bpp", ">PSNR dB", *(f">{name} dB at it" for name in names))
    print_table("rate and distortion", columns, rows)
    for name, curve in rates["codecs"].items():
        note(f"{name}: {curve[-1]['bpp']:.4f} to {curve[0]['bpp']:.4f} bpp swept")
