"""MFU, model FLOP/s utilization: a training step's FLOP/s over the machine's peak FLOP/s of matrix products."""

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

from vidgen.models.placement import has_fast_bfloat16
from vidgen.profiling.roofline import convolution_rate, matmul_rate

SLICES = 3  # the peak is the best of so many short measurements


def convolution_flops(out: Tensor, x: Tensor, weight: Tensor, *_: Any, **__: Any) -> int:
    """Return the FLOPs of a convolution, forward and backward."""
    return 2 * out.numel() * weight[0].numel() * (1 + count_gradients(x, weight))


def matmul_flops(out: Tensor, x: Tensor, y: Tensor, *_: Any, **__: Any) -> int:
    """Return the FLOPs of a matrix product or linear layer, forward and backward."""
    return 2 * out.numel() * x.shape[-1] * (1 + count_gradients(x, y))


def attention_flops(out: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> int:
    """Return the FLOPs of attention, forward and backward."""
    products = 2 * prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1])
    return products * (3 if count_gradients(q, k, v) else 1)


def count_gradients(*inputs: Tensor) -> int:
    """Return for how many inputs the backward pass makes a gradient: each costs as much as the product itself."""
    return sum(x.requires_grad for x in inputs) if torch.is_grad_enabled() else 0


COUNTS: dict[Callable, Callable[..., int]] = {
    F.conv1d: convolution_flops,
    F.conv2d: convolution_flops,
    F.conv3d: convolution_flops,
    F.linear: matmul_flops,
    torch.matmul: matmul_flops,
    Tensor.matmul: matmul_flops,
    Tensor.__matmul__: matmul_flops,
    F.scaled_dot_product_attention: attention_flops,
}


class FlopCounter(TorchFunctionMode):
    """Counts the FLOPs of convolutions, matrix products and attention that are called inside, a multiply-add as two.

    Backward passes count at the call that will need them; what is computed a second time does not count. Calls are seen
    before they are split into kernels. (`FlopCounterMode` sees kernels, and its presence makes torch choose others: a
    step that is counted would differ in its last bits from one that is not.)
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in COUNTS:
            self.total += COUNTS[func](out, *args, **(kwargs or {}))
        return out


class Utilization:
    """Counts the FLOPs of a step the first time that a batch of its shapes comes."""

    def __init__(self, device: str, precision: str) -> None:
        self.device = device
        self.precision = precision
        self._flops: dict[tuple, dict[str, int]] = {}

    def forget(self) -> None:
        """Count anew from here on: an adversarial loss that has begun since, say, is part of a step."""
        self._flops.clear()

    @contextmanager
    def counted(self, batch: Any, part: str = "") -> Iterator[None]:
        """Within the block is a forward pass of `batch`, counted if it is new; a step may have several parts."""
        parts = self._flops.setdefault(shapes_of(batch), {})
        if part in parts:
            yield
            return
        with FlopCounter() as counter:
            yield
        parts[part] = counter.total

    def of(self, batch: Any, seconds: float) -> float | None:
        """Return the share of peak FLOP/s that the step of `batch`, in all its parts, reached in `seconds`.

        None for more than 1: the peak was then measured while the machine was busy, and says nothing.
        """
        flops = sum(self._flops.get(shapes_of(batch), {}).values())
        share = flops / 1e9 / seconds / peak_gflops(self.device, self.precision)
        return share if share <= 1.0 else None


def shapes_of(batch: Any) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of all tensors in a batch."""
    return tuple(tuple(value.shape) for value in tree_leaves(batch) if isinstance(value, Tensor))


@cache
def peak_gflops(device: str, precision: str) -> float:
    """Return the peak GFLOP/s of large matrix products and convolutions here, measured once for a process.

    Where `precision` is only emulated, kernels may compute in float32, whose peak counts then: emulated products of
    this size would take minutes on some processors.
    """
    side = 4096 if device.startswith("cuda") else 1024
    emulated = precision == "bfloat16" and not has_fast_bfloat16(device)
    name = "float32" if emulated else precision
    rates = [matmul_rate(name, device=device, side=side, seconds=0.05) for _ in range(SLICES)]
    return max(*rates, convolution_rate(name, device=device, seconds=0.05))
