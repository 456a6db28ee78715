"""Settings of each kind of adaptation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from vidgen.bounds import Length, Range, Weight, Width, check_fields
from vidgen.errors import VidgenError
from vidgen.models.dit.config import check_heads

Tokens = Annotated[int, Range(1, 4096)]
Kernel = Annotated[int, Range(1, 31)]


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Factors of `rank` on every linear layer of the blocks; `alpha` 0 is the rank."""

    rank: Width = 8
    alpha: Weight = 0.0

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Bottlenecks of `hidden` channels after attention and after the feed-forward of every block.

    `kernel` (frames, rows and columns of tokens, all odd) puts a depthwise convolution between down and up; () is none.
    """

    hidden: Width = 48
    kernel: Annotated[tuple[Kernel, ...], Length(0, 3)] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if len(self.kernel) not in (0, 3) or any(size % 2 == 0 for size in self.kernel):
            raise VidgenError(f"kernel {self.kernel} is no three odd numbers; give one such as [3, 1, 1], or none")


@dataclass(frozen=True, kw_only=True)
class PromptConfig:
    """`tokens` learned ones before those of the clip; `deep`: new ones at every block in place of the former."""

    tokens: Tokens = 8
    deep: bool = True

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """`tokens` learned ones a block that are read and do not read.

    `masked`: the clip's tokens do not see them, and stay as they were; a class token does, which reads both.
    """

    tokens: Tokens = 8
    masked: bool = False

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class TemporalConfig:
    """Attention over time of `width` channels after the `layers` of an image tower that are named, or after every one.

    `inflate`: frames of a tubelet that a `VideoViT` of single frames reads as one; its patches are then trained.
    """

    width: Width = 64
    head_dim: Width = 32
    layers: tuple[str, ...] = ()
    inflate: Annotated[int, Range(1, 64)] = 1

    def __post_init__(self) -> None:
        check_fields(self)
        check_heads(self.width, self.head_dim)
