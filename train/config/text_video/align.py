"""What the task of aligning texts and clips is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from vidgen.bounds import Choice, Range, Share, check_fields
from vidgen.errors import VidgenError
from vidgen.train.config.run import LoopConfig
from vidgen.train.objectives.text_video import TEXT_VIDEO_OBJECTIVES


@dataclass
class AlignRecipe(LoopConfig):
    """Task `align`: a `DualEncoder` learns which captions go with which clips.

    `encoder` overrides fields of `VideoViTConfig`, `text` those of `ByteTextConfig`, `heads` those of
    `JointHeadsConfig`; clips and rate are the data's. `init_from` is a dual encoder to go on from, or a VideoViT that
    its tower of clips begins as. With `heads.text_encoder` a text encoder, by name or folder, stays as it is.

    `objective` is one of vidgen.train.objectives.text_video.TEXT_VIDEO_OBJECTIVES. A clip and its own caption go
    together; another clip that the caption is true of, of the synthetic world by its labels and else by the same
    words, is no negative. `changed_captions` of every clip, with one thing changed, are negatives beside the batch's;
    `counterfactuals` is the share of a batch that are pairs of clips which differ in one thing.
    `seen` is the share of a clip's tokens that the tower sees at a step, drawn at random (Li et al. 2023, FLIP).
    `train_video` false leaves the tower of clips as it is (Zhai et al. 2022, LiT).

    Validation says how often the best clip of a caption, and the best caption of a clip, is right among held-out ones.
    """

    encoder: dict[str, Any] = field(default_factory=dict)
    text: dict[str, Any] = field(default_factory=dict)
    heads: dict[str, Any] = field(default_factory=dict)
    objective: Annotated[str, Choice(tuple(TEXT_VIDEO_OBJECTIVES))] = "softmax"
    changed_captions: Annotated[int, Range(0, 16)] = 0
    seen: Annotated[float, Range(0.0, 1.0, above=True)] = 1.0
    counterfactuals: Share = 0.0
    train_video: bool = True

    def check(self, path: Path) -> None:
        """Raise VidgenError for shapes that are said elsewhere, and for changed captions of clips without labels."""
        super().check(path)
        check_fields(self, f"{path}: ")
        if own := {"clip", "fps", "in_channels", "codebook_size"} & self.encoder.keys():
            raise VidgenError(f"{path}: encoder.{min(own)} is the data's to say; leave it out")
        if own := {"video_width", "text_width"} & self.heads.keys():
            raise VidgenError(f"{path}: heads.{min(own)} is the tower's to say; leave it out")
        if self.batch_size < 2:
            raise VidgenError(f"{path}: batch_size={self.batch_size} has no negatives; give 2 or more")
        if (self.changed_captions or self.counterfactuals) and not self.has_labels:
            raise VidgenError(
                f"{path}: changed_captions and counterfactuals are made from labels; give kind=shapes alone"
            )
        if self.data.validation_clips < 2:
            raise VidgenError(
                f"{path}: data.validation_clips={self.data.validation_clips} rank nothing; give 2 or more"
            )

    @property
    def has_labels(self) -> bool:
        """Whether all clips are of the synthetic world, one caption each."""
        return self.data.is_only("shapes") and self.data.scenes() == 1
