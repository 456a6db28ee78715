"""MFU: the operations of a training step over what the machine could do in that time at the rate of matrix products."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from vidgen.profiling.roofline import matmul_rate

SLICES = 3  # the roof is the best of so many short measurements


def count_convolution(out: Tensor, x: Tensor, weight: Tensor, *_: Any, **__: Any) -> int:
    return 2 * out.numel() * weight[0].numel() * (1 + needing_gradients(x, weight))


def count_linear(out: Tensor, x: Tensor, weight: Tensor, *_: Any, **__: Any) -> int:
    return count_product(out, x, weight)


def count_product(out: Tensor, x: Tensor, y: Tensor, *_: Any, **__: Any) -> int:
    return 2 * out.numel() * x.shape[-1] * (1 + needing_gradients(x, y))


def count_attention(out: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> int:
    products = 2 * prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1])
    return products * (3 if needing_gradients(q, k, v) else 1)


def needing_gradients(*inputs: Tensor) -> int:
    """For how many of them the backward pass makes a gradient: each costs as much as the product itself."""
    return sum(x.requires_grad for x in inputs) if torch.is_grad_enabled() else 0


COUNTS: dict[Callable, Callable[..., int]] = {
    F.conv1d: count_convolution,
    F.conv2d: count_convolution,
    F.conv3d: count_convolution,
    F.linear: count_linear,
    torch.matmul: count_product,
    Tensor.matmul: count_product,
    Tensor.__matmul__: count_product,
    F.scaled_dot_product_attention: count_attention,
}


class Operations(TorchFunctionMode):
    """Counts convolutions, matrix products and attention of what is called inside, a multiply-add as two, with the
    backward passes that they are going to have; what is computed a second time does not count.

    Calls are seen from above, before they are torn into kernels. (`FlopCounterMode` sees those, and its presence makes
    torch choose others: a step that is counted would differ in its last bits from one that is not.)
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in COUNTS:
            self.total += COUNTS[func](out, *args, **(kwargs or {}))
        return out


class Utilisation:
    """Counts the operations of a step the first time that a batch of its shapes comes."""

    def __init__(self, device: str, precision: str) -> None:
        self.device, self.precision = device, precision
        self._operations: dict[tuple, int] = {}

    def forget(self) -> None:
        """Counts anew from here on: a game that has begun since, say, is part of a step."""
        self._operations.clear()

    @contextmanager
    def counted(self, batch: Any) -> Iterator[None]:
        """The forward pass of `batch`, counted if it is new."""
        key = shapes_of(batch)
        if key in self._operations:
            yield
            return
        with Operations() as counter:
            yield
        self._operations[key] = counter.total

    def of(self, batch: Any, seconds: float) -> float:
        """The share of the roof that the step of `batch` reached in `seconds`."""
        return self._operations[shapes_of(batch)] / 1e9 / seconds / roof(self.device, self.precision)


def shapes_of(batch: Any) -> tuple[tuple[int, ...], ...]:
    """The shapes of all tensors in a batch."""
    return tuple(tuple(value.shape) for value in tree_leaves(batch) if isinstance(value, Tensor))


@cache
def roof(device: str, precision: str) -> float:
    """GFLOP/s of large matrix products here, measured once for a process, in a moment."""
    side = 4096 if device.startswith("cuda") else 1024
    return max(matmul_rate(precision, device=device, side=side, seconds=0.05) for _ in range(SLICES))
