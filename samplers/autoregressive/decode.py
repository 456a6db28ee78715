"""Causal decoding: one token after the other, each from the model's law given all before it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.noise import Generators
from vidgen.errors import VidgenError
from vidgen.interfaces import SequenceModel, TokenDraws
from vidgen.models.priors.token_values import Tokens, is_unknown

TokensCallback = Callable[[int, Tensor], None]  # (how many tokens or steps are done, tokens)


@torch.no_grad()
def sample_autoregressive(
    model: SequenceModel,
    num_tokens: int,
    sampling: TokenDraws,
    generators: Generators,
    *,
    prefix: Tokens | None = None,
    callback: TokensCallback | None = None,
) -> Tokens:
    """Draw sequences of `num_tokens` tokens, those of `prefix` included, which come first as they are.

    The model has read nothing yet, or the first tokens of `prefix`, whose cache is then used again. Afterwards it has
    read all tokens but the last. Each draw takes one number of a sample's generator. Raises VidgenError for a length
    that cannot be, a prefix that is too long or has MASK in it, and logits of NaN.

    Args:
        model: The causal model.
        num_tokens: The length of the sequences that come out.
        sampling: Temperature and filters, or the head of continuous tokens.
        generators: One a sample (on the CPU), so that no sample depends on its batch, or one for all.
        prefix: Tokens that are given; of continuous ones it is there though it is empty, and says their channels.
        callback: Called as (number of tokens done, tokens so far (b, i)) after each token that is drawn.
    """
    logits, tokens = read_prefix(model, prefix, num_tokens)
    sequences = tokens.new_zeros(len(tokens), num_tokens, *tokens.shape[2:])
    rows = torch.arange(len(tokens), device=tokens.device)
    first = tokens.shape[1]
    sequences[:, :first] = tokens
    for i in range(first, num_tokens):
        if i > first:
            logits = model.extend(sequences[:, i - 1 : i])[:, -1]
        noise = sampling.draw_noise(len(logits), 1, generators)[:, 0]
        sequences[:, i], _ = sampling.draw(logits, noise, sequences[:, :i], rows)
        if callback is not None:
            callback(i + 1, sequences[:, : i + 1])
    return sequences


def read_prefix(model: SequenceModel, prefix: Tokens | None, num_tokens: int) -> tuple[Float[Tensor, "b v"], Tokens]:
    """Return the logits of the first token after the prefix, which the model then has read, and the prefix.

    Raises VidgenError for lengths that do not fit.
    """
    given = 0 if prefix is None else prefix.shape[1]
    if num_tokens < 1 or given > num_tokens:
        raise VidgenError(f"num_tokens is {num_tokens}; it must be 1 or more, the {given} of the prefix included")
    if model.length > given:
        raise VidgenError(
            f"the model has read {model.length} tokens, the prefix has {given}; rewind it, or give all it has read"
        )
    if given == 0:
        logits = model.start()
        none = torch.zeros(len(logits), 0, dtype=torch.int64, device=logits.device)
        return logits, none if prefix is None else prefix
    unknown = is_unknown(prefix) if prefix.is_floating_point() else prefix < 0
    if bool(unknown.any()):
        raise VidgenError("the prefix has tokens below 0, or NaN; a causal model reads tokens that are known")
    if model.length == given:  # its logits after the last token are gone: that one is read again
        model.rewind(given - 1)
    return model.extend(prefix[:, model.length :])[:, -1], prefix
