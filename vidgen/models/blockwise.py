"""Norms, modulations and gates in half precision on a CPU, a block of rows at a time in float32.

A large tensor goes through memory once for each operation, and is rounded each time. Here a block stays in a core's
cache from its first operation to its last, and is rounded once.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vidgen.models.rope import Rotary

# Numbers in a block: with what is made of them they stay in a core's cache. A guess, not measured.
BLOCK = 2**17


def worth_blocks(x: Tensor) -> bool:
    """Return whether `x` is more than a cache holds, in half precision, on a CPU, and needs no gradients."""
    half = x.dtype in (torch.bfloat16, torch.float16) and x.device.type == "cpu" and x.numel() > BLOCK
    return half and not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling())


def split_rows(length: int, width: int) -> Iterator[slice]:
    """Return slices of `length` rows of `width` numbers, a block each."""
    step = max(1, BLOCK // width)
    return (slice(start, min(start + step, length)) for start in range(0, length, step))


def groups(x: Float[Tensor, "b t s d"], frames: int) -> Float[Tensor, "g r d"]:
    """Return the rows of every clip (`frames` 1) or of every frame: those that share a modulation."""
    return rearrange(x, "b (f r) s d -> (b f) (r s) d", f=frames)


def scale_and_shift(
    x: Float[Tensor, "b t s d"], shift: Float[Tensor, "b f one d"], scale: Float[Tensor, "b f one d"], eps: float
) -> Float[Tensor, "b t s d"]:
    """Return the layer norm of x without weights, times 1 + scale, plus shift; f is 1 or t."""
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    rows, filled = groups(x, shift.shape[1]), groups(out, shift.shape[1])
    weights, biases = (1.0 + scale.float()).flatten(0, 2), shift.float().flatten(0, 2)
    for source, target, weight, bias in zip(rows, filled, weights, biases, strict=True):
        for part in split_rows(*source.shape):
            target[part] = F.layer_norm(source[part].float(), weight.shape, weight, bias, eps)
    return out


def add_gated(
    x: Float[Tensor, "b t s d"], y: Float[Tensor, "b t s d"], gate: Float[Tensor, "b f one d"]
) -> Float[Tensor, "b t s d"]:
    """Return x + gate y; f is 1 or t."""
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    rows = (groups(z, gate.shape[1]) for z in (x, y, out))
    for base, change, target, weight in zip(*rows, gate.float().flatten(0, 2), strict=True):
        for part in split_rows(*base.shape):
            target[part] = change[part].float().mul_(weight).add_(base[part])
    return out


def normed_heads(
    y: Float[Tensor, "b n w"], weight: Float[Tensor, " w"], eps: float, head_dim: int, rotary: Rotary | None
) -> Float[Tensor, "b heads n d"]:
    """Return the RMS norm over all heads together, split into heads, and rotated by `rotary` where there is one."""
    b, n, width = y.shape
    out = torch.empty(b, width // head_dim, n, head_dim, dtype=y.dtype, device=y.device)
    weight = weight.float()
    for source, target in zip(y, out, strict=True):
        for part in split_rows(n, width):
            z = source[part].float()
            z.mul_(torch.rsqrt(z.square().mean(dim=-1, keepdim=True).add_(eps))).mul_(weight)
            z = rearrange(z, "m (k d) -> k m d", d=head_dim)
            if rotary is None:
                target[:, part] = z
                continue
            cos, sin = (table[part].float() for table in rotary)
            (a, b), (first, second) = z.chunk(2, dim=-1), target[:, part].chunk(2, dim=-1)
            first.copy_((a * cos).sub_(b * sin))
            second.copy_((a * sin).add_(b * cos))
    return out
