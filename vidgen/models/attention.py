"""Attention by name: the plain formula, PyTorch's fused kernels, flex attention, or xformers; equal within rounding."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from vidgen.errors import VidgenError

# On a CPU the fused kernel's backward costs ten times its forward; up to this many keys the plain formula is faster
# to train through, and its matrix of scores is small.
PLAIN_KEYS = 1024

Heads = Float[Tensor, "b heads n d"]
# Which keys are visible, to all queries or to each; or a bias of their scores, for all queries. b may be 1.
Mask = Bool[Tensor, "b m"] | Bool[Tensor, "b n m"] | Float[Tensor, "b m"]


def over_heads(mask: Mask | None) -> Tensor | None:
    """Return the mask with an axis for heads, (b, 1, n, m)."""
    if mask is None:
        return None
    return mask[:, None, None] if mask.ndim == 2 else mask[:, None]


def plain_attention(q: Heads, k: Heads, v: Heads, mask: Mask | None = None) -> Heads:
    """Return softmax(q k^T / sqrt(d)) v (Vaswani et al. 2017, eq. 1); `mask` is True where a key is visible."""
    scores = (q * (1.0 / math.sqrt(q.shape[-1]))) @ k.transpose(-2, -1)
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~over_heads(mask), float("-inf"))
    elif mask is not None:
        scores = scores + over_heads(mask)
    return scores.softmax(dim=-1).to(v.dtype) @ v


def sdpa_attention(q: Heads, k: Heads, v: Heads, mask: Mask | None = None) -> Heads:
    """Return the same by PyTorch's choice of its fused kernels."""
    if q.is_meta:  # where PyTorch would take the plain formula, with scores that no fused kernel holds at once
        return torch.empty_like(q)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=over_heads(mask))


def flash_attention(q: Heads, k: Heads, v: Heads, mask: Mask | None = None) -> Heads:
    """Return the same by PyTorch's flash kernel (Dao 2023) and no other; on a GPU it takes no mask, and the
    memory-efficient kernel (Rabe & Staats 2021) runs in its place.

    Raises VidgenError for heads or a precision that it has no kernel for.
    """
    if q.is_meta:
        return torch.empty_like(q)
    masked = mask is not None and q.device.type != "cpu"
    try:
        with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION if masked else SDPBackend.FLASH_ATTENTION):
            return F.scaled_dot_product_attention(q, k, v, attn_mask=over_heads(mask))
    except RuntimeError as error:
        if "kernel" not in str(error):
            raise
        kind = str(q.dtype).removeprefix("torch.")
        raise VidgenError(
            f"attention 'flash' has no kernel for heads of {q.shape[-1]} channels in {kind} on {q.device.type}; choose "
            "'sdpa', or run in bfloat16"
        ) from None


@cache
def flex_kernel(compiled: bool) -> Callable[..., Heads]:
    """Return flex attention's function, compiled or not."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention) if compiled else flex_attention


def flex_attention(q: Heads, k: Heads, v: Heads, mask: Mask | None = None) -> Heads:
    """Return the same by PyTorch's flex attention (Dong et al. 2024), compiled on a GPU. On a CPU it runs as it is: a
    reference, with all scores in memory. Raises VidgenError for gradients there, for which it has no backward pass."""
    if q.is_meta:
        return torch.empty_like(q)
    on_cpu = q.device.type == "cpu"
    if on_cpu and torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)):
        raise VidgenError("attention 'flex' has no backward pass on a CPU; choose 'auto' to train there")
    score_mod = None
    if mask is not None:
        whole = mask.expand(q.shape[0], *mask.shape[1:])

        def score_mod(score: Tensor, b: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
            entry = whole[b, j] if whole.ndim == 2 else whole[b, i, j]
            return torch.where(entry, score, float("-inf")) if whole.dtype == torch.bool else score + entry

    return flex_kernel(not on_cpu)(q, k, v, score_mod=score_mod)


def xformers_attention(q: Heads, k: Heads, v: Heads, mask: Mask | None = None) -> Heads:
    """Return the same by xformers. Raises VidgenError where it is not installed."""
    try:
        import xformers.ops
    except ImportError:
        raise VidgenError("attention 'xformers' needs the extra: pip install 'vidgen[gpu]', or choose 'sdpa'") from None
    bias = None
    if mask is not None:
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, float("-inf"))
        bias = over_heads(mask.to(q.dtype)).expand(*q.shape[:3], -1).contiguous()
    transposed = (x.transpose(1, 2).contiguous() for x in (q, k, v))  # xformers has heads after positions
    return xformers.ops.memory_efficient_attention(*transposed, attn_bias=bias).transpose(1, 2)


def auto_attention(q: Heads, k: Heads, v: Heads, mask: Mask | None = None) -> Heads:
    """Return the same by `plain` where gradients flow on a CPU and keys are few, else by `sdpa`."""
    plain = q.device.type == "cpu" and torch.is_grad_enabled() and k.shape[-2] <= PLAIN_KEYS
    return (plain_attention if plain else sdpa_attention)(q, k, v, mask)


ATTENTION: dict[str, Callable[..., Heads]] = {
    "auto": auto_attention,
    "plain": plain_attention,
    "sdpa": sdpa_attention,
    "flash": flash_attention,
    "flex": flex_attention,
    "xformers": xformers_attention,
}


def find_attention(name: str) -> Callable[..., Heads]:
    """Return the attention of that name. Raises VidgenError for a name that is not in `ATTENTION`."""
    if name not in ATTENTION:
        raise VidgenError(f"attention {name!r} is unknown; choose one of {', '.join(ATTENTION)}")
    return ATTENTION[name]
