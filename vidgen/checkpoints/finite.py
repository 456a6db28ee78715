"""NaN and infinity in a network's output, named by the layer in which they first appear."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from vidgen.errors import VidgenError


class NotFinite(VidgenError):
    """A network's output is not finite; the line says in which layer that began."""


class LayerReached(Exception):
    """Thrown out of a network at the first layer whose output is not finite."""


def is_finite(x: Tensor) -> bool:
    """Return whether all numbers are finite; in one pass over them, without a tensor of their size."""
    if not x.is_floating_point() or x.is_meta or x.numel() == 0:
        return True
    low, high = torch.aminmax(x.detach())  # NaN where there is one
    return math.isfinite(low.item()) and math.isfinite(high.item())


def first_broken(network: nn.Module, run: Callable[[], Any]) -> tuple[str, nn.Module] | None:
    """Return the innermost layer of `network` whose output is the first that is not finite when `run` is done again,
    with its name; None where there is none."""
    broken: list[tuple[str, nn.Module]] = []

    def watch(name: str, layer: nn.Module) -> Callable[..., None]:
        def look(_: nn.Module, inputs: Any, out: Any) -> None:
            if not all(is_finite(value) for value in tree_leaves(out) if isinstance(value, Tensor)):
                broken.append((name, layer))
                raise LayerReached

        return look

    handles = [layer.register_forward_hook(watch(name, layer)) for name, layer in network.named_modules() if name]
    try:
        run()
    except LayerReached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return broken[0] if broken else None


def check_output(
    out: Tensor, network: nn.Module, run: Callable[[], Any], *, what: Callable[[], str], given: Tensor
) -> Tensor:
    """Return `out`, which `network` made of `given` in `run`. Raises NotFinite, with layer and precision, if it is not
    finite.

    Nothing is checked while a network is trained, for which there is `DivergenceMonitor`, nor where the check would
    make a GPU wait and nothing overflows: there in float16 alone.
    """
    waits = out.is_cuda and out.dtype is not torch.float16
    if network.training or waits or torch.compiler.is_compiling() or is_finite(out):
        return out
    precision = str(out.dtype).removeprefix("torch.")
    if not is_finite(given):
        raise NotFinite(f"{what()}: what it was given holds NaN or infinity; the fault is before it")
    broken = first_broken(network, run)
    where = "after its last layer" if broken is None else f"first in {broken[0]} ({type(broken[1]).__name__})"
    others = "float32" if out.dtype is torch.bfloat16 else "float32 or bfloat16"
    advice = "its weights are damaged" if precision in ("float32", "float64") else f"run it in {others}"
    raise NotFinite(f"{what()} gave NaN or infinity in {precision}, {where}; {advice}")
