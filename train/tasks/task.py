"""What the training loop needs to know of a task."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

Metrics = dict[str, float]


class Task(Protocol):
    """A model, its data and its loss. The last three methods are for tasks that train more than their model."""

    model: nn.Module
    dataset: Dataset

    def gather(self, samples: list) -> Any:
        """Collates the dataset's items into a batch."""

    def loss(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """The loss of a batch, with every random number from `generator`, and named parts for the log.

        The loop's guard watches two of them where they are there: "reconstruction" and "codebook_usage".
        """

    def validate(self) -> Metrics:
        """Metrics on held-out data with fixed noise; the model is in evaluation mode with EMA weights."""

    def export(self, folder: Path) -> None:
        """Writes the model, with EMA weights in place, to `folder` in the pretrained layout."""

    def after_step(self, step: int, lr: float) -> Metrics:
        """What else a step trains, after the model's own update at learning rate `lr`; more for the log."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What checkpoints hold of the task beside its model: tensors and plain values in dictionaries and lists."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`."""


def autocast(device: str, precision: str) -> AbstractContextManager:
    """Autocast to bfloat16 where `precision` says so, for the device named as torch names it ("cuda:0")."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bfloat16")
