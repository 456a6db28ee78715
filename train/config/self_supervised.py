"""What the task of learning without labels is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from vidgen.bounds import Choice, Count, NoOrCount, Positive, Range, Share, Weight, Width, check_fields
from vidgen.errors import VidgenError
from vidgen.train.config.run import LoopConfig
from vidgen.train.objectives.predictive import DISTANCES
from vidgen.train.views.pretexts import PRETEXTS

READS = ("pixels", "latents", "indices")
FIXED_TARGETS = ("pixels", "normalized_pixels", "hog", "latents", "features")
TARGETS = (*FIXED_TARGETS, "teacher", "self")
REGULARIZERS = ("", "vicreg", "sigreg")
Decay = Annotated[float, Range(0.0, 1.0)]


@dataclass
class SSLRecipe(LoopConfig):
    """Task `ssl`: an encoder learns from clips without labels, by the weighted sum of `terms`.

    `encoder` has its `kind`, "vit" (the default) or "resnet", and overrides fields of `VideoViTConfig` or
    `VideoResNetConfig`; clips and rate are the data's. A term is named as one likes; its `kind` is one of
    vidgen.train.tasks.ssl.registry.TERMS, its `weight` counts in the sum, and its other keys are the fields of that
    kind's config. `init_from` is the folder of an encoder to go on from.

    `reads`: "pixels", or what a frozen `tokenizer` (a name or folder) makes of clips: "latents", normalized, or
    "indices" of one with a codebook. The encoder, a vit, is then over its cells: `encoder.patch` is in cells, one
    latent frame deep, and (1, 1, 1) where it is left out.

    With `adapt` the encoder of `init_from` (a `VideoViT`; for kind temporal also a model of timm or transformers, by
    name or folder) stays as it is, and what is learned stands beside it: `kind` is one of
    vidgen.models.adaptation.adapted_encoder.ADAPTATIONS, other keys are fields of that kind's config, and `whole` true
    saves the encoder too.

    Validation says how features of held-out clips do without labels (spread, rank, alignment with a second view), and
    with them where the synthetic world has them: nearest neighbours among `probe_clips` of training, and a linear map.
    The encoder whose neighbours are best is kept in the run's folder `best`. A run whose features spread less than
    `collapse` times as much as at the first validation has collapsed, and ends.
    """

    reads: Annotated[str, Choice(READS)] = "pixels"
    tokenizer: str = "default"
    encoder: dict[str, Any] = field(default_factory=dict)
    adapt: dict[str, Any] = field(default_factory=dict)
    terms: dict[str, Any] = field(default_factory=dict)
    probe_clips: Count = 256
    collapse: Share = 0.1

    def check(self, path: Path) -> None:
        """Raise VidgenError for shapes that are the data's to say, and terms without a kind."""
        super().check(path)
        if own := {"clip", "fps"} & self.encoder.keys():
            raise VidgenError(f"{path}: encoder.{min(own)} is the data's to say; leave it out")
        if own := {"in_channels", "codebook_size"} & self.encoder.keys():
            raise VidgenError(
                f"{path}: encoder.{min(own)} is not for recipes: set reads=latents or reads=indices for an encoder "
                "over a tokenizer's cells"
            )
        if self.reads == "pixels" and self.tokenizer != "default":
            raise VidgenError(
                f"{path}: tokenizer={self.tokenizer} is for reads=latents or indices; a term has a tokenizer of its own"
            )
        if self.reads != "pixels" and self.adapt:
            raise VidgenError(f"{path}: adapt is beside an encoder of pixels; leave it out, or reads={self.reads}")
        if self.data.validation_clips < 2:
            raise VidgenError(
                f"{path}: data.validation_clips={self.data.validation_clips} tell no spread; give 2 or more"
            )
        if self.adapt and not isinstance(self.adapt.get("kind"), str):
            raise VidgenError(f"{path}: adapt has no kind; give one, as adapt.kind=adapter")
        for name, values in self.terms.items():
            if not name.isidentifier() or hasattr(dict, name):
                raise VidgenError(f"{path}: a term cannot be named {name!r}; give it a plain word")
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
class ProjectorConfig:
    """Shape of a `Projector`."""

    hidden: Width = 256
    channels: Width = 128
    layers: Annotated[int, Range(1, 16)] = 2
    norm: Annotated[str, Choice(("batch", "layer", "none"))] = "batch"

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """What is told of tokens: `target`, of pixels ("pixels"; "normalized_pixels" by each patch's mean and spread; "hog"
    their histograms of gradients), the latents of a `tokenizer`, or a `layer` of a frozen encoder `source`
    ("features"). Of an encoder that reads latents "pixels" are its latents."""

    weight: Positive = 1.0
    mask: dict[str, Any] = field(default_factory=dict)
    target: Annotated[str, Choice(FIXED_TARGETS)] = "normalized_pixels"
    predictor: dict[str, Any] = field(default_factory=dict)
    tokenizer: str = "default"
    source: str = ""
    layer: str = ""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.target == "features" and not self.source:
            raise VidgenError("target features needs source: the folder or name of a frozen encoder")


