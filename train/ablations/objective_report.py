"""The comparison as a whole, and its tables."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vidgen.checkpoints.atomic import atomic_write
from vidgen.train.ablations.objective_measurement import (
    best_rows,
    draw_world,
    measure_decoding,
    measure_probes,
    read_labelled,
)
from vidgen.train.ablations.objective_variants import ARMS, Plan, load_arm, measure_cost, random_arm, train_arm

NAME = "objectives"


def compare_objectives(plan: Plan, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Trains every arm by the plan, measures them, and writes `objectives.json` and `objectives.md` into `plan.out`.

    Returns {"settings", "machine", "budget", "decoding": {"files", "rows"}, "probes": the best on validation of every
    arm, task and probe, "sweep": all probes}. A stopped comparison goes on where it was. Raises VidgenError for data
    that cannot be used, and where `plan.out` holds runs by another plan.
    """
    labelled = read_labelled(plan)  # before the training: quick to fail
    models, budget = {}, []
    for number, name in enumerate(ARMS, 1):
        say(f"{name} ({number} of {len(ARMS)}): {plan.steps} steps of {plan.batch_size} clips")
        models[name] = load_arm(name, train_arm(name, plan), plan.device)
        budget.append(measure_cost(name, models[name], plan))
    say("decoding held-out clips")
    decoding = measure_decoding(models, plan)
    say("probing features")
    sets = [draw_world(plan)] if labelled is None else [labelled, draw_world(plan)]
    sweep = measure_probes({**models, "random": random_arm(plan)}, sets, plan)
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(plan).items()}
    report = {
        "settings": settings,
        "machine": {"cpus": os.cpu_count(), "threads": torch.get_num_threads(), "torch": torch.__version__},
        "budget": budget,
        "decoding": decoding,
        "probes": best_rows(sweep),
        "sweep": sweep,
    }
    for suffix, text in ((".json", json.dumps(report, indent=2, allow_nan=False)), (".md", to_markdown(report))):
        with atomic_write(plan.out / f"{NAME}{suffix}") as aside:
            aside.write_text(text + "\n", encoding="utf-8")
    return report


def table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---" if i == 0 else "---:" for i in range(len(columns))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def budget_rows(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    columns = ["arm", "encoder, M", "decoder, M", "encode, GFLOP", "decode a step, GFLOP", "train a clip, GFLOP", "s"]
    rows = [
        [
            row["arm"],
            f"{row['encoder_parameters'] / 1e6:.2f}",
            f"{row['decoder_parameters'] / 1e6:.2f}",
            f"{row['encode_gflop']:.2f}",
            f"{row['decode_gflop_a_step']:.2f}",
            f"{row['train_gflop_a_clip']:.2f}",
            "-" if row["seconds"] is None else f"{row['seconds']:.0f}",
        ]
        for row in report["budget"]
    ]
    return columns, rows


def decoding_rows(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            row["arm"],
            str(row["steps"]),
            with_interval(row["psnr"], row["psnr_ci"], 2),
            with_interval(row["psnr_gain"], row["psnr_gain_ci"], 2),
            with_interval(row["ssim"], row["ssim_ci"], 3),
        ]
        for row in report["decoding"]["rows"]
    ]
    return ["arm", "steps", "PSNR, dB", "over reconstruction, dB", "SSIM"], rows


def probe_rows(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """A line an arm, a column a task and probe; where there is one probe for all, as of the majority, in each."""
    found = {(row["arm"], row["task"], row["kind"]): row for row in report["probes"]}
    tasks, arms = (list(dict.fromkeys(key[i] for key in found)) for i in (1, 0))
    kinds = [kind for kind in dict.fromkeys(key[2] for key in found) if kind != "majority"]
    rows = []
    for arm in arms:
        cells = []
        for task in tasks:
            for kind in kinds:
                row = found.get((arm, task, kind)) or found.get((arm, task, "majority"))
                cells.append("-" if row is None else with_interval(row["test"], row["ci"], 2))
        rows.append([arm, *cells])
    return ["features", *(f"{task}, {kind}" for task in tasks for kind in kinds)], rows


def with_interval(value: float, interval: list[float] | None, digits: int) -> str:
    spread = "" if interval is None else f" ({interval[0]:.{digits}f} - {interval[1]:.{digits}f})"
    return f"{value:.{digits}f}{spread}"


def to_markdown(report: dict[str, Any]) -> str:
    """The tables of a report, each with what its numbers are."""
    s = report["settings"]
    clips = {row["task"]: row for row in report["probes"]}
    sizes = "; ".join(f"{t}: {r['classes']} classes, {r['train_clips']} + {r['test_clips']}" for t, r in clips.items())
    files = len(report["decoding"]["files"])
    intro = (
        f"Encoder of `{s['preset']}` from the same weights, {s['steps']} steps of {s['batch_size']} clips "
        f"({s['num_frames']}x{s['size']}x{s['size']}), the same in every arm; seed {s['seed']}."
    )
    return "\n\n".join(
        [
            intro,
            "\n".join(f"- {row['arm']}: {row['about']}" for row in report["budget"]),
            "Budget. Training is taken as three times the forward pass; s are seconds of all training steps.",
            table(*budget_rows(report)),
            f"Decoding of {files} held-out files, {s['windows']} windows each; means with 95% intervals over "
            "files, and the PSNR over that of reconstruction, file by file.",
            table(*decoding_rows(report)),
            "Accuracy of probes on clips to report on, with 95% intervals. Tap and pool of an arm are those that are "
            f"best on validation. Classes and clips (to learn from + to report on): {sizes}.",
            table(*probe_rows(report)),
        ]
    )
