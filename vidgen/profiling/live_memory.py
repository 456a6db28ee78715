"""The live memory of tensors: its peak over a stretch of code, of real tensors or of shapes alone on `meta`."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """A context that counts the bytes of tensors that operations inside it make, from then until they are freed.

    `live` is what is held now, `peak` the most so far; tensors that were there before do not count. With `scratch`,
    the peak also holds what a convolution's kernel may need for itself, see `scratch_bytes`. On `meta` tensors
    nothing is computed and the count is the same.
    """

    def __init__(self, *, scratch: bool = False) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.scratch = scratch
        self._storages: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled():
            # Composite operations arrive whole in this mode; what they make inside counts too.
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        inputs = {_storage_id(v) for v in tree_leaves((args, kwargs)) if isinstance(v, Tensor)}
        for value in tree_leaves(out):
            if isinstance(value, Tensor) and _storage_id(value) not in inputs:
                self._track(value)
        if self.scratch and func is torch.ops.aten.convolution.default:
            self.peak = max(self.peak, self.live + scratch_bytes(args[0], args[1], out))
        return out

    def _track(self, value: Tensor) -> None:
        storage = value.untyped_storage()
        key = storage._cdata
        if key in self._storages:
            return
        self._storages.add(key)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._storages.discard(key)
        self.live -= size


def _storage_id(value: Tensor) -> int:
    return value.untyped_storage()._cdata


def scratch_bytes(x: Tensor, weight: Tensor, out: Tensor) -> int:
    """Return the bytes that a convolution takes beside its tensors: its input and output once more in the kernel's own
    layout, or, in float64, which has no such kernel, every patch of the input as a column."""
    if x.dtype == torch.float64:
        return out.numel() // max(1, out.shape[1]) * weight[0].numel() * x.element_size()
    return tensor_bytes(x) + tensor_bytes(out)


def tensor_bytes(*tensors: Tensor) -> int:
    """Return the bytes of the elements of tensors."""
    return sum(t.numel() * t.element_size() for t in tensors)


class FusedAttention(TorchFunctionMode):
    """Attention on `meta` as fused kernels have it, without the matrix of scores that it is worked out with there."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is F.scaled_dot_product_attention and args and args[0].is_meta:
            return torch.empty_like(args[0])
        return func(*args, **(kwargs or {}))


class _Call(nn.Module):
    def __init__(self, module: nn.Module, call: Callable[..., object]) -> None:
        super().__init__()
        self.module = module
        self.call = call

    def forward(self, *inputs: Any) -> object:
        return self.call(self.module, *inputs)


def meta_peak(module: nn.Module, call: Callable[..., object], *inputs: Any, partial: bool = False) -> int:
    """Return the most bytes of tensors that `call(module, *inputs)` makes and holds at one time.

    Counted as `MemoryModel` does, on tensors that have shapes and no data; with gradients on, what they need counts.
    Raises NotImplementedError or RuntimeError where the network branches on numbers, of which there are none; with
    `partial` what was counted until then is returned: it takes no less.
    """
    named = chain(module.named_parameters(), module.named_buffers())
    shadow = {f"module.{name}": value.to("meta") for name, value in named}
    with FusedAttention(), LiveBytes() as live:
        try:
            functional_call(_Call(module, call), shadow, inputs)
        except (NotImplementedError, RuntimeError):
            if not partial:
                raise
    return live.peak
