"""One vector of the tokens of a text: which layers, and how their tokens are pooled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from einops import reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.models.text.encoders import TextEncoding

Tokens = Float[Tensor, "b l d"]
Mask = Bool[Tensor, "b l"]
Vectors = Float[Tensor, "b d"]


def weighted_mean(tokens: Tokens, weights: Float[Tensor, "b l"], power: float = 1.0) -> Vectors:
    """Return the sum of tokens by their weights over the total weight to a power; zeros where all weights are 0."""
    weights = weights.to(tokens.dtype)
    total = weights.sum(1, keepdim=True).pow(power)
    return reduce(tokens * weights[..., None], "b l d -> b d", "sum") / total.clamp(min=1e-9)


def mean(tokens: Tokens, mask: Mask, power: float = 1.0) -> Vectors:
    """Return the mean over the tokens that are not padding."""
    return weighted_mean(tokens, mask, power)


def position_weighted(tokens: Tokens, mask: Mask) -> Vectors:
    """Return the mean in which the i-th token counts i times: late tokens of a causal model have seen more of the text
    (Muennighoff 2022, SGPT, eq. 2)."""
    places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return weighted_mean(tokens, mask * places)


def maximum(tokens: Tokens, mask: Mask) -> Vectors:
    """Return the largest value of each channel over the tokens that are not padding."""
    lowest = torch.finfo(tokens.dtype).min
    return reduce(tokens.masked_fill(~mask[..., None], lowest), "b l d -> b d", "max")


def token_at(tokens: Tokens, places: Int[Tensor, " b"]) -> Vectors:
    """Return one token of each text."""
    return tokens[torch.arange(len(tokens), device=tokens.device), places]


def first(tokens: Tokens, mask: Mask) -> Vectors:
    """Return the first token that is not padding, such as BERT's [CLS]."""
    return token_at(tokens, mask.int().argmax(1))


def last(tokens: Tokens, mask: Mask) -> Vectors:
    """Return the last token that is not padding, the only one of a causal model that has seen the whole text."""
    places = torch.arange(mask.shape[1], device=mask.device)
    return token_at(tokens, (mask * places).argmax(1))


# `mean_sqrt` divides by the root of the number of tokens; the names of sentence-transformers are in its reader.
POOLINGS: dict[str, Callable[[Tokens, Mask], Vectors]] = {
    "cls": first,
    "max": maximum,
    "mean": mean,
    "mean_sqrt": partial(mean, power=0.5),
    "weighted": position_weighted,
    "last": last,
}


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """The mean of some layers' tokens, pooled in one or several ways, whose vectors are put end to end.

    `layers` count from 0, the embeddings, or from the end: (-1,) is what the encoder gives, (1, -1) the mean of first
    and last block (Huang et al. 2021, WhiteningBERT, section 2.2), (0, -1) that of embeddings and last. Raises
    VidgenError for a pooling that is not in POOLINGS, and for no layer.
    """

    modes: tuple[str, ...] = ("mean",)
    layers: tuple[int, ...] = (-1,)

    def __post_init__(self) -> None:
        unknown = [mode for mode in self.modes if mode not in POOLINGS]
        if unknown or not self.modes:
            name = str(unknown[0])[:60] if unknown else ""
            raise VidgenError(f"pooling {name!r} is none; choose of {', '.join(POOLINGS)}")
        if not self.layers:
            raise VidgenError("layers () are none; name those to pool, such as (-1,), the last")

    @property
    def takes_last_alone(self) -> bool:
        """Whether nothing but the encoder's output is pooled."""
        return self.layers == (-1,)

    def choose(self, layers: Sequence[TextEncoding]) -> TextEncoding:
        """Return the mean of the layers of a text. Raises VidgenError for one that it does not have."""
        absent = [number for number in self.layers if not -len(layers) <= number < len(layers)]
        if absent:
            highest = len(layers) - 1
            raise VidgenError(f"layer {absent[0]} of a text encoder of layers 0 to {highest}; name one of these")
        tokens = torch.stack([layers[number].tokens for number in self.layers]).mean(0)
        return TextEncoding(tokens=tokens, mask=layers[-1].mask)

    def pool(self, text: TextEncoding) -> Float[Tensor, "b k"]:
        """Return the vectors of text tokens, by one way of pooling after the other."""
        return torch.cat([POOLINGS[mode](text.tokens, text.mask) for mode in self.modes], dim=1)


def cut_dimensions(x: Float[Tensor, "*b d"], dim: int | None, *, normalize: bool = False) -> Float[Tensor, "*b k"]:
    """Return the first `dim` channels of vectors, of unit length if `normalize` (Kusupati et al. 2022, Matryoshka
    Representation Learning, section 3). Raises VidgenError for more channels than there are."""
    if dim is not None:
        if not 1 <= dim <= x.shape[-1]:
            raise VidgenError(f"dimension {dim} of vectors of {x.shape[-1]}; give one from 1 to {x.shape[-1]}")
        x = x[..., :dim]
    return torch.nn.functional.normalize(x, dim=-1) if normalize else x
