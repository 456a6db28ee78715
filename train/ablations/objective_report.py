"""The ablation of objectives as a whole, and its tables."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import torch

from vidgen.train.ablations.measurement import Say
from vidgen.train.ablations.objective_measurement import (
    best_rows,
    draw_world,
    measure_decoding,
    measure_probes,
    read_labelled,
)
from vidgen.train.ablations.objective_variants import (
    OBJECTIVE_VARIANTS,
    Plan,
    Tokenizer,
    load_variant,
    make_recipe,
    measure_cost,
    random_variant,
)
from vidgen.train.ablations.run import train_variant, write_json, write_text
from vidgen.train.ablations.table import format_interval, markdown_table

NAME = "objectives"


def compare_objectives(plan: Plan, say: Say = lambda line: None) -> dict[str, Any]:
    """Train every variant by the plan, measure them, and write `objectives.json` and `objectives.md` into `plan.out`.

    Returns {"settings", "machine", "budget", "decoding": {"files", "rows"}, "probes": the best on validation of every
    variant, task and probe, "sweep": all probes}. A stopped comparison goes on where it was. Raises VidgenError for
    data that cannot be used, and where `plan.out` holds runs by another plan.
    """
    labelled = read_labelled(plan)  # before the training: quick to fail
    models: dict[str, Tokenizer] = {}
    budget = []
    for number, name in enumerate(OBJECTIVE_VARIANTS, 1):
        say(f"{name} ({number} of {len(OBJECTIVE_VARIANTS)}): {plan.steps} steps of {plan.batch_size} clips")
        models[name] = load_variant(name, train_variant(make_recipe(name, plan)), plan.device)
        budget.append(measure_cost(name, models[name], plan))
    say("decoding held-out clips")
    decoding = measure_decoding(models, plan)
    say("probing features")
    sets = [draw_world(plan)] if labelled is None else [labelled, draw_world(plan)]
    sweep = measure_probes({**models, "random": random_variant(plan)}, sets, plan)
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(plan).items()}
    report = {
        "settings": settings,
        "machine": {"cpus": os.cpu_count(), "threads": torch.get_num_threads(), "torch": torch.__version__},
        "budget": budget,
        "decoding": decoding,
        "probes": best_rows(sweep),
        "sweep": sweep,
    }
    write_json(plan.out / f"{NAME}.json", report)
    write_text(plan.out / f"{NAME}.md", to_markdown(report) + "\n")
    return report


def budget_rows(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows of what every variant costs."""
    columns = [
        "variant",
        "encoder, M",
        "decoder, M",
        "encode, GFLOP",
        "decode a step, GFLOP",
        "train a clip, GFLOP",
        "s",
    ]
    rows = [
        [
            row["variant"],
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
    """Return columns and rows of decoded clips' fidelity."""
    rows = [
        [
            row["variant"],
            str(row["steps"]),
            format_interval(row["psnr"], row["psnr_ci"], 2),
            format_interval(row["psnr_gain"], row["psnr_gain_ci"], 2),
            format_interval(row["ssim"], row["ssim_ci"], 3),
        ]
        for row in report["decoding"]["rows"]
    ]
    return ["variant", "steps", "PSNR, dB", "over reconstruction, dB", "SSIM"], rows


def probe_rows(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return a line a variant, a column a task and probe; one probe for all, as of the majority, stands in each."""
    scores = {(row["variant"], row["task"], row["kind"]): row for row in report["probes"]}
    variants, tasks, kinds = (list(dict.fromkeys(key[i] for key in scores)) for i in range(3))
    kinds = [kind for kind in kinds if kind != "majority"]
    rows = []
    for variant in variants:
        cells = []
        for task in tasks:
            for kind in kinds:
                row = scores.get((variant, task, kind)) or scores.get((variant, task, "majority"))
                cells.append("-" if row is None else format_interval(row["test"], row["ci"], 2))
        rows.append([variant, *cells])
    return ["features", *(f"{task}, {kind}" for task in tasks for kind in kinds)], rows


def to_markdown(report: dict[str, Any]) -> str:
    """Return the tables of a report, each with what its numbers are."""
    s = report["settings"]
    clips = {row["task"]: row for row in report["probes"]}
    sizes = "; ".join(f"{t}: {r['classes']} classes, {r['train_clips']} + {r['test_clips']}" for t, r in clips.items())
    files = len(report["decoding"]["files"])
    intro = (
        f"Encoder of `{s['preset']}` from the same weights, {s['steps']} steps of {s['batch_size']} clips "
        f"({s['num_frames']}x{s['size']}x{s['size']}), the same in every variant; seed {s['seed']}."
    )
    return "\n\n".join(
        [
            intro,
            "\n".join(f"- {row['variant']}: {row['about']}" for row in report["budget"]),
            "Budget. Training is taken as three times the forward pass; s are seconds of all training steps.",
            markdown_table(*budget_rows(report)),
            f"Decoding of {files} held-out files, {s['windows']} windows each; means with 95% intervals over "
            "files, and the PSNR over that of reconstruction, file by file.",
            markdown_table(*decoding_rows(report)),
            "Accuracy of probes on clips to report on, with 95% intervals. Layer and pool of a variant are those that "
            f"are best on validation. Classes and clips (to learn from + to report on): {sizes}.",
            markdown_table(*probe_rows(report)),
        ]
    )
