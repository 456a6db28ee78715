"""What the task of reading texts and clips together is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidgen.bounds import Count, Weight, check_fields
from vidgen.errors import VidgenError
from vidgen.train.config.run import LoopConfig


@dataclass
class FuseRecipe(LoopConfig):
    """Task `fuse`: a `FusedEncoder` over the tokens of a model of texts and clips that stays as it is.

    `dual_encoder` is that model, by name or folder: of `vidgen train align`, or CLIP, SigLIP or X-CLIP. `fused`
    overrides fields of `FusedEncoderConfig`; `init_from` is a fused encoder to go on from. `terms` are weights of
    vidgen.train.tasks.text_video.fused_terms.FUSED_TERMS.

    Validation says how often the best clip of a held-out caption is right by the dual encoder alone, and after its
    first `top` clips are sorted by how well they match.
    """

    dual_encoder: str = ""
    fused: dict[str, Any] = field(default_factory=dict)
    terms: dict[str, Weight] = field(default_factory=lambda: {"matching": 1.0})
    top: Count = 10

    def check(self, path: Path) -> None:
        """Raise VidgenError where nothing says whose tokens are read, and for batches without negatives."""
        super().check(path)
        check_fields(self, f"{path}: ")
        if not self.dual_encoder:
            raise VidgenError(f"{path}: dual_encoder is the model whose tokens are read; give its name or folder")
        if own := {"token_width", "dual_encoder"} & self.fused.keys():
            raise VidgenError(f"{path}: fused.{min(own)} is the dual encoder's to say; leave it out")
        if self.batch_size < 2:
            raise VidgenError(f"{path}: batch_size={self.batch_size} has no negatives; give 2 or more")
        if self.data.validation_clips < 2:
            raise VidgenError(
                f"{path}: data.validation_clips={self.data.validation_clips} rank nothing; give 2 or more"
            )
