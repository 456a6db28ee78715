"""Measurements of objectives: decoded clips of files that no variant has seen, and probes of features."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.data.datasets import VideoDataset
from vidgen.data.frames import to_tensor
from vidgen.data.manifests import find_clips
from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig
from vidgen.metrics import mean_interval, psnr, ssim
from vidgen.representations.baselines import PIXEL_BASELINES
from vidgen.representations.clip_windows import describe_row, open_clips
from vidgen.representations.extractor import FeatureExtractor
from vidgen.representations.pooling import POOLS
from vidgen.representations.probes import MAJORITY, PROBES, Probe, ProbeTask, choose_and_score, make_task
from vidgen.train.ablations.objective_variants import OBJECTIVE_VARIANTS, Plan, Tokenizer, decode_clips
from vidgen.train.data.splits import split_records

WORLD_TASKS = ("colour", "shape", "motion")
PROBED = {"knn": PROBES["knn"], "linear": PROBES["ridge"]}
BATCH = 8


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Clips (n, 3, T, H, W) with one or more probes' tasks by name."""

    clips: Float[Tensor, "n 3 T H W"]
    tasks: dict[str, ProbeTask]


def held_out_windows(plan: Plan) -> tuple[list[str], Float[Tensor, "n k 3 T H W"]]:
    """Return names of the held-out files that can be read, and `plan.windows` windows of each, drawn by the seed."""
    records = split_records(find_clips(plan.clips), plan.hold_out, "validation")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the report names the files that are there
        dataset = VideoDataset(records, num_frames=plan.num_frames, size=plan.size, windows="random", seed=plan.seed)
    windows = []
    for k in range(plan.windows):
        dataset.set_epoch(k)
        windows.append(torch.stack([dataset[i]["video"] for i in range(len(dataset))]))
    return [record.id for record in dataset.records], torch.stack(windows, dim=1)


def measure_decoding(models: dict[str, Tokenizer], plan: Plan) -> dict[str, Any]:
    """Return PSNR and SSIM, means over files of means over their windows, with 95% intervals over files.

    Every variant has a row for each of its numbers of steps, and each clip's own mean colour one for scale. The gains
    of `add_gains` are more certain than those intervals.
    """
    names, windows = held_out_windows(plan)
    flat = windows.flatten(0, 1)
    rows = [score_clips("mean colour", 0, flat.mean(dim=(2, 3, 4), keepdim=True).expand_as(flat), windows)]
    for name, model in models.items():
        for steps in OBJECTIVE_VARIANTS[name].decode_steps:
            parts = [decode_clips(model, part.to(plan.device), steps, plan.seed).cpu() for part in flat.split(BATCH)]
            rows.append(score_clips(name, steps, torch.cat(parts), windows))
    add_gains(rows, "reconstruction")
    return {"files": names, "windows_a_file": plan.windows, "rows": rows}


def score_clips(name: str, steps: int, decoded: Tensor, windows: Tensor) -> dict[str, Any]:
    """Return a variant's row: PSNR and SSIM of `decoded` (files x windows) against `windows`, file by file."""
    flat, (files, count) = windows.flatten(0, 1), windows.shape[:2]
    row: dict[str, Any] = {"variant": name, "arm": name, "steps": steps}
    bounds = {"psnr": (-inf, inf), "ssim": (-1.0, 1.0)}
    for metric, values in (("psnr", psnr(decoded, flat)), ("ssim", ssim(decoded, flat).mean(1))):
        by_file = values.reshape(files, count).mean(1).tolist()
        row |= describe_mean(metric, by_file, bounds[metric]) | {f"{metric}_files": [round(v, 4) for v in by_file]}
    return row


def describe_mean(name: str, values: Sequence[float], bounds: tuple[float, float] = (-inf, inf)) -> dict[str, Any]:
    """Return a mean and its interval, None of one value, under `name` and `name`_ci."""
    mean = mean_interval(values, bounds)
    ends = None if mean.interval is None else [round(v, 4) for v in mean.interval]
    return {name: round(mean.mean, 4), f"{name}_ci": ends}


def add_gains(rows: Sequence[dict[str, Any]], reference: str) -> None:
    """Add to every row its PSNR over that of the variant `reference`, file by file: files differ by far more."""
    base = next(row for row in rows if row["variant"] == reference)["psnr_files"]
    for row in rows:
        gains = [value - other for value, other in zip(row["psnr_files"], base, strict=True)]
        row |= describe_mean("psnr_gain", gains)


