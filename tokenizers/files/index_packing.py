"""Indices in the fewest whole bits that hold them: little-endian, one row of bytes a latent frame.

Rows are padded to whole bytes, so that any range of frames is a range of rows; 8 and 16 bits are plain uint8 and
uint16. Fractions of a bit (a codebook of 1,000 takes 10 bits, not 9.97) are an entropy coder's, and are left.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor


def bits_for(codebook_size: int) -> int:
    """Return the whole bits of an index below `codebook_size`; 1 at least."""
    if codebook_size < 1:
        raise ValueError(f"a codebook holds at least one code, not {codebook_size}")
    return max(1, (codebook_size - 1).bit_length())


def pack_indices(indices: Int[Tensor, "t n"], bits: int) -> UInt8[Tensor, "t bytes"]:
    """Return each row of n indices as ceil(n * bits / 8) bytes. Raises ValueError for an index that needs more bits."""
    values = indices.detach().cpu().to(torch.int64).numpy()
    if values.size and not 0 <= values.min() <= values.max() < 1 << bits:
        raise ValueError(f"indices span [{values.min()}, {values.max()}], which {bits} bits do not hold")
    planes = (values[:, :, None] >> np.arange(bits)) & 1  # t n bits
    flat = planes.astype(np.uint8).reshape(len(values), -1)
    return torch.from_numpy(np.packbits(flat, axis=1, bitorder="little"))


def unpack_indices(packed: UInt8[Tensor, "t bytes"], bits: int, count: int) -> Int[Tensor, "t n"]:
    """Return the `count` indices of each row, int64. Raises ValueError for rows of another length."""
    if packed.shape[1] != -(-count * bits // 8):
        raise ValueError(f"{count} indices of {bits} bits take {-(-count * bits // 8)} bytes, not {packed.shape[1]}")
    flat = np.unpackbits(packed.cpu().numpy(), axis=1, bitorder="little", count=count * bits)
    planes = flat.reshape(len(flat), count, bits).astype(np.int64)
    return torch.from_numpy((planes << np.arange(bits)).sum(axis=2))
