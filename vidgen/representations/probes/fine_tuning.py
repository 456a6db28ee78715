"""Fine-tuning: a linear head and the layers before it, trained together on the labels of a bank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.checkpoints.hashing import model_hash
from vidgen.data.manifests import find_clips
from vidgen.errors import VidgenError
from vidgen.representations.baselines import RANDOM, random_like
from vidgen.representations.clip_windows import open_clips
from vidgen.representations.probes.backbone import Backbone
from vidgen.representations.probes.fitting import decode_target, draw_batches, encode_target, losses
from vidgen.representations.probes.metrics import METRICS, bootstrap_interval
from vidgen.representations.probes.rows import describe, probe_rows
from vidgen.representations.probes.selection import ProbeScore, validation_folds
from vidgen.representations.probes.task import ProbeTask, task_of

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank

HEAD_RATE, DECAY, BATCH = 1e-2, 0.01, 16
CLOSE = 1e-2  # relative: how far features that are read again may be from those of the bank


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Learning rates of the backbone to choose from, and the most passes over train; the best pass is chosen too."""

    rates: tuple[float, ...] = (1e-4, 1e-3)
    epochs: int = 10

    def __post_init__(self) -> None:
        if not self.rates or min(self.rates) < 0 or self.epochs < 1:
            raise VidgenError(f"{self}: fine-tuning needs rates of 0 or more, and an epoch or more")


