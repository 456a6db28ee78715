"""What is known of a clip as a whole beside its text, embedded and added to its noise level's embedding."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.models.dit.config import VideoDiTConfig
from vidgen.models.layers import sinusoidal

WAVES = 256  # sines and cosines of a number


@dataclass(frozen=True, kw_only=True)
class LabelConditioning:
    """Labels of a batch of clips; those that a model takes are given, and no others.

    class_id: 0 to `classes` - 1; `classes` itself says nothing, and is the null condition of guidance.
    task_id: 0 to `tasks` - 1.
    frame_rate: frames a second. frame_size: height and width in pixels.
    """

    class_id: Int[Tensor, " b"] | None = None
    task_id: Int[Tensor, " b"] | None = None
    frame_rate: Float[Tensor, " b"] | None = None
    frame_size: Float[Tensor, "b two"] | None = None

    def given(self) -> set[str]:
        return {f.name for f in fields(self) if getattr(self, f.name) is not None}


class NumberEmbedding(nn.Module):
    """`count` numbers as one vector: sines and cosines of each, and two layers (Podell et al. 2023, section 2.2)."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(count * WAVES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, numbers: Float[Tensor, "b n"]) -> Float[Tensor, "b d"]:
        return self.layers(sinusoidal(numbers, WAVES, scale=1.0).flatten(1).to(self.layers[0].weight.dtype))


class LabelEmbedding(nn.Module):
    """The sum of all labels' embeddings; a fresh one is zero, so that a trained model can be given labels."""

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
        """Raises ValueError for a class or task that there is not."""
        parts = []
        for name in sorted(labels.given()):
            value, layer = getattr(labels, name), getattr(self, name)
            if isinstance(layer, nn.Embedding):
                if value.min() < 0 or value.max() >= self.sizes[name]:
                    raise ValueError(f"{name} {value.tolist()} is not from 0 to {self.sizes[name] - 1}")
                parts.append(layer(value.to(layer.weight.device)))
            else:
                number = value if value.ndim == 2 else value[:, None]
                parts.append(layer(number.to(layer.layers[0].weight.device)))
        return torch.stack(parts).sum(0)
