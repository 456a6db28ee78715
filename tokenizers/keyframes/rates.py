"""What key frames and motion cost, each by itself; see `vidgen.tokenizers.evaluation.rate_distortion` for the rates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.metrics.entropy_coding import RANGE_BITS, adaptive_bits, entropy
from vidgen.tokenizers.bottlenecks import Quantizer
from vidgen.tokenizers.evaluation.rate_distortion import OperatingPoint, code_tokens, round_latents
from vidgen.tokenizers.evaluation.token_usage import symbol_streams
from vidgen.tokenizers.keyframes.codes import KeyframeCodes
from vidgen.tokenizers.keyframes.model import KeyframeTokenizer

NUMBER_BITS = 16  # of a continuous latent that is stored as it is
QUARTER = 4  # vectors a pixel


def stored_bits(latents: Tensor, indices: Tensor | None, bottleneck: nn.Module) -> float:
    """Return the bits of one part as it is stored: ceil(log2 K) a token of K, or 16 a continuous latent."""
    if indices is None or not isinstance(bottleneck, Quantizer):
        return float(NUMBER_BITS * latents.numel())
    return float(indices.numel() * (bottleneck.codebook_size - 1).bit_length())


def stored_bpp(tokenizer: KeyframeTokenizer, codes: KeyframeCodes) -> dict[str, float]:
    """Return stored bits for each pixel of the clips, of their "key" frames and of their "motion"."""
    pixels = codes.key_latents.shape[0] * codes.num_frames * codes.height * codes.width
    key = stored_bits(codes.key_latents, codes.key_indices, tokenizer.key.bottleneck)
    motion = stored_bits(codes.motion_latents, codes.motion_indices, tokenizer.bottleneck)
    return {"key": key / pixels, "motion": motion / pixels}


def round_codes(codes: KeyframeCodes, step: float) -> KeyframeCodes:
    """Return continuous parts at multiples of `step` standard deviations, as they are when coded; tokens stay."""
    rounded = {}
    if codes.key_indices is None:
        rounded["key_latents"] = (codes.key_latents / step).round() * step
    if codes.motion_indices is None:
        rounded["motion_latents"] = (codes.motion_latents / step).round() * step
    return replace(codes, **rounded)


def code_part(
    latents: Float[Tensor, "1 c t h w"], indices: Tensor | None, bottleneck: nn.Module, step: float
) -> OperatingPoint:
    """Return one part of a clip with its raw, entropy-coded and adaptively coded bits."""
    if latents.numel() == 0:
        return OperatingPoint(name="none", latents=latents, raw_bits=0.0, entropy_bits=0.0, coded_bits=0.0)
    if indices is None:
        return round_latents(latents, step)
    books = symbol_streams([indices])
    size = bottleneck.codebook_size
    return OperatingPoint(
        name="tokens",
        latents=latents,
        raw_bits=stored_bits(latents, indices, bottleneck),
        entropy_bits=sum(len(book) * entropy(book) for book in books),
        coded_bits=sum(code_tokens(book, size, bottleneck.levels) for book in books),
    )


def code_parts(tokenizer: KeyframeTokenizer, codes: KeyframeCodes, step: float) -> dict[str, OperatingPoint]:
    """Return the parts of one clip, "key" and "motion"."""
    return {
        "key": code_part(codes.key_latents, codes.key_indices, tokenizer.key.bottleneck, step),
        "motion": code_part(codes.motion_latents, codes.motion_indices, tokenizer.bottleneck, step),
    }


def vector_bits(field: Float[Tensor, "1 2 m i j"]) -> float:
    """Return the bits of a field as it is, x and y apart, in quarters of a pixel.

    An adaptive order-0 coder codes them, ranges included.

    That is without prediction from neighbors, which a codec would have: an upper bound.
    """
    bits = 0.0
    for part in rearrange((QUARTER * field).round(), "1 d m i j -> d (m i j)").cpu().numpy().astype(np.int64):
        if part.size:
            bits += adaptive_bits(part, int(part.max() - part.min()) + 1) + RANGE_BITS
    return bits
