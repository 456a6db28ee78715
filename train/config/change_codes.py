"""What the task on codes of changes is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidgen.bounds import NoOrCount
from vidgen.errors import VidgenError
from vidgen.train.config.run import LoopConfig


@dataclass
class ChangeCodesRecipe(LoopConfig):
    """Task `change_codes`: a `ChangeCodes` over the latents of `tokenizer`, whose channels and size it has; `model`
    overrides the other fields of its config. Latents of `cached_clips` clips (0: 16 crops of each file) are made once
    and kept in `cache`. Validation says how much nearer its frames are than the frame before, and, of clips with
    actions (sources of kind walks), how well a linear map reads these from the codes.
    """

    tokenizer: str = "default"
    cache: str = ""
    cached_clips: NoOrCount = 4000
    model: dict[str, Any] = field(default_factory=dict)

    def check(self, path: Path) -> None:
        """Raise VidgenError for shapes that are the tokenizer's to say."""
        super().check(path)
        if own := {"latent_channels", "size"} & self.model.keys():
            raise VidgenError(f"{path}: model.{min(own)} is the tokenizer's to say; leave it out")
