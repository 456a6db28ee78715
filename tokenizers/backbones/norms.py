"""Root mean square normalization over channels, and the SiLU that follows it, in one go where nothing is learned."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

LEAST_NORM = 1e-12  # what a vector is divided by at least, so that zeros stay zeros
# Numbers that are worked on at once. Measured on Wan's decoder, two cores with AVX-512: from here to 2^22 the whole
# differs by 3%, and 2^14 is a tenth slower; of small blocks less memory is fresh.
BLOCK = 2**17


def needs_gradient(*tensors: Tensor) -> bool:
    """Return whether a result of these is going to be differentiated."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def normalize_into(y: Float[Tensor, "n c"], x: Float[Tensor, "n c"], scale: Float[Tensor, " c"]) -> None:
    """Write SiLU of `x` over its root mean square times `scale` into `y`: what `RMSNorm.compiled` compiles."""
    y.copy_(F.silu(F.normalize(x.to(scale.dtype), dim=-1, eps=LEAST_NORM) * scale))


@cache
def compile_region(backend: str) -> Callable[..., None]:
    """Compile `normalize_into` once for all widths, lengths and sizes (torch.compile with dynamic shapes)."""
    return torch.compile(normalize_into, dynamic=True, fullgraph=True, backend=backend)


class RMSNorm(nn.Module):
    """Every position over the root mean square of its channels, times a weight each (Zhang & Sennrich 2019, eq. 4).

    Time is never mixed, so streaming stays exact. Computed in float32 at least.
    """

    def __init__(self, c: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(c))
        self.compiled = ""  # a backend of torch.compile for `activate`, or none

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """Return `x` normalized, in its own dtype."""
        # In channels_last_3d memory both moves are views and the normalized axis is contiguous.
        wide = x.movedim(1, -1).to(torch.promote_types(x.dtype, torch.float32))
        return (F.normalize(wide, dim=-1, eps=LEAST_NORM) * self._scale(wide)).to(x.dtype).movedim(-1, 1)

    def _scale(self, like: Tensor) -> Float[Tensor, " c"]:
        return len(self.weight) ** 0.5 * self.weight.to(like.dtype)

    @torch.no_grad()
    def activate(self, x: Float[Tensor, "b c t h w"], room: int = 0) -> Float[Tensor, "b c s h w"]:
        """Return SiLU of the normalized frames, behind `room` frames in the same memory that are left to be filled.

        Block by block, so that what is wider than `x` never leaves the cache. It has no gradient.
        """
        b, c, t, h, w = x.shape
        shape = (b, c, room + t, h, w)
        layout = torch.channels_last_3d
        whole = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
        if x.device.type not in ("cpu", "meta") and not self.compiled:
            whole[:, :, room:] = F.silu(self(x))
            return whole
        wide = x.new_empty(max(1, BLOCK // c), c, dtype=torch.promote_types(x.dtype, torch.float32))
        scale = self._scale(wide)
        for source, target in zip(x, whole[:, :, room:], strict=True):
            rows, out = source.movedim(0, -1).reshape(-1, c), target.movedim(0, -1).view(-1, c)
            if self.compiled and not x.is_meta:
                # Through `data`, as no views: what they are views of would be guarded, and compiled for, too.
                compile_region(self.compiled)(out.data, rows.contiguous().data, scale)
                continue
            for block, written in zip(rows.split(len(wide)), out.split(len(wide)), strict=True):
                y = wide[: len(block)].copy_(block)
                y.div_(torch.linalg.vector_norm(y, dim=-1, keepdim=True).clamp_min_(LEAST_NORM)).mul_(scale)
                written.copy_(F.silu(y, inplace=True))
                if x.is_meta:  # only sizes count there, and those of one block stand for all
                    break
        return whole


def compile_norms(network: nn.Module, backend: str = "inductor") -> int:
    """Compile normalization and SiLU of every `RMSNorm` below `network` with torch.compile; return how many there are.

    One region serves all of them, whatever the length and size of clips; it is compiled when it is first run. The
    convolutions, which a compiler leaves as they are, stay outside. `backend` "" goes back to the eager way.
    """
    norms = [layer for layer in network.modules() if isinstance(layer, RMSNorm)]
    for norm in norms:
        norm.compiled = backend
    return len(norms)
