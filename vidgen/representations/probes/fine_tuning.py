"""Fine-tuned probes: a linear head and the layers before it, trained together on the labels of a bank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.bounds import Count, Length, Share, check_fields
from vidgen.checkpoints.hashing import model_hash
from vidgen.data.manifests import find_clips
from vidgen.deprecation import renamed_keywords
from vidgen.errors import VidgenError
from vidgen.interfaces import Pipeline, Tokenizer
from vidgen.representations.baselines import RANDOM, random_like
from vidgen.representations.clip_windows import open_clips
from vidgen.representations.probes.backbone import Backbone
from vidgen.representations.probes.fitting import Target, draw_batches, probe_losses
from vidgen.representations.probes.metrics import METRICS
from vidgen.representations.probes.results import describe_score
from vidgen.representations.probes.rows import probe_rows
from vidgen.representations.probes.selection import ProbeScore, in_form_of, score_predictions, validation_folds
from vidgen.representations.probes.standardization import Standardizer
from vidgen.representations.probes.task import ProbeTask, task_of

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank

HEAD_RATE, DECAY, BATCH = 1e-2, 0.01, 16
CLOSE = 1e-2  # relative: how far features that are read again may be from those of the bank


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Learning rates of the backbone to choose from, and the most passes over train; the best pass is chosen too."""

    rates: Annotated[tuple[Share, ...], Length(1, 1000)] = (1e-4, 1e-3)
    epochs: Count = 10

    def __post_init__(self) -> None:
        check_fields(self)


