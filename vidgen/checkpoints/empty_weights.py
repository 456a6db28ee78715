"""Models that are made to be filled from a checkpoint: no time and no memory for weights that are replaced at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


@contextmanager
def init_empty_weights() -> Iterator[None]:
    """Make the weights of layers that are created within it take no memory, and leave out their initialization.

    Empty tensors (`torch.empty`) come out on the device `meta`; what is computed at once, such as tables of positions
    that no checkpoint holds, is there.
    """
    with _EmptyWeights():
        yield


class _EmptyWeights(TorchFunctionMode):
    # Not `torch.device("meta")`, on which tables would be lost, and on which arithmetic and random numbers import all
    # of torch's compiler: a second, and 140 MiB.
    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == torch.nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        device = {"device": "meta"} if func is torch.empty else {}
        return func(*args, **{**kwargs, **device})
