"""`vidgen bench`: speed and memory on this machine, beside peers, in one run. A bench is one entry in `BENCHES`."""

from __future__ import annotations

import importlib
from pathlib import Path
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
    from vidgen.scripts.benches.rows import BenchSettings

# The module of each bench: its `measure(settings, machine)` yields the rows; --only and --peers choose from its `CASES`
# and `PEERS`.
BENCHES = {
    "tokenizer": "vidgen.scripts.benches.tokenizer",
    "dit": "vidgen.scripts.benches.dit",
    "extract": "vidgen.scripts.benches.extract",
}


def bench(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"What to measure: {', '.join(BENCHES)}.")],
    model: ModelOption = "default",
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds in which all take turns.")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: a look at whether everything runs.")] = False,
    only: Annotated[str | None, typer.Option("--only", metavar="CASES", help="As encode,train; default: all.")] = None,
    peers: Annotated[
        str | None, typer.Option("--peers", "--peer", metavar="NAMES", help="To run beside, or none; default: all.")
    ] = None,
    peer_seconds: Annotated[
        float,
        typer.Option("--peer-seconds", help="A peer that takes longer for a clip gets a shorter one, and it is said."),
    ] = 600.0,
    bank_gb: Annotated[
        float | None, typer.Option("--bank-gb", min=0.001, help="Of extract: size of the bank that is read; 10.")
    ] = None,
    knn_rows: Annotated[
        int | None, typer.Option("--knn-rows", min=100, help="Of extract: rows that are searched; a million.")
    ] = None,
    memory: Annotated[
        bool, typer.Option("--memory/--no-memory", help="Measure peak memory, each in a fresh process.")
    ] = True,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the JSON to this file; so does --json FILE.json.")
    ] = None,
    device: DeviceOption = "auto",
    dtype: Annotated[Dtype, typer.Option("--dtype", help="Precision of ours and of the peers.")] = "bfloat16",
    json: JsonOption = False,
) -> None:
    """Time a part of vidgen on this machine, in turns with its peers, and measure its memory.

    Example: vidgen bench tokenizer --json bench.json
    """
    if name not in BENCHES:
        raise VidgenError(f"bench {name!r} is unknown; choose of {', '.join(BENCHES)}")
    if output is not None:
        check_output(output)
    suite = importlib.import_module(BENCHES[name])

    from vidgen.scripts.benches.rows import BenchSettings

    where = find_device(device)
    settings = BenchSettings(
        model=model,
        device=where,
        dtype=str(find_dtype(dtype, where)).removeprefix("torch."),
        rounds=rounds,
        quick=quick,
        memory=memory,
        peers=choose(peers, suite.PEERS, "--peers"),
        only=choose(only, suite.CASES, "--only"),
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


def choose(text: str | None, known: tuple[str, ...], option: str) -> tuple[str, ...] | None:
    """The names in `text`, "none" being no name at all; None stays None. VidgenError for a name that is not known."""
    if text is None:
        return None
    names = () if text == "none" else tuple(dict.fromkeys(parse_names(text)))
    for name in names:
        if name not in known:
            raise VidgenError(f"{option} {name!r} is unknown; choose of {', '.join(known)}")
    return names


def run_bench(name: str, suite: Any, settings: BenchSettings) -> dict[str, Any]:
    """The report: the machine, what was asked for, and the rows."""
    from vidgen.scripts.benches.machine import look_at_machine

    dtypes = ("float32", "bfloat16", settings.dtype)
    machine = look_at_machine(settings.device, dtypes, quick=settings.quick)
    rows = []
    with progress(f"bench {name}", None) as moved:
        for row in suite.measure(settings, machine):
            rows.append(row.to_json())
            moved(len(rows))
    asked = {"bench": name, "model": settings.model, "dtype": settings.dtype, "quick": settings.quick}
    return {**asked, "machine": machine.to_json(), "rows": rows}


def number(value: float | None, form: str = ".3g") -> str:
    return "-" if value is None else f"{value:{form}}"


def show(name: str, report: dict[str, Any]) -> None:
    """Two tables, of speed and of memory, and what is to be said about single rows."""
    machine, rows = report["machine"], report["rows"]
    speed = [
        (
            row["name"],
            f"{number(row['ours_s'])} ±{number(row['ours_iqr_s'] / 2, '.2g')}",
            "-" if row["peer_s"] is None else f"{number(row['peer_s'])} ±{number(row['peer_iqr_s'] / 2, '.2g')}",
            number(row["ratio"], ".2f"),
            number(row.get("fps"), ".1f"),
            number(row["gflops"], ".4g"),
            number(row.get("peer_gflops"), ".4g"),
            number(row["roof_fraction"], ".0%"),
            number(row.get("conv_fraction"), ".0%"),
        )
        for row in rows
    ]
    columns = ("row", ">ours s", ">peer s", ">ratio", ">frames/s", ">GFLOP", ">peer GFLOP", ">of matmul", ">of conv")
    print_table(f"{name}, {report['model']}, {report['dtype']} on {machine['device']}", columns, speed)
    held = [
        (
            row["name"],
            number(row["peak_mb"], ".0f"),
            number(row.get("base_peak_mb"), ".0f"),
            number(row.get("peak_ratio"), ".3f"),
            number(row.get("work_ratio"), ".3f"),
            number(row.get("peer_peak_mb"), ".0f"),
        )
        for row in rows
        if row["peak_mb"] is not None
    ]
    if held:
        bases = {row["base_frames"] for row in rows if "base_frames" in row}
        of = f"at {bases.pop()} frames" if len(bases) == 1 else "shorter"
        columns = ("row", ">peak MiB", f">{of}", ">ratio", ">without model", ">peer peak MiB")
        print_table("memory, each in a process of its own", columns, held)
    for row in rows:
        if "tokens_per_s" in row:
            frames = f", {row['fps']:.3g} frames/s" if "fps" in row else ""
            over = (
                f", {row['step_over_passes']:.2f} of its {row['passes']:g} passes" if "step_over_passes" in row else ""
            )
            print(f"{row['name']}: {row['tokens_per_s']:.0f} tokens/s{frames}{over}")
        if row.get("said"):
            print(f"{row['name']}: {row['said']}")
        if row.get("note"):
            note(f"{row['name']}: {row['note']}")
    for against in dict.fromkeys(
        f"{row['against']}, {row['peer_layout']}{', autocast' * row['peer_autocast']}"
        for row in rows
        if "against" in row
    ):
        print(f"peer: {against}")
    roofs = "; ".join(
        f"{kind} GFLOP/s: " + ", ".join(f"{key} {rate:.0f}" for key, rate in machine[f"{kind}_gflops"].items())
        for kind in ("matmul", "conv")
    )
    print(f"{machine['cpu']}, {machine['threads']} threads on {machine['cores']} cores; {roofs}")


if __name__ == "__main__":
    run_verb("bench", bench, cls=JsonToFile)
