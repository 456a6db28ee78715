"""What the task on priors over token grids is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Annotated, Any

from vidgen.bounds import Choice, Count, Length, NoOrCount, Share
from vidgen.errors import VidgenError
from vidgen.models.priors.config import CodebookSize
from vidgen.train.config.run import LoopConfig


@dataclass
class PriorRecipe(LoopConfig):
    """Task `prior`: a `TokenPrior` over the indices of a discrete `tokenizer`, and a text encoder trained with it.

    `tokens` "latents" are latents of any tokenizer, a vector a cell, whose law a diffusion head (`model.head_width`,
    `model.head_depth`) learns by flow matching: `head_draws` noise levels a token, of the TimeDistribution `time`.

    `model` overrides fields of `TokenPriorConfig`; its `order` says what is learned: the next token ("causal"), the
    next one in any order ("random"), masked ones of a clip ("masked") or of a frame after the frames before ("frames").
    Codebooks are the tokenizer's; `digits` cut the indices of a large one into several of these sizes, whose product it
    is. Indices of `cached_clips` clips (0: 16 crops of each file) are made once and kept in `cache`.

    `text_model` is the shape of a byte-level text encoder; where it is empty there is no text, or, with `model.words`
    places, captions (cut where they are longer) are tokens before those of the clip, and are learned as these are
    (VideoBERT, VIOLET). `drop_text` of the clips have no caption, for guidance. With `actions` those of sources of kind
    walks condition the prior, frame by frame: a world model. Validation is by `validation_draws` draws of masks or
    orders, where there are any. `gradient_checkpointing` computes each block again in the backward pass (Child et al.
    2019, section 5.4).
    """

    tokenizer: str = "default"
    tokens: Annotated[str, Choice(("indices", "latents"))] = "indices"
    time: dict[str, Any] = field(default_factory=dict)
    head_draws: Count = 4
    cache: str = ""
    cached_clips: NoOrCount = 20000
    model: dict[str, Any] = field(default_factory=dict)
    digits: Annotated[list[CodebookSize], Length(0, 64)] = field(default_factory=list)
    text_model: dict[str, Any] = field(default_factory=dict)
    drop_text: Share = 0.1
    actions: bool = False
    gradient_checkpointing: bool = False
    validation_draws: Count = 4

    def check(self, path: Path) -> None:
        """Raise VidgenError for shapes that are not the recipe's to say."""
        super().check(path)
        own = {"codebook_sizes", "channels", "text_width", "classes", "actions", "tokenizer_hash"} & self.model.keys()
        if own:
            raise VidgenError(
                f"{path}: model.{min(own)} is not for recipes: codebooks and channels are the tokenizer's, and clips "
                "have captions"
            )
        if self.model.get("words"):
            if self.text_model:
                raise VidgenError(f"{path}: with model.words captions are tokens, and no text_model reads them")
            if self.drop_text:
                raise VidgenError(
                    f"{path}: drop_text={self.drop_text:g} with model.words: captions are tokens, and no caption would "
                    "be learned as one; give 0"
                )
        if self.actions and not self.data.is_only("walks"):
            raise VidgenError(f"{path}: actions are those of walks: give sources of kind=walks alone, or actions=false")
        if self.tokens == "latents" and self.digits:
            raise VidgenError(f"{path}: digits={self.digits} are of indices; leave them out where tokens=latents")

    def codebook_sizes(self, size: int, quantizers: int | None) -> tuple[int, ...]:
        """Return the sizes of a cell's codes, of a tokenizer with so many quantizers of `size` codes.

        Raises VidgenError for digits that are not of that size.
        """
        if not self.digits:
            return (size,) * (quantizers or 1)
        if quantizers or prod(self.digits) != size:
            raise VidgenError(
                f"digits {self.digits} are {prod(self.digits)} codes; the tokenizer {self.tokenizer} has {size}"
                f"{f' in each of {quantizers} codebooks: leave digits out' if quantizers else ''}"
            )
        return tuple(self.digits)