def train_epochs(
    backbone: Backbone,
    inputs: Float[Tensor, "n ..."],
    task: ProbeTask,
    fit: Int[np.ndarray, " k"],
    told: Int[np.ndarray, " m"],
    rate: float,
    epochs: int,
    seed: int,
) -> list[np.ndarray]:
    """What is said of rows `told` after every pass over rows `fit`: AdamW, the head from zero on features standardized
    by what they were at first."""
    y = task.y[fit]
    target, names = encode_target(y.astype(str) if task.target_type == "class" else y, task.target_type)
    target = target if task.target_type == "class" else target.float()
    first = read_features(backbone, inputs, task.ids, fit)
    mean, std = first.mean(0), first.std(0)
    std = torch.where(std > 1e-6, std, 1.0)
    head = nn.Linear(first.shape[1], len(names) if task.target_type == "class" else target.shape[1])
    for weight in head.parameters():
        nn.init.zeros_(weight)
    groups = [{"params": head.parameters(), "lr": HEAD_RATE}]
    if rate > 0:
        groups.append({"params": list(backbone.trained.parameters()), "lr": rate})
    optimizer = torch.optim.AdamW(groups, weight_decay=DECAY)
    per_epoch, said = -(-len(fit) // BATCH), []
    for step, rows in enumerate(draw_batches(len(fit), epochs * per_epoch, seed, BATCH), 1):
        with torch.enable_grad():
            x = (backbone(inputs[fit[rows]], [task.ids[row] for row in fit[rows]]) - mean) / std
            loss = losses(rearrange(head(x), "b o -> 1 b o"), target[rows], task.target_type).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % per_epoch == 0:
            with torch.no_grad():
                x = (read_features(backbone, inputs, task.ids, told) - mean) / std
                words = decode_target(rearrange(head(x), "m o -> 1 m o"), y, names, task.target_type)[0]
            said.append(words.astype(object) if task.target_type == "class" else words.reshape(task.y[told].shape))
    return said


@torch.no_grad()
def read_features(
    backbone: Backbone, inputs: Float[Tensor, "n ..."], ids: Sequence[str], rows: Int[np.ndarray, " k"]
) -> Float[Tensor, "k d"]:
    parts = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    return torch.cat([backbone(inputs[part], [ids[row] for row in part]) for part in parts])


def fine_tune(
    make: Callable[[], Backbone], inputs: Float[Tensor, "n ..."], task: ProbeTask, schedule: Schedule, seed: int = 0
) -> ProbeScore:
    """Rate and number of passes are chosen on validation (where there is no such split, on one part of train, its
    groups kept whole), and then all of train is learned from anew."""
    metric, (fit, held) = METRICS[task.target_type], validation_folds(task)[0]
    best: tuple[float, float, int] | None = None
    for rate in schedule.rates:
        for epoch, said in enumerate(train_epochs(make(), inputs, task, fit, held, rate, schedule.epochs, seed), 1):
            score = metric(metric.count(task.y[held], said))
            if best is None or score > best[0]:
                best = (score, rate, epoch)
    validation, rate, epochs = best
    said = train_epochs(make(), inputs, task, task.train, task.test, rate, epochs, seed)[-1]
    counts = metric.count(task.y[task.test], said)
    return ProbeScore(
        choice=(rate, epochs),
        validation=validation,
        test=metric(counts),
        ci=bootstrap_interval(metric, counts, task.groups[task.test], seed),
        predicted=said,
        counts=counts,
    )


def read_inputs(bank: FeatureBank, backbone: Backbone, rows: Sequence[int]) -> Float[Tensor, "n ..."]:
    """What the backbone takes, at the numbers of these rows of the bank; its clips are read again.

    Raises VidgenError for a clip that is no longer in the bank's source, or that cannot be read.
    """
    window = {name: bank.meta["preprocessing"][name] for name in ("num_frames", "size", "fps", "windows")}
    window["size"] = tuple(window["size"])
    dataset = open_clips(find_clips(bank.meta["source"]), **window, seed=bank.meta["seed"])
    places = {record.id: place for place, record in enumerate(dataset.records)}
    if gone := [bank.ids[row] for row in rows if bank.ids[row] not in places]:
        raise VidgenError(f"clip {gone[0]!r} of {bank.folder} can no longer be read from {bank.meta['source']}")
    found = []
    for start in range(0, len(rows), BATCH):
        clips = [dataset[places[bank.ids[row]]]["video"] for row in rows[start : start + BATCH]]
        found.append(backbone.prepare(torch.stack(clips)))
    kept = torch.cat(found)
    inputs = torch.zeros(len(bank), *kept.shape[1:])
    inputs[torch.as_tensor(rows)] = kept
    return inputs


def fine_tune_rows(
    bank: FeatureBank,
    model: Any,
    key: str,
    *,
    task: str = "label",
    target_type: str | None = None,
    skip_unlabelled: bool = False,
    schedule: Schedule | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The layer `key` fine-tuned, and from random weights; and beside them the rows of linear probes of the same layer as
    it is, and of all that it is held against (see `probe_rows`). The clips are read from the bank's source, the model
    is left as it is.

    Raises VidgenError for a model that is not the bank's, and clips that are not those the bank was made of.
    """
    if bank.meta.get("model_hash") != model_hash(model):
        raise VidgenError(f"{bank.folder} holds features of another model; fine-tune the one it was extracted with")
    key, schedule = bank.find_key(key), schedule or Schedule()
    asked = task_of(bank, seed, name=task, target_type=target_type, skip_unlabelled=skip_unlabelled)
    setting = {name: bank.meta[name] for name in ("pool", "seed", "prompt")}
    rows = []
    needed = np.concatenate([asked.train, asked.test, *([] if asked.validation is None else [asked.validation])])
    for prefix, start in (("", model), (RANDOM, random_like(model, seed))):
        backbone = Backbone(start, key, **setting)
        inputs = read_inputs(bank, backbone, needed.tolist())
        if not prefix:
            check_same(bank, key, read_features(backbone, inputs, bank.ids, needed[:1]), int(needed[0]))
        score = fine_tune(lambda start=start: Backbone(start, key, **setting), inputs, asked, schedule, seed)
        rows.append(describe(bank, prefix + key, "fine-tuned", asked, score))
    return rows + probe_rows(
        bank, "linear", [key], task=task, target_type=target_type, skip_unlabelled=skip_unlabelled, seed=seed
    )


def check_same(bank: FeatureBank, key: str, found: Float[Tensor, "1 d"], row: int) -> None:
    """Raises VidgenError unless a clip's features are those that the bank has."""
    theirs = torch.from_numpy(bank.X(key, rows=[row]))
    if found.shape != theirs.shape or (found - theirs).norm() > CLOSE * theirs.norm():
        raise VidgenError(
            f"{key} of clip {bank.ids[row]!r} is not what {bank.folder} has: its source changed; extract it again"
        )
