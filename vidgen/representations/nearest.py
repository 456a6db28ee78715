"""The nearest of many rows, exactly, in the memory of a few blocks of scores."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK = 2**16  # rows whose scores are held at a time


def nearest(
    queries: Float[np.ndarray, "q c"], gallery: Float[np.ndarray, "n c"], k: int, *, block: int = BLOCK
) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
    """The k largest inner products with rows of `gallery`, largest first, and the numbers of those rows: cosines for
    rows of unit length (see `unit`). Of equal scores any may be left out. `gallery` may be mapped from a file.

    ValueError for a k that the gallery does not have.
    """
    if not 1 <= k <= len(gallery):
        raise ValueError(f"{k} nearest of {len(gallery)} rows are not there")
    asked = to_tensor(queries)
    best = torch.empty(len(asked), 0)
    rows = torch.empty(len(asked), 0, dtype=torch.int64)
    for start in range(0, len(gallery), block):
        part = to_tensor(gallery[start : start + block])
        scores, places = (asked @ part.T).topk(min(k, len(part)), dim=1)
        both, numbers = torch.cat([best, scores], dim=1), torch.cat([rows, places + start], dim=1)
        best, order = both.topk(min(k, both.shape[1]), dim=1)
        rows = numbers.gather(1, order)
    return best.numpy(), rows.numpy()


def to_tensor(x: Float[np.ndarray, "n c"]) -> Float[Tensor, "n c"]:
    return torch.from_numpy(np.require(x, np.float32, ["C", "W"]))  # PyTorch warns of read-only memory
