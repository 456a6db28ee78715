"""What the alignment of a denoiser with a frozen encoder is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from vidgen.bounds import Choice, NoOrCount, Positive, Weight, check_fields

FORMS = ("tokens", "relations")


@dataclass(frozen=True, kw_only=True)
class AlignmentConfig:
    """Tokens of a denoiser's `block` are drawn to the `layer` ("" for the last) of a frozen encoder `source`, with
    `weight` beside the denoising loss.

    form: "tokens": their projection is alike by cosine (Yu et al. 2025, REPA); "relations": cosines between tokens are
        alike, beyond `margin` (Zhang et al. 2025, VideoREPA), with no projection.
    """

    source: str = "default"
    layer: str = ""
    block: NoOrCount = 3
    weight: Positive = 0.5
    form: Annotated[str, Choice(FORMS)] = "tokens"
    margin: Weight = 0.1

    def __post_init__(self) -> None:
        check_fields(self)
