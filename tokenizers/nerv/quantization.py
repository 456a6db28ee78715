"""Tensors as integers of a few bits, and integers as bytes: what a fitted clip is stored as."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vidgen.errors import VidgenError

FEWEST_BITS, MOST_BITS = 2, 8
RANGE_BITS = 64  # two float32: the least value and the step of a tensor
BLOCK = 16_000  # symbols of a block of zlib's, at the least, with a Huffman table of its own


@dataclass(frozen=True, kw_only=True)
class QuantizedTensor:
    """The values `low + step * codes`; `low` and `step` are float32 numbers."""

    codes: UInt8[Tensor, ...]
    low: float
    step: float

    def values(self) -> Float[Tensor, ...]:
        """Return the values in float32."""
        return self.low + self.step * self.codes.float()


def check_bits(bits: int) -> int:
    """Return `bits`. Raises VidgenError for a number of bits that codes cannot have."""
    if not FEWEST_BITS <= bits <= MOST_BITS:
        raise VidgenError(f"{bits} bits a value cannot be stored; choose {FEWEST_BITS} to {MOST_BITS}")
    return bits


def quantize(x: Float[Tensor, ...], bits: int) -> QuantizedTensor:
    """Quantize to 2^bits levels from the least value to the largest: off by half a step at most.

    One range for a tensor (Chen et al. 2023).

    Raises ValueError for no values, and for some that are not finite.
    """
    if x.numel() == 0 or not torch.isfinite(x).all():
        raise ValueError(f"{x.numel()} values of shape {tuple(x.shape)} must be finite, and one or more")
    low, high = (float(v) for v in torch.aminmax(x.detach().float()))
    # Rounded to float32 before it is used, since that is what the file holds.
    step = float(np.float32((high - low) / (2**bits - 1)))
    if step == 0.0:
        return QuantizedTensor(codes=torch.zeros(x.shape, dtype=torch.uint8), low=low, step=0.0)
    codes = ((x.detach().double().cpu() - low) / step).round().clamp(0, 2**bits - 1)
    return QuantizedTensor(codes=codes.to(torch.uint8), low=low, step=step)


def code_symbols(symbols: UInt8[np.ndarray, " n"]) -> bytes:
    """Return symbols by Huffman codes of their own frequencies (order 0), block by block, with a checksum: zlib's
    format.
    """
    coder = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_HUFFMAN_ONLY)
    return coder.compress(symbols.tobytes()) + coder.flush()


def decode_symbols(data: bytes, count: int) -> UInt8[np.ndarray, " n"]:
    """Return the symbols of `code_symbols`. Raises ValueError for data of another count, cut short or damaged."""
    coder = zlib.decompressobj()
    try:
        symbols = coder.decompress(data, count + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(symbols) != count or not coder.eof or coder.unused_data:
        raise ValueError(f"{len(symbols)} symbols decoded, {count} expected")
    return np.frombuffer(symbols, np.uint8)


def largest_coded_bits(count: int) -> int:
    """Return what `code_symbols` takes at most for `count` symbols of 8 bits: as they are, and headers."""
    return 8 * (count + 16 + 5 * (1 + count // BLOCK))
