"""Ablations: every variant is trained, then measured; what is finished is kept, what was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vidgen.data.manifests import ClipRecord
from vidgen.errors import VidgenError
from vidgen.files.atomic import atomic_write
from vidgen.files.bounded_files import load_json, read_text
from vidgen.metrics.intervals import METHOD
from vidgen.tokenizers.evaluation.rate_distortion import RATES
from vidgen.train.ablations.measurement import Say, measure_variant
from vidgen.train.ablations.table import describe_report
from vidgen.train.ablations.variants import (
    Comparison,
    EvaluationConfig,
    check_model,
    choose_variants,
    held_out_records,
    settings_of,
)
from vidgen.train.config import LoopConfig
from vidgen.train.runtime.checkpoints import checkpoint_steps
from vidgen.train.runtime.loop import train
from vidgen.train.runtime.runs import open_run

CLAIM, RESULTS, TABLE, ROW = "comparison.json", "results.json", "table.md", "result.json"


def compare(
    comparison: Comparison, out: Path, *, only: Sequence[str] = (), say: Say = lambda line: None
) -> dict[str, Any]:
    """Train and measure the variants (of `only`, or all), and write results.json and table.md to `out`.

    They are written again after each variant, and hold all that `out` has finished. A variant whose run ends in an
    error is named under "failed", and the others go on. Returns what results.json holds. Raises VidgenError for an
    `out` of something else, no held-out clips, and where no variant came through.
    """
    chosen = choose_variants(comparison, only)
    records = held_out_records(comparison.recipe.data, comparison.path)
    for name in chosen:
        check_model(name, comparison.variants[name], comparison.path)
    claim_folder(comparison, out)
    failed: list[dict[str, str]] = []
    for number, name in enumerate(chosen):
        title = f"{name} ({number + 1} of {len(chosen)})"
        try:
            finish_variant(comparison, name, records, lambda line, title=title: say(f"{title}: {line}"))
        except VidgenError as error:
            failed.append({"name": name, "reason": str(error)})
            say(f"{title}: left out: {error}")
        report = gather_report(comparison, records, failed)
        if report["variants"]:
            write_json(out / RESULTS, report)
            write_text(out / TABLE, describe_report(report))
    if not report["variants"]:
        raise VidgenError(f"{out}: no variant came through; {failed[0]['name']}: {failed[0]['reason']}")
    return report


def claim_folder(comparison: Comparison, out: Path) -> None:
    """Make `out` the folder of this comparison, or find that it is. VidgenError if it holds anything else."""
    claim = out / CLAIM
    recorded = None
    if out.exists() and not out.is_dir():
        raise VidgenError(f"{out}: is a file; name a folder for the runs with --out")
    if claim.is_file():
        recorded = read_plain(claim)
    elif out.is_dir() and any(out.iterdir()):
        raise VidgenError(f"{out}: exists already and holds no comparison; give --out a new or empty folder")
    now = {name: settings_of(recipe) for name, recipe in comparison.variants.items()}
    before = {k: v for k, v in (recorded or {}).get("variants", {}).items() if (out / k).is_dir()}
    if recorded is not None and (changed := difference(before, now)):
        raise VidgenError(
            f"{out} holds results of another comparison, {recorded.get('file')}: {changed}; choose another --out"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VidgenError(f"{out}: cannot be created: {error.strerror}; choose another --out") from None
    write_json(claim, {"file": str(comparison.path), "variants": now})


def difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return how the recorded variants differ from those of now, in words; new variants are no difference."""
    for name, settings in before.items():
        if name not in now:
            return f"this one has no variant {name!r}"
        if keys := [key for key in settings | now[name] if settings.get(key) != now[name].get(key)]:
            return f"variant {name!r} has another {', '.join(keys)}"
    return ""


def made_with(recipe: LoopConfig, evaluation: EvaluationConfig, records: Sequence[ClipRecord]) -> dict[str, Any]:
    """Return all that a variant's result depends on, as JSON would give it back."""
    settings = {"size": list(evaluation.size), "num_frames": evaluation.num_frames, "steps": list(evaluation.steps)}
    return {
        "recipe": settings_of(recipe),
        "evaluation": {**settings, "step": evaluation.step},
        "clips": [str(r.path) for r in records],
    }


def finish_variant(comparison: Comparison, name: str, records: Sequence[ClipRecord], say: Say) -> None:
    """Train and measure one variant, or what of that is not done yet, and write its result into its run."""
    recipe, evaluation = comparison.variants[name], comparison.evaluation
    run = Path(recipe.out)
    source = made_with(recipe, evaluation, records)
    if read_plain(run / ROW).get("made_with") == source:
        say("there already")
        return
    train_variant(recipe, say)
    say(f"measuring on {len(records)} held-out clips")
    row = measure_variant(recipe, records, evaluation, say)
    write_json(run / ROW, {"name": name, **row, "made_with": source})


def train_variant(recipe: LoopConfig, say: Say = lambda line: None) -> Path:
    """Train a variant, or what of that is not done yet, and return the folder of its final model.

    Raises VidgenError if its folder holds a run of another recipe. An interrupt says where the run can go on.
    """
    run = Path(recipe.out)
    if checkpoint_steps(run)[-1:] == [recipe.steps] and (run / "final" / "config.json").is_file():
        open_run(recipe)
        return run / "final"
    steps = checkpoint_steps(run)
    say(f"training {recipe.steps} steps" + (f", from step {steps[-1]} on" if steps else ""))
    try:
        return train(recipe)
    except KeyboardInterrupt as error:
        steps = checkpoint_steps(run)
        where = f"{run / f'checkpoint-{steps[-1]}'} is saved" if steps else f"before a checkpoint of {run.name}"
        error.args = (f"interrupted; {where}: the same command goes on from there",)
        raise


def gather_report(
    comparison: Comparison, records: Sequence[ClipRecord], failed: Sequence[dict[str, str]]
) -> dict[str, Any]:
    """Return all results that the runs of this comparison have, as they stand, with what they have in common."""
    recipe, evaluation = comparison.recipe, comparison.evaluation
    rows = []
    for own in comparison.variants.values():
        row = read_plain(Path(own.out) / ROW)
        if row.pop("made_with", None) == made_with(own, evaluation, records):
            rows.append(row)
    return {
        "comparison": str(comparison.path),
        "budget": {
            "steps": recipe.steps,
            "batch_size": recipe.batch_size,
            "clips": recipe.steps * recipe.batch_size,
            "num_frames": recipe.data.num_frames,
            "size": list(recipe.data.size),
            "seed": recipe.seed,
            "autocast": recipe.autocast,
            "device": recipe.device,
            "threads": torch.get_num_threads(),
        },
        "evaluation": made_with(recipe, evaluation, records)["evaluation"],
        "held_out": [str(record.path) for record in records],
        "rates": {key: RATES[key] for key in ("raw_bpp", "entropy_bpp", "coded_bpp")},
        "ci_method": METHOD,
        "variants": rows,
        "failed": list(failed),
    }


def read_plain(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`; {} where there is none, or not a whole one."""
    try:
        value = load_json(read_text(path))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object, all or nothing."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, all or nothing."""
    with atomic_write(path) as target:
        target.write_text(text, encoding="utf-8")