def train_epochs(
    backbone: Backbone,
    inputs: Float[Tensor, "n ..."],
    task: ProbeTask,
    fit: Int[np.ndarray, " k"],
    held_out: Int[np.ndarray, " m"],
    rate: float,
    epochs: int,
    seed: int,
) -> list[np.ndarray]:
    """Return the predictions for rows `held_out` after every pass over rows `fit`: AdamW, the head from zero on
    features standardized by what they were at first.

    Args:
        backbone: the layer to train up to.
        inputs: what it takes, for all clips; see `read_inputs`.
        task: the labels.
        fit: rows to fit on.
        held_out: rows to predict.
        rate: the learning rate of the backbone; 0 leaves it as it is.
        epochs: passes over `fit`.
        seed: of the order of batches.
    """
    y = task.y[fit]
    target = Target(y.astype(str) if task.target_type == "class" else y, task.target_type)
    encoded = target.encode(torch.float32)
    first = read_features(backbone, inputs, task.ids, fit)
    scaler = Standardizer.fit(first, correction=1)
    head = nn.Linear(first.shape[1], target.outputs)
    for weight in head.parameters():
        nn.init.zeros_(weight)
    groups = [{"params": head.parameters(), "lr": HEAD_RATE}]
    if rate > 0:
        groups.append({"params": list(backbone.trained.parameters()), "lr": rate})
    optimizer = torch.optim.AdamW(groups, weight_decay=DECAY)
    per_epoch = -(-len(fit) // BATCH)
    predictions = []
    for step, batch in enumerate(draw_batches(len(fit), epochs * per_epoch, seed, BATCH), 1):
        rows = batch.numpy()  # numpy takes a tensor of one row for a number, and the axis is gone
        with torch.enable_grad():
            x = scaler.transform(backbone(inputs[fit[rows]], [task.ids[row] for row in fit[rows]]))
            loss = probe_losses(rearrange(head(x), "b o -> 1 b o"), encoded[rows], task.target_type).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % per_epoch == 0:
            with torch.no_grad():
                x = scaler.transform(read_features(backbone, inputs, task.ids, held_out))
                labels = target.decode(rearrange(head(x), "m o -> 1 m o"))[0]
            predictions.append(in_form_of(task, labels, held_out))
    return predictions


@torch.no_grad()
def read_features(
    backbone: Backbone, inputs: Float[Tensor, "n ..."], ids: Sequence[str], rows: Int[np.ndarray, " k"]
) -> Float[Tensor, "k d"]:
    """Return the features of `rows` as they are, without gradients."""
    parts = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    return torch.cat([backbone(inputs[part], [ids[row] for row in part]) for part in parts])


def fine_tune(
    make: Callable[[], Backbone], inputs: Float[Tensor, "n ..."], task: ProbeTask, schedule: Schedule, seed: int = 0
) -> ProbeScore:
    """Return the score of a layer that is fine-tuned.

    Rate and number of passes are chosen on validation (where there is no such split, on one part of train, its groups
    kept whole), and then all of train is learned from anew.
    """
    metric, (fit, held_out) = METRICS[task.target_type], validation_folds(task)[0]
    best: tuple[float, float, int] | None = None
    for rate in schedule.rates:
        epochs = train_epochs(make(), inputs, task, fit, held_out, rate, schedule.epochs, seed)
        for epoch, predictions in enumerate(epochs, 1):
            score = metric(metric.count(task.y[held_out], predictions))
            if best is None or score > best[0]:
                best = (score, rate, epoch)
    validation, rate, epoch = best
    predictions = train_epochs(make(), inputs, task, task.train, task.test, rate, epoch, seed)[-1]
    return score_predictions(task, predictions, choice=(rate, epoch), validation=validation, seed=seed)


def read_inputs(bank: FeatureBank, backbone: Backbone, rows: Sequence[int]) -> Float[Tensor, "n ..."]:
    """Return what the backbone takes, at the numbers of these rows of the bank; its clips are read again.

    Raises VidgenError for a clip that is no longer in the bank's source, or that cannot be read.
    """
    window = {name: bank.meta["preprocessing"][name] for name in ("num_frames", "size", "fps", "windows")}
    window["size"] = tuple(window["size"])
    dataset = open_clips(find_clips(bank.meta["source"]), **window, seed=bank.meta["seed"])
    numbers = {record.id: number for number, record in enumerate(dataset.records)}
    if gone := [bank.ids[row] for row in rows if bank.ids[row] not in numbers]:
        raise VidgenError(f"clip {gone[0]!r} of {bank.folder} can no longer be read from {bank.meta['source']}")
    parts = []
    for start in range(0, len(rows), BATCH):
        clips = [dataset[numbers[bank.ids[row]]]["video"] for row in rows[start : start + BATCH]]
        parts.append(backbone.prepare(torch.stack(clips)))
    prepared = torch.cat(parts)
    inputs = torch.zeros(len(bank), *prepared.shape[1:])
    inputs[torch.as_tensor(rows)] = prepared
    return inputs


@renamed_keywords(goal="target_type")
def fine_tune_rows(
    bank: FeatureBank,
    model: Pipeline | Tokenizer,
    key: str,
    *,
    task: str = "label",
    target_type: str | None = None,
    skip_unlabelled: bool = False,
    schedule: Schedule | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return the rows of the layer `key` fine-tuned, and from random weights; and beside them the rows of linear probes
    of the same layer as it is, and of its baselines (see `probe_rows`).

    The clips are read from the bank's source, and the model is left as it is. Raises VidgenError for a model that is
    not the bank's, and clips that are not those the bank was made of.

    Args:
        bank: the features, the labels and the source of the clips.
        model: the pipeline or tokenizer that the bank was extracted with.
        key: the feature's layer or key.
        task, target_type, skip_unlabelled: as in `probe_rows`.
        schedule: learning rates and passes to choose from.
        seed: of random weights, of the order of batches, and of a split that is drawn.
    """
    if bank.meta.get("model_hash") != model_hash(model):
        raise VidgenError(f"{bank.folder} holds features of another model; fine-tune the one it was extracted with")
    key, schedule = bank.find_key(key), schedule or Schedule()
    options = {"task": task, "target_type": target_type, "skip_unlabelled": skip_unlabelled, "seed": seed}
    labels = task_of(bank, seed, name=task, target_type=target_type, skip_unlabelled=skip_unlabelled)
    setting = {name: bank.meta[name] for name in ("pool", "seed", "prompt")}
    needed = np.concatenate([labels.train, labels.scored])
    rows = []
    for prefix, start in (("", model), (RANDOM, random_like(model, seed))):
        backbone = Backbone(start, key, **setting)
        inputs = read_inputs(bank, backbone, needed.tolist())
        if not prefix:
            check_unchanged(bank, key, read_features(backbone, inputs, bank.ids, needed[:1]), int(needed[0]))
        score = fine_tune(lambda start=start: Backbone(start, key, **setting), inputs, labels, schedule, seed)
        rows.append(describe_score(bank, prefix + key, "fine-tuned", labels, score))
    return rows + probe_rows(bank, "linear", [key], **options)


def check_unchanged(bank: FeatureBank, key: str, features: Float[Tensor, "1 d"], row: int) -> None:
    """Raise VidgenError unless a clip's features are those that the bank has."""
    stored = torch.from_numpy(bank.X(key, rows=[row]))
    if features.shape != stored.shape or (features - stored).norm() > CLOSE * stored.norm():
        raise VidgenError(
            f"{key} of clip {bank.ids[row]!r} is not what {bank.folder} has: its source changed; extract it again"
        )
