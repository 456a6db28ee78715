"""Labels of a clip as a whole, beside its text: embedded and added to its noise level's embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.errors import VidgenError
from vidgen.models.dit.config import VideoDiTConfig
from vidgen.models.layers import sinusoidal

TEXT_TO_VIDEO = "text_to_video"  # the task under which nothing of a clip is known
NUMBER_WAVES = 256  # sines and cosines of a number


@dataclass(frozen=True, kw_only=True)
class LabelConditioning:
    """Labels of a batch of clips: exactly those that the model takes.

    class_id: 0 to `classes` - 1; `classes` itself means no class, and is the null condition of guidance.
    task_id: 0 to `tasks` - 1.
    frame_rate: frames a second. frame_size: height and width in pixels.
    """

    class_id: Int[Tensor, " b"] | None = None
    task_id: Int[Tensor, " b"] | None = None
    frame_rate: Float[Tensor, " b"] | None = None
    frame_size: Float[Tensor, "b two"] | None = None

    def names(self) -> set[str]:
        """Return the names of the labels that are there."""
        return {f.name for f in fields(self) if getattr(self, f.name) is not None}


def task_names(network: object) -> tuple[str, ...]:
    """Return the tasks that a network is told by an id, in the order of ids; none for one without."""
    return tuple(getattr(getattr(network, "config", None), "task_names", ()))


def task_labels(network: object, tasks: Sequence[str]) -> dict[str, LabelConditioning]:
    """Return the argument by which a network is told the tasks of clips; nothing for one that knows no tasks.

    Raises VidgenError for a task that it was not trained for.
    """
    names = task_names(network)
    if not names:
        return {}
    if unknown := [task for task in tasks if task not in names]:
        raise VidgenError(
            f"this asks for the task {unknown[0]}, and the model was trained for {', '.join(names)}: give what one of "
            "these needs, or take another model"
        )
    return {"labels": LabelConditioning(task_id=torch.tensor([names.index(task) for task in tasks]))}


class NumberEmbedding(nn.Module):
    """`count` numbers as one vector: sines and cosines of each, and two layers (Podell et al. 2023, section 2.2)."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(count * NUMBER_WAVES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, numbers: Float[Tensor, "b n"]) -> Float[Tensor, "b d"]:
        """Return the embedding of each row of numbers."""
        weight = self.layers[0].weight
        waves = sinusoidal(numbers.to(weight.device), NUMBER_WAVES, scale=1.0)
        return self.layers(waves.flatten(1).to(weight.dtype))


class LabelEmbedding(nn.Module):
    """The sum of all labels' embeddings; a fresh one is zero, so that labels can be added to a trained model."""

    def __init__(self, config: VideoDiTConfig) -> None:
        super().__init__()
        self.sizes = {"class_id": config.classes + 1, "task_id": config.tasks}
        for name in config.labels:
            count = {"frame_rate": 1, "frame_size": 2}.get(name)
            layer = NumberEmbedding(count, config.width) if count else nn.Embedding(self.sizes[name], config.width)
            for value in (layer.layers[-1] if count else layer).parameters():
                nn.init.zeros_(value)
            setattr(self, name, layer)

    def forward(self, labels: LabelConditioning) -> Float[Tensor, "b d"]:
        """Return the sum of the embeddings. Raises ValueError for a class or task that does not exist."""
        parts = []
        for name in sorted(labels.names()):
            value = getattr(labels, name)
            layer = getattr(self, name)
            if isinstance(layer, NumberEmbedding):
                parts.append(layer(value if value.ndim == 2 else value[:, None]))
                continue
            if value.min() < 0 or value.max() >= self.sizes[name]:
                raise ValueError(f"{name} {value.tolist()} is not from 0 to {self.sizes[name] - 1}")
            parts.append(layer(value.to(layer.weight.device)))
        return torch.stack(parts).sum(0)
