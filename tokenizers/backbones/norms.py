"""Root mean square normalisation over channels, and the SiLU that follows it, in one go where nothing is learned."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

LEAST_NORM = 1e-12  # what a vector is divided by at least, so that zeros stay zeros
# Numbers that are worked on at once. Measured on Wan's decoder, two cores with AVX-512: from here to 2^22 the whole
# differs by 3%, and 2^14 is a tenth slower; of small blocks less memory is fresh.
BLOCK = 2**17


def needs_gradient(*tensors: Tensor) -> bool:
    """Whether a result of these is going to be differentiated."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


class RMSNorm(nn.Module):
    """Every position over the root mean square of its channels, times a weight each (Zhang & Sennrich 2019, eq. 4).

    Time is never mixed, so streaming stays exact. Computed in float32 at least.
    """

    def __init__(self, c: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(c))

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        # In channels_last_3d memory both moves are views and the normalised axis is contiguous.
        wide = x.movedim(1, -1).to(torch.promote_types(x.dtype, torch.float32))
        return (F.normalize(wide, dim=-1, eps=LEAST_NORM) * self._scale(wide)).to(x.dtype).movedim(-1, 1)

    def _scale(self, like: Tensor) -> Float[Tensor, " c"]:
        return len(self.weight) ** 0.5 * self.weight.to(like.dtype)

    @torch.no_grad()
    def activate(self, x: Float[Tensor, "b c t h w"], room: int = 0) -> Float[Tensor, "b c s h w"]:
        """SiLU of the normalised frames, behind `room` frames in the same memory that are left to be filled.

        Block by block, so that what is wider than `x` never leaves the cache. It has no gradient.
        """
        b, c, t, h, w = x.shape
        shape, layout = (b, c, room + t, h, w), torch.channels_last_3d
        whole = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
        if x.device.type not in ("cpu", "meta"):
            whole[:, :, room:] = F.silu(self(x))
            return whole
        wide = x.new_empty(max(1, BLOCK // c), c, dtype=torch.promote_types(x.dtype, torch.float32))
        scale = self._scale(wide)
        for given, filled in zip(x, whole[:, :, room:], strict=True):
            sources = given.movedim(0, -1).reshape(-1, c).split(len(wide))
            targets = filled.movedim(0, -1).view(-1, c).split(len(wide))
            for source, target in zip(sources, targets, strict=True):
                y = wide[: len(source)].copy_(source)
                y.div_(torch.linalg.vector_norm(y, dim=-1, keepdim=True).clamp_min_(LEAST_NORM)).mul_(scale)
                target.copy_(F.silu(y, inplace=True))
                if x.is_meta:  # only sizes count there, and those of one block stand for all
                    break
        return whole
