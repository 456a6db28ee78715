"""What the training loop needs to know of a task: its data, and its models with the role that each plays."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from vidgen.train.config import OptimizerConfig

Metrics = dict[str, float]
Loss = Callable[[Any, torch.Generator], tuple[Tensor | None, Metrics]]


@dataclass(frozen=True, kw_only=True)
class Follow:
    """The weights that a teacher averages: those of `source`, a module of the same shape, after each step.

    teacher <- decay teacher + (1 - decay) source, buffers copied (Tarvainen & Valpola 2017, eq. 2). The decay moves
    linearly from `decay` to `final_decay` over the run; None keeps it. Nothing copies the source's weights at the
    start: a teacher begins with its own, so make it as a copy of `source` where it is to begin as one.
    """

    source: nn.Module
    decay: float = 0.999
    final_decay: float | None = None

    def decay_at(self, step: int, steps: int) -> float:
        """Return the decay at a step of a run of `steps`."""
        final = self.decay if self.final_decay is None else self.final_decay
        return self.decay + (final - self.decay) * min(1.0, step / max(1, steps))


@dataclass(frozen=True, kw_only=True)
class Role:
    """One model of a task, and how it is trained: student, critic, discriminator, teacher.

    With a `loss` and an `optimizer` it is trained: the optimizer's config has the learning-rate schedule, the gradient
    clipping and the decay of the averaged weights (`ema_decay` 0: none). With `follow` its weights are an average of
    another module's. With neither it is frozen, and no checkpoint holds it.

    The turn of one that is trained comes at every `every`-th step of the run, after the main model's or `before_main`,
    with `updates` optimizer steps on the batch. `loss` returns None in place of a tensor where nothing is to be learned
    at a step. One that follows moves after every step of the run, when all turns are over.
    """

    module: nn.Module
    loss: Loss | None = None
    optimizer: OptimizerConfig | None = None
    follow: Follow | None = None
    every: int = 1
    updates: int = 1
    before_main: bool = False

    def __post_init__(self) -> None:
        if (self.loss is None) != (self.optimizer is None):
            raise ValueError("a role that is trained has both a loss and an optimizer")
        if self.follow is not None and self.loss is not None:
            raise ValueError("a role either follows other weights or is trained")
        if self.every < 1 or self.updates < 1:
            raise ValueError(f"a role needs every >= 1 and updates >= 1, got {self.every} and {self.updates}")
        if self.loss is None and (self.every, self.updates, self.before_main) != (1, 1, False):
            raise ValueError("a role that is not trained has no turns: leave every, updates and before_main out")


class Task(Protocol):
    """A model, its data and its loss. Methods with a body are for tasks that have more than that."""

    model: nn.Module
    dataset: Dataset

    def gather(self, samples: list) -> Any:
        """Collate the dataset's items into a batch."""

    def loss(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return the loss of a batch, with every random number from `generator`, and named parts for the log.

        The loop watches two of the parts for divergence where they are there: "reconstruction" and "codebook_usage".
        """

    def validate(self) -> Metrics:
        """Return metrics on held-out data with fixed noise; the model is in evaluation mode with EMA weights."""

    def export(self, folder: Path) -> None:
        """Write the model, with EMA weights in place, to `folder` in the pretrained layout."""

    def roles(self) -> dict[str, Role]:
        """Return the models beside `model`, by name; each trained one has the metrics NAME_loss and NAME_grad_norm.

        An entry "model", trained too, replaces the main role: `model` with `loss` and the recipe's optimizer.
        """
        return {}

    def begin_step(self, step: int) -> None:
        """Prepare the step of this number, before any loss of it: for what changes over a run."""

    def state_dict(self) -> dict[str, Any]:
        """Return what checkpoints hold beside the roles' models: tensors and plain values in dictionaries and lists."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`."""


def export_dtype(precision: str) -> torch.dtype | None:
    """Return what weights are stored in: bfloat16 where training computes in it, else (None) as they are."""
    return torch.bfloat16 if precision == "bfloat16" else None


def autocast(device: str, precision: str) -> AbstractContextManager:
    """Return autocast to bfloat16 where `precision` says so, for the device as torch names it ("cuda:0")."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bfloat16")