@dataclass(frozen=True, kw_only=True)
class MaskedTermConfig(TargetConfig):
    """Hidden tokens are predicted from those that are seen.

    `target` may also be the encoder's own tokens of the whole clip, as its average teacher has them ("teacher") or it
    has them itself ("self", with their gradient where there is a `regularizer` that keeps them apart). `visible` is the
    weight of tokens that are seen. `mask` are fields of `MaskConfig`, `predictor` of `PredictorConfig`, and `view` of
    `ViewConfig`; empty is the clip as it is.
    """

    target: Annotated[str, Choice(TARGETS)] = "normalized_pixels"
    distance: Annotated[str, Choice(tuple(DISTANCES))] = "l2"
    visible: Weight = 0.0
    view: dict[str, Any] = field(default_factory=dict)
    teacher: dict[str, Any] = field(default_factory=dict)
    regularizer: Annotated[str, Choice(REGULARIZERS)] = ""
    regularizer_weight: Weight = 1.0


@dataclass(frozen=True, kw_only=True)
class ClusterTermConfig(TargetConfig):
    """The cluster of a fixed target is told, one of `clusters` that k-means makes of `fit_clips` clips: of hidden
    tokens, or at `level` "clip" of a clip's mean target."""

    clusters: Annotated[int, Range(2, 65536)] = 64
    fit_clips: Count = 256
    level: Annotated[str, Choice(("token", "clip"))] = "token"


@dataclass(frozen=True, kw_only=True)
class IndexTermConfig:
    """The indices of hidden tokens are told, of the codebook of a `tokenizer`; of an encoder that reads a tokenizer's
    cells, of that one ("")."""

    weight: Positive = 1.0
    mask: dict[str, Any] = field(default_factory=dict)
    predictor: dict[str, Any] = field(default_factory=dict)
    tokenizer: str = ""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class SinkhornTermConfig:
    """Balanced clusters of hidden tubes, `prototypes` of them, are learned on the way."""

    weight: Positive = 1.0
    mask: dict[str, Any] = field(default_factory=dict)
    predictor: dict[str, Any] = field(default_factory=dict)
    prototypes: Annotated[int, Range(2, 65536)] = 64

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class JointTermConfig:
    """Embeddings of views of one clip agree, by the objective `agreement` with its own `settings` (its keyword
    arguments, such as temperature).

    `views` are fields of `ViewConfig`, two or more; `negatives` are such fields too, of views that a clip is told from,
    its own ones. `projector` are fields of `ProjectorConfig`, `predictor` the same of a second network on the side that
    predicts; empty is none. `teacher` (fields of `TeacherConfig`) makes the targets by an average of
    encoder and projector; without it they are the student's own. `queue` former targets are negatives. `prototypes`:
    clusters of "swav" and outputs of "dino".
    """

    weight: Positive = 1.0
    agreement: str = "info_nce"
    settings: dict[str, Any] = field(default_factory=dict)
    views: tuple[dict[str, Any], ...] = ({}, {})
    negatives: tuple[dict[str, Any], ...] = ()
    projector: dict[str, Any] = field(default_factory=dict)
    predictor: dict[str, Any] = field(default_factory=dict)
    teacher: dict[str, Any] = field(default_factory=dict)
    queue: NoOrCount = 0
    prototypes: NoOrCount = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if len(self.views) < 2:
            raise VidgenError(f"{len(self.views)} view has nothing to agree with; give views, two or more")
        if (self.agreement in ("swav", "dino")) != (self.prototypes > 0):
            raise VidgenError(
                f"prototypes={self.prototypes} with {self.agreement}: swav and dino have some, others none"
            )
        if (self.queue or self.negatives) and self.agreement != "info_nce":
            raise VidgenError(f"{self.agreement} has no negatives of its own: leave queue and negatives out")
        if self.predictor and self.agreement in ("nt_xent", "barlow", "vicreg", "lejepa"):
            raise VidgenError(f"{self.agreement} compares what is projected: leave predictor out")
        if self.teacher and self.agreement not in ("info_nce", "byol", "dino"):
            raise VidgenError(f"{self.agreement} has no teacher: leave it out")
        if self.agreement == "byol" and not (self.teacher or self.predictor):
            raise VidgenError("byol without teacher and predictor collapses: give one of them, or both")
        if self.agreement == "dino" and not self.teacher:
            raise VidgenError("dino needs a teacher: give teacher, as {decay: 0.996}")


@dataclass(frozen=True, kw_only=True)
class PretextTermConfig:
    """What was done to a clip, or is to be seen in it, is told: `pretext` of vidgen.train.views.pretexts.PRETEXTS."""

    weight: Positive = 1.0
    pretext: Annotated[str, Choice(tuple(PRETEXTS))] = "speed"

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class FutureTermConfig:
    """The last `ahead` segments of a clip, of `frames` each (0: a patch), are predicted from those before, by
    `predictor`: contrastive, bidirectional or composite."""

    weight: Positive = 1.0
    predictor: str = "contrastive"
    frames: NoOrCount = 0
    ahead: Count = 1

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class StochasticTermConfig:
    """A later segment is decoded from an earlier one and what is uncertain, which costs `kl_weight` a nat."""

    weight: Positive = 1.0
    kl_weight: Weight = 0.01

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class SelectionTermConfig:
    """The encoder's selector (`encoder.selector_frames`) learns by policy gradient, from `draws` of frames a clip."""

    weight: Positive = 1.0
    draws: Annotated[int, Range(2, 64)] = 4

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class SupervisedTermConfig:
    """Words of the synthetic world are told: `labels` of shape, colour and motion."""

    weight: Positive = 1.0
    labels: tuple[Annotated[str, Choice(("shape", "colour", "motion"))], ...] = ("shape", "colour", "motion")

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.labels:
            raise VidgenError("a supervised term needs labels: give some of shape, colour and motion")
