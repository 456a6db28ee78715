"""Models that are made to be filled from a checkpoint: no time and no memory for weights that are replaced at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from vidgen.errors import VidgenError

# Bounds of what a config may ask for, far above any model that is read, and far below what a machine notices.
MOST_TENSORS = 2**13
LARGEST_TABLE = 2**27  # numbers
FACTORIES = (torch.arange, torch.full, torch.linspace, torch.ones, torch.rand, torch.randn, torch.zeros)


@contextmanager
def init_empty_weights(stored: int | None = None) -> Iterator[None]:
    """Make the weights of layers that are created within it take no memory, and leave out their initialization.

    Empty tensors (`torch.empty`) come out on the device `meta`; what is computed at once, such as tables of positions
    that no checkpoint holds, is there. Raises VidgenError for more of either than any model has,
    or than fit the number of `stored` tensors that are to fill it.
    """
    with _EmptyWeights(MOST_TENSORS if stored is None else min(MOST_TENSORS, 4 * stored + 256)):
        yield


class _EmptyWeights(TorchFunctionMode):
    # Not `torch.device("meta")`, on which tables would be lost, and on which arithmetic and random numbers import all
    # of torch's compiler: a second, and 140 MiB.
    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == torch.nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        if func is torch.empty:
            self.count += 1
            if self.count > self.most:
                raise VidgenError(f"it asks for more than {self.most} tensors, which its weights do not have")
            return func(*args, **{**kwargs, "device": "meta"})
        if func in FACTORIES:
            numbers = int | float if func is torch.arange else int
            check_table(
                math.prod(abs(size) for size in tree_leaves((args, kwargs)) if isinstance(size, numbers) and size)
            )
        out = func(*args, **kwargs)
        if isinstance(out, torch.Tensor) and not out.is_meta:
            check_table(out.numel())
        return out


def check_table(count: float) -> None:
    """Raise VidgenError for a table of more numbers than any model has."""
    if count > LARGEST_TABLE:
        raise VidgenError(f"it asks for a table of more than {LARGEST_TABLE} numbers, more than any model has")
