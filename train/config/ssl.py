"""What the task of learning without labels is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from vidgen.bounds import Choice, Count, Positive, Range, Weight, check_fields
from vidgen.errors import VidgenError
from vidgen.train.config.run import LoopConfig
from vidgen.train.objectives.predictive import DISTANCES

TARGETS = ("pixels", "normalized_pixels", "hog", "latents", "features", "teacher", "self")
REGULARIZERS = ("", "vicreg", "sigreg")
Decay = Annotated[float, Range(0.0, 1.0)]


@dataclass
class SSLRecipe(LoopConfig):
    """Task `ssl`: a `VideoViT` learns from clips without labels, by the weighted sum of `terms`.

    `encoder` overrides fields of `VideoViTConfig`; clips and rate are the data's. A term is named as one likes; its
    `kind` is one of vidgen.train.tasks.ssl.registry.TERMS, its `weight` counts in the sum, and its other keys are the
    fields of that kind's config. `init_from` is the folder of an encoder to go on from.

    Validation says how features of held-out clips do without labels (spread, rank), and with them where the synthetic
    world has them: nearest neighbours among `probe_clips` of training.
    """

    encoder: dict[str, Any] = field(default_factory=dict)
    terms: dict[str, Any] = field(default_factory=dict)
    probe_clips: Count = 256

    def check(self, path: Path) -> None:
        """Raise VidgenError for shapes that are the data's to say, and terms without a kind."""
        super().check(path)
        if own := {"clip", "fps"} & self.encoder.keys():
            raise VidgenError(f"{path}: encoder.{min(own)} is the data's to say; leave it out")
        for name, values in self.terms.items():
            if not isinstance(values, dict) or "kind" not in values:
                raise VidgenError(f"{path}: terms.{name} has no kind; give one, as terms.{name}.kind=masked")


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """A teacher that follows the student: the decay of its average a step, linear from `decay` to `final_decay`."""

    decay: Decay = 0.998
    final_decay: Decay = 1.0

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class MaskedTermConfig:
    """Hidden tokens are predicted from those that are seen.

    `target` of TARGETS: of pixels ("pixels"; "normalized_pixels" by each patch's mean and spread; "hog" their
    histograms of gradients), the latents of a `tokenizer`, a `layer` of a frozen encoder `source` ("features"), the
    encoder's own tokens of the whole clip, as its average teacher has them ("teacher") or it has them itself ("self",
    with their gradient where there is a `regularizer` that keeps them apart). `visible` is the weight of tokens that
    are seen. `mask` are fields of `MaskConfig`, `predictor` of `TokenPredictor`.
    """

    weight: Positive = 1.0
    mask: dict[str, Any] = field(default_factory=dict)
    target: Annotated[str, Choice(TARGETS)] = "normalized_pixels"
    distance: Annotated[str, Choice(tuple(DISTANCES))] = "l2"
    visible: Weight = 0.0
    predictor: dict[str, Any] = field(default_factory=dict)
    teacher: dict[str, Any] = field(default_factory=dict)
    tokenizer: str = "default"
    source: str = ""
    layer: str = ""
    regularizer: Annotated[str, Choice(REGULARIZERS)] = ""
    regularizer_weight: Weight = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.target == "features" and not self.source:
            raise VidgenError("target features needs source: the folder or name of a frozen encoder")
