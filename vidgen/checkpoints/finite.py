"""NaN and infinity in what a network gives, named by the layer in which they first came up."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from vidgen.errors import VidgenError


class NotFinite(VidgenError):
    """What a network gave is not finite; the line says where in it that began."""


class Stop(Exception):
    """Thrown out of a network at the first layer whose output is not finite."""


def is_finite(x: Tensor) -> bool:
    """Whether all numbers are; in one pass over them, which makes nothing."""
    if not x.is_floating_point() or x.is_meta or x.numel() == 0:
        return True
    low, high = torch.aminmax(x.detach())  # NaN where there is one
    return math.isfinite(low.item()) and math.isfinite(high.item())


def first_broken(network: nn.Module, run: Callable[[], Any]) -> tuple[str, nn.Module] | None:
    """The innermost layer of `network` that is the first to give something not finite when `run` is done again, with
    its name; None where none does."""
    found: list[tuple[str, nn.Module]] = []

    def watch(name: str, layer: nn.Module) -> Callable[..., None]:
        def look(_: nn.Module, given: Any, out: Any) -> None:
            if not all(is_finite(value) for value in tree_leaves(out) if isinstance(value, Tensor)):
                found.append((name, layer))
                raise Stop

        return look

    handles = [layer.register_forward_hook(watch(name, layer)) for name, layer in network.named_modules() if name]
    try:
        run()
    except Stop:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def check_output(out: Tensor, network: nn.Module, run: Callable[[], Any], *, what: str, given: Tensor) -> Tensor:
    """`out`, which `network` made of `given` in `run`. Raises NotFinite, with layer and precision, if it is not finite.

    Nothing is looked at while a network learns, which has guards of its own, nor where looking would make a GPU wait
    and nothing overflows: there in float16 alone.
    """
    waits = out.is_cuda and out.dtype is not torch.float16
    if network.training or waits or torch.compiler.is_compiling() or is_finite(out):
        return out
    precision = str(out.dtype).removeprefix("torch.")
    if not is_finite(given):
        raise NotFinite(f"{what}: what it was given holds NaN or infinity; the fault is before it")
    place = first_broken(network, run)
    where = "after its last layer" if place is None else f"first in {place[0]} ({type(place[1]).__name__})"
    others = "float32" if out.dtype is torch.bfloat16 else "float32 or bfloat16"
    advice = "its weights are damaged" if precision in ("float32", "float64") else f"run it in {others}"
    raise NotFinite(f"{what} gave NaN or infinity in {precision}, {where}; {advice}")
