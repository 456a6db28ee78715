"""Decoders of token priors by name. A new one is a function, and a line in TOKEN_DECODERS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Int
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.samplers.autoregressive.decode import sample_autoregressive
from vidgen.samplers.autoregressive.groups import sample_groups
from vidgen.samplers.autoregressive.speculative_jacobi import sample_speculative_jacobi
from vidgen.samplers.masked.any_order import sample_any_order
from vidgen.samplers.masked.first_hitting import sample_first_hitting
from vidgen.samplers.masked.maskgit import sample_maskgit


@dataclass(frozen=True, kw_only=True)
class TokenDecoder:
    """A decoder of a token prior, and what is claimed of it.

    `kind` is that of the model: "causal" ones are called as (SequenceModel, num_tokens, sampling, generators, *,
    prefix, callback, ...), "masked" ones as (MaskedLogits, tokens, sampling, generators, *, callback, ...). `exact`: of
    a consistent model the law of what comes out is the model's.
    """

    name: str
    function: Callable[..., Any]
    kind: str
    exact: bool

    def __call__(self, *arguments: Any, **settings: Any) -> Int[Tensor, "b n"]:
        """Return the tokens that the function draws, without what some say beside them."""
        drawn = self.function(*arguments, **settings)
        return drawn if isinstance(drawn, Tensor) else drawn.tokens


TOKEN_DECODERS: dict[str, TokenDecoder] = {
    decoder.name: decoder
    for decoder in (
        TokenDecoder(name="autoregressive", function=sample_autoregressive, kind="causal", exact=True),
        TokenDecoder(name="speculative_jacobi", function=sample_speculative_jacobi, kind="causal", exact=True),
        TokenDecoder(name="any_order", function=sample_any_order, kind="masked", exact=True),
        TokenDecoder(name="first_hitting", function=sample_first_hitting, kind="masked", exact=True),
        TokenDecoder(name="groups", function=sample_groups, kind="masked", exact=False),
        TokenDecoder(name="maskgit", function=sample_maskgit, kind="masked", exact=False),
    )
}


def find_token_decoder(name: str) -> TokenDecoder:
    """Return the decoder of that name. Raises VidgenError for a name that is unknown."""
    if name not in TOKEN_DECODERS:
        raise VidgenError(f"token decoder {name!r} is unknown; choose one of {', '.join(TOKEN_DECODERS)}")
    return TOKEN_DECODERS[name]
