"""`vidgen bench`: speed and memory on this machine, beside peers, in one run. A bench is one entry in `BENCHES`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.options import (
    DeviceOption,
    Dtype,
    JsonOption,
    JsonToFile,
    ModelOption,
    find_device,
    find_dtype,
    parse_names,
)
from vidgen.scripts.cli.outputs import check_output
from vidgen.scripts.cli.printing import note, print_json, print_table, progress, write_report

if TYPE_CHECKING:
    from vidgen.scripts.benches.bench_rows import BenchSettings


def load_tokenizer_bench() -> ModuleType:
    """Return the bench of the tokenizer."""
    from vidgen.scripts.benches import tokenizer

    return tokenizer


def load_dit_bench() -> ModuleType:
    """Return the bench of the denoiser."""
    from vidgen.scripts.benches import dit

    return dit


def load_extract_bench() -> ModuleType:
    """Return the bench of features and search."""
    from vidgen.scripts.benches import extract

    return extract


# What imports each bench when it is run: its `measure(settings, machine)` yields the rows; --only and --peers choose
# from its `CASES` and `PEERS`.
BENCHES: dict[str, Callable[[], ModuleType]] = {
    "tokenizer": load_tokenizer_bench,
    "dit": load_dit_bench,
    "extract": load_extract_bench,
}


def bench(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"What to measure: {', '.join(BENCHES)}.")],
    model: ModelOption = "default",
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Times that each is run, in turns.")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, to see whether everything runs.")] = False,
    only: Annotated[str | None, typer.Option("--only", metavar="CASES", help="As encode,train; default: all.")] = None,
    peers: Annotated[
        str | None,
        typer.Option("--peers", "--peer", metavar="NAMES", help="To compare with, or none; default: all."),
    ] = None,
    peer_seconds: Annotated[
        float,
        typer.Option("--peer-seconds", help="A peer that takes longer for a clip gets a shorter one; a note says so."),
    ] = 600.0,
    bank_gb: Annotated[
        float | None,
        typer.Option("--bank-gb", min=0.001, help="Of extract: size of the bank; default: 10."),
    ] = None,
    knn_rows: Annotated[
        int | None, typer.Option("--knn-rows", min=100, help="Of extract: rows that are searched; default: a million.")
    ] = None,
    memory: Annotated[
        bool, typer.Option("--memory/--no-memory", help="Measure peak memory, each in a fresh process.")
    ] = True,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the JSON to this file; so does --json FILE.json.")
    ] = None,
    device: DeviceOption = "auto",
    dtype: Annotated[Dtype, typer.Option("--dtype", help="Precision of our models and of the peers.")] = "bfloat16",
    json: JsonOption = False,
) -> None:
    """Time a part of vidgen on this machine, in turns with its peers, and measure its memory.

    Example: vidgen bench tokenizer --json bench.json
    """
    if name not in BENCHES:
        raise VidgenError(f"bench {name!r} is unknown; choose of {', '.join(BENCHES)}")
    if output is not None:
        check_output(output)
    suite = BENCHES[name]()

    from vidgen.scripts.benches.bench_rows import BenchSettings

    resolved_device = find_device(device)
    settings = BenchSettings(
        model=model,
        device=resolved_device,
        dtype=str(find_dtype(dtype, resolved_device)).removeprefix("torch."),
        rounds=rounds,
        quick=quick,
        memory=memory,
        peers=choose_names(peers, suite.PEERS, "--peers"),
        only=choose_names(only, suite.CASES, "--only"),
        peer_seconds=peer_seconds,
        bank_gb=bank_gb,
        knn_rows=knn_rows,
    )
    report = run_bench(name, suite, settings)
    if output is not None:
        write_report(report, output)
    elif json:
        print_json(report)
    if not json:
        show(name, report)


def choose_names(text: str | None, choices: tuple[str, ...], option: str) -> tuple[str, ...] | None:
    """Return the names in `text`, none at all for "none"; None stays None. Raises VidgenError for an unknown name."""
    if text is None:
        return None
    names = () if text == "none" else tuple(dict.fromkeys(parse_names(text)))
    for name in names:
        if name not in choices:
            raise VidgenError(f"{option} {name!r} is unknown; choose of {', '.join(choices)}")
    return names


def run_bench(name: str, suite: ModuleType, settings: BenchSettings) -> dict[str, Any]:
    """Return the report: the settings, the machine and the rows."""
    from vidgen.scripts.benches.machine import inspect_machine

    dtypes = ("float32", "bfloat16", settings.dtype)
    machine = inspect_machine(settings.device, dtypes, quick=settings.quick)
    rows = []
    with progress(f"bench {name}", None) as advance:
        for row in suite.measure(settings, machine):
            rows.append(row.to_json())
            advance(len(rows))
    about = {"bench": name, "model": settings.model, "dtype": settings.dtype, "quick": settings.quick}
    return {**about, "machine": machine.to_json(), "rows": rows}


def format_number(value: float | None, form: str = ".3g") -> str:
    """Return a number as text, "-" for None."""
    return "-" if value is None else f"{value:{form}}"


def show(name: str, report: dict[str, Any]) -> None:
    """Print two tables, of speed and of memory, the remarks on single rows, and the machine."""
    rows = report["rows"]
    show_speed(name, report)
    show_memory(rows)
    for row in rows:
        if "tokens_per_s" in row:
            print(f"{row['name']}: {describe_rate(row)}")
        if row.get("said"):
            print(f"{row['name']}: {row['said']}")
        if row.get("note"):
            note(f"{row['name']}: {row['note']}")
    for peer in dict.fromkeys(
        f"{row['against']}, {row['peer_layout']}{', autocast' * row['peer_autocast']}"
        for row in rows
        if "against" in row
    ):
        print(f"peer: {peer}")
    machine = report["machine"]
    peaks = "; ".join(
        f"{kind} GFLOP/s: " + ", ".join(f"{key} {rate:.0f}" for key, rate in machine[f"{kind}_gflops"].items())
        for kind in ("matmul", "conv")
    )
    print(f"{machine['cpu']}, {machine['threads']} threads on {machine['cores']} cores; {peaks}")


def show_speed(name: str, report: dict[str, Any]) -> None:
    """Print the table of times and rates."""
    speed = [
        (
            row["name"],
            f"{format_number(row['ours_s'])} ±{format_number(row['ours_iqr_s'] / 2, '.2g')}",
            "-"
            if row["peer_s"] is None
            else f"{format_number(row['peer_s'])} ±{format_number(row['peer_iqr_s'] / 2, '.2g')}",
            format_number(row["ratio"], ".2f"),
            format_number(row.get("fps"), ".1f"),
            format_number(row["gflops"], ".4g"),
            format_number(row.get("peer_gflops"), ".4g"),
            format_number(row["roof_fraction"], ".0%"),
            format_number(row.get("conv_fraction"), ".0%"),
        )
        for row in report["rows"]
    ]
    columns = ("row", ">ours s", ">peer s", ">ratio", ">frames/s", ">GFLOP", ">peer GFLOP", ">of matmul", ">of conv")
    title = f"{name}, {report['model']}, {report['dtype']} on {report['machine']['device']}"
    print_table(title, columns, speed)


def show_memory(rows: list[dict[str, Any]]) -> None:
    """Print the table of peak memory, where it was measured."""
    memory = [
        (
            row["name"],
            format_number(row["peak_mb"], ".0f"),
            format_number(row.get("base_peak_mb"), ".0f"),
            format_number(row.get("peak_ratio"), ".3f"),
            format_number(row.get("work_ratio"), ".3f"),
            format_number(row.get("peer_peak_mb"), ".0f"),
        )
        for row in rows
        if row["peak_mb"] is not None
    ]
    if memory:
        bases = {row["base_frames"] for row in rows if "base_frames" in row}
        base = f"at {bases.pop()} frames" if len(bases) == 1 else "shorter"
        columns = ("row", ">peak MiB", f">{base}", ">ratio", ">without model", ">peer peak MiB")
        print_table("memory, each in a process of its own", columns, memory)


def describe_rate(row: dict[str, Any]) -> str:
    """Return the rates of a row in tokens and frames, and how a step compares with its passes."""
    text = f"{row['tokens_per_s']:.0f} tokens/s"
    if "fps" in row:
        text += f", {row['fps']:.3g} frames/s"
    if "step_over_passes" in row:
        text += f", {row['step_over_passes']:.2f} of its {row['passes']:g} passes"
    return text


if __name__ == "__main__":
    run_verb("bench", bench, cls=JsonToFile)