def read_labelled(plan: Plan) -> Labelled | None:
    """Return the clips of `plan.labelled`, one window from the middle of each, by their labels, splits and subjects."""
    if plan.labelled is None:
        return None
    records = find_clips(plan.labelled)
    dataset = open_clips(records, num_frames=plan.num_frames, size=plan.size, fps=plan.fps, windows="centre")
    items = [dataset[i] for i in range(len(dataset))]
    rows = [describe_row(record, item["times"]) for record, item in zip(dataset.records, items, strict=True)]
    groups = [row.id if row.group is None else row.group for row in rows]
    task = make_task([r.label for r in rows], [r.split for r in rows], groups, [r.id for r in rows], seed=plan.seed)
    return Labelled(clips=torch.stack([item["video"] for item in items]), tasks={plan.labelled.stem: task})


def draw_world(plan: Plan) -> Labelled:
    """Return clips of the synthetic world with their object's colour, shape and motion; scored on held-out ones."""
    counts = {"train": plan.shapes, "validation": max(1, plan.shapes // 3), "test": max(1, 2 * plan.shapes // 3)}
    clips, split, objects = [], [], []
    for part, count in counts.items():
        config = ShapeWorldConfig(
            height=plan.size,
            width=plan.size,
            num_frames=plan.num_frames,
            max_objects=1,
            seed=plan.seed,
            split="held_out" if part == "test" else "train",
        )
        first = plan.shapes if part == "validation" else 0
        world = ShapeWorld(config)
        for index in range(first, first + count):
            clip = world[index]
            clips.append(to_tensor(clip.video))
            split.append(part)
            objects.append(clip.labels.objects[0])
    tasks = {name: make_task([getattr(item, name) for item in objects], split) for name in WORLD_TASKS}
    return Labelled(clips=torch.stack(clips), tasks=tasks)


def read_features(model: Tokenizer, clips: Tensor, device: str) -> Iterator[tuple[str, str, Float[np.ndarray, "n c"]]]:
    """Yield (layer, pool, features) of the latents, and of the layer that they are made from."""
    deep = [info.name for info in model.feature_info if ".layers." in info.name][-1]
    pools = {"tokenizer.latents": ("mean", "temporal", "none"), f"tokenizer.{deep}": ("mean", "temporal")}
    extractor = FeatureExtractor(model, layers=list(pools), pool="none")
    parts: dict[tuple[str, str], list[Tensor]] = {(layer, pool): [] for layer in pools for pool in pools[layer]}
    for batch in clips.split(BATCH):
        features = extractor(batch.to(device), ids=range(len(batch))).features
        for (layer, pool), values in parts.items():
            values.append(POOLS[pool](features[layer]).flatten(1).cpu())
    for (layer, pool), values in parts.items():
        yield layer, pool, torch.cat(values).numpy()


def measure_probes(models: dict[str, Tokenizer], sets: Sequence[Labelled], plan: Plan) -> list[dict[str, Any]]:
    """Return a row for every variant, task, probe, layer and pool; pixels and the majority class are baselines."""
    rows = []
    for labelled in sets:
        for name, model in models.items():
            for layer, pool, X in read_features(model, labelled.clips, plan.device):
                head = probe_head(name, layer, pool, baseline=name == "random")
                rows += [head | row for row in probe(X, labelled, plan.seed, PROBED)]
        for name in ("raw_pixels", "frame_differences"):
            X = PIXEL_BASELINES[name](labelled.clips).flatten(1).numpy()
            head = probe_head(name, name, "none", baseline=True)
            rows += [head | row for row in probe(X, labelled, plan.seed, PROBED)]
        nothing = np.zeros((len(labelled.clips), 1), np.float32)
        head = probe_head("majority", "majority", None, baseline=True)
        rows += [head | row for row in probe(nothing, labelled, plan.seed, {"majority": MAJORITY})]
    return rows


def probe_head(variant: str, layer: str, pool: str | None, *, baseline: bool) -> dict[str, Any]:
    """Return what a row says of its features; "arm" and "tap" are what variant and layer were called."""
    names = {"variant": variant, "arm": variant, "layer": layer, "tap": layer}
    return {**names, "pool": pool, "baseline": baseline}


def probe(X: np.ndarray, labelled: Labelled, seed: int, probes: dict[str, Probe]) -> Iterator[dict[str, Any]]:
    """Yield the scores of every probe on every task of labelled clips, from features X (n, c)."""
    for task_name, task in labelled.tasks.items():
        for kind, candidate in probes.items():
            score = choose_and_score(candidate, X, task, seed=seed)
            yield {
                "noise_level": None,
                "kind": kind,
                "task": task_name,
                "metric": "accuracy",
                "validation": score.validation,
                "test": score.test,
                "ci": None if score.ci is None else list(score.ci),
                "choice": score.choice,
                "classes": len(set(task.y[task.train])),
                "train_clips": len(task.train),
                "test_clips": len(task.test),
            }


def best_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, of every variant, task and probe, the row that is best on validation (the first of equals)."""
    best: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in rows:
        key = (row["variant"], row["task"], row["kind"])
        if key not in best or row["validation"] > best[key]["validation"]:
            best[key] = row
    return list(best.values())
