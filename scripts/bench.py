"""`vidgen bench`: speed and memory on this machine, beside peers, in one run. A bench is one entry in `BENCHES`."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.options import (
    DeviceOption,
    DtypeOption,
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

# Columns of the two tables: title -> key of the row, and the form of its number.
SPEED = {
    ">ratio": ("ratio", ".2f"),
    ">frames/s": ("fps", ".1f"),
    ">GFLOP": ("gflops", ".4g"),
    ">peer GFLOP": ("peer_gflops", ".4g"),
    ">of matmul": ("roof_fraction", ".0%"),
    ">of conv": ("conv_fraction", ".0%"),
}
MEMORY = {
    ">peak MiB": ("peak_mb", ".0f"),
    ">base": ("base_peak_mb", ".0f"),
    ">ratio": ("peak_ratio", ".3f"),
    ">without model": ("work_ratio", ".3f"),
    ">peer peak MiB": ("peer_peak_mb", ".0f"),
}


def load_benches() -> dict[str, ModuleType]:
    """Return the benches by name: `measure(settings, machine)` of each yields its rows; --only and --peers choose from
    its `CASES` and `PEERS`."""
    from vidgen.scripts.benches import dit, extract, prior, stream, tokenizer
    from vidgen.scripts.benches.encoders import encoder, learning

    return {
        "tokenizer": tokenizer,
        "dit": dit,
        "stream": stream,
        "prior": prior,
        "extract": extract,
        "encoder": encoder,
        "ssl": learning,
    }


def bench(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="What to measure: tokenizer, dit, stream, prior, extract, encoder or ssl."),
    ],
    model: ModelOption = "default",
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=10**6, help="Times that each is run, in turns.")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, to see whether everything runs.")] = False,
    only: Annotated[str | None, typer.Option("--only", metavar="CASES", help="As encode,train; default: all.")] = None,
    peers: Annotated[
        str | None,
        typer.Option("--peers", "--peer", metavar="NAMES", help="To compare with, or none; default: all."),
    ] = None,
    peer_seconds: Annotated[
        float,
        typer.Option(
            "--peer-seconds",
            min=0.0,
            max=1e6,
            help="A peer that takes longer for a clip gets a shorter one; a note says so.",
        ),
    ] = 600.0,
    bank_gb: Annotated[
        float | None,
        typer.Option("--bank-gb", min=0.001, max=1e6, help="Of extract: size of the bank; default: 10."),
    ] = None,
    knn_rows: Annotated[
        int | None,
        typer.Option("--knn-rows", min=100, max=10**8, help="Of extract: rows that are searched; default: a million."),
    ] = None,
    memory: Annotated[
        bool, typer.Option("--memory/--no-memory", help="Measure peak memory, each in a fresh process.")
    ] = True,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the JSON to this file; so does --json FILE.json.")
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    json: JsonOption = False,
) -> None:
    """Time a part of vidgen on this machine, in turns with its peers, and measure its memory.

    Example: vidgen bench tokenizer --json bench.json
    """
    benches = load_benches()
    if name not in benches:
        raise VidgenError(f"bench {name!r} is unknown; choose of {', '.join(benches)}")
    if output is not None:
        check_output(output)
    suite = benches[name]

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
    cells = [
        (
            row["name"],
            format_seconds(row["ours_s"], row["ours_iqr_s"]),
            format_seconds(row["peer_s"], row.get("peer_iqr_s")),
            *format_cells(row, SPEED),
        )
        for row in report["rows"]
    ]
    title = f"{name}, {report['model']}, {report['dtype']} on {report['machine']['device']}"
    print_table(title, ("row", ">ours s", ">peer s", *SPEED), cells)


def show_memory(rows: list[dict[str, Any]]) -> None:
    """Print the table of peak memory, where it was measured."""
    cells = [(row["name"], *format_cells(row, MEMORY)) for row in rows if row["peak_mb"] is not None]
    if cells:
        bases = {row["base_frames"] for row in rows if "base_frames" in row}
        base = f">at {bases.pop()} frames" if len(bases) == 1 else ">shorter"
        columns = [base if title == ">base" else title for title in MEMORY]
        print_table("memory, each in a process of its own", ("row", *columns), cells)


def format_cells(row: dict[str, Any], columns: dict[str, tuple[str, str]]) -> list[str]:
    """Return the cells of a row; "-" for a number that it lacks."""
    return [format_number(row.get(key), form) for key, form in columns.values()]


def format_seconds(median: float | None, spread: float | None) -> str:
    """Return a time with half its interquartile range."""
    return "-" if median is None else f"{format_number(median)} ±{format_number(spread / 2, '.2g')}"


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
