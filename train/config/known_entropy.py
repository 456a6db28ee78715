"""What the task on token worlds of known law is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from vidgen.bounds import Choice
from vidgen.data.token_worlds.registry import TOKEN_WORLDS
from vidgen.errors import VidgenError
from vidgen.train.config.run import LoopConfig


@dataclass
class KnownEntropyRecipe(LoopConfig):
    """Task `known_entropy`: a `TokenPrior` over clips whose law is known, `world` of
    vidgen.data.token_worlds.registry with its fields in `world_settings`. Validation says how many nats a frame the
    prior takes, of sprites, pictures or procedures that it has seen and of those that are held
    out, beside the floor.

    `model` overrides fields of `TokenPriorConfig`; its `order` is "causal" or "random", of which the nats are exact.
    """

    world: Annotated[str, Choice(tuple(TOKEN_WORLDS))] = "torus"
    world_settings: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)

    def check(self, path: Path) -> None:
        """Raise VidgenError for a model whose nats are a bound, or whose codebook would be another than the world's."""
        super().check(path)
        if self.model.get("order", "causal") not in ("causal", "random"):
            raise VidgenError(f"{path}: model.order={self.model['order']}: its nats are a bound; give causal or random")
        if own := {"codebook_sizes", "text_width", "classes", "actions", "words"} & self.model.keys():
            raise VidgenError(f"{path}: model.{min(own)} is not for this task: the world says it; leave it out")
