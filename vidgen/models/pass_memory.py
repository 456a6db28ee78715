"""The memory of one pass of a denoiser, without and with what its gradients need."""

from __future__ import annotations

import torch
from torch import nn

from vidgen.models.placement import dtype_of
from vidgen.models.rope import rotary_table
from vidgen.models.text.encoders import TextEncoding
from vidgen.profiling.live_memory import meta_peak

Shape = tuple[int, int, int, int]  # of one clip's latents
TEXT_TOKENS = 512  # as long as texts get


def pass_bytes(
    network: nn.Module, shape: Shape, batch: int, *, text_tokens: int = TEXT_TOKENS, gradients: bool = False
) -> int:
    """Return the most bytes of tensors that one pass over `batch` clips of latents makes and holds at one time.

    See `meta_peak`. `gradients`: count what the pass keeps for them too.
    """
    x = torch.empty(batch, *shape, device="meta")
    width = network.config.text_width
    text = None
    if width:
        tokens = torch.empty(batch, text_tokens, width, device="meta", dtype=dtype_of(network))
        mask = torch.ones(batch, text_tokens, dtype=torch.bool, device="meta")
        text = TextEncoding(tokens=tokens, mask=mask)
    levels = torch.empty(batch, device="meta")
    rotary_table.cache_clear()  # a pass makes its own: it is counted whether or not another one left it behind
    with torch.set_grad_enabled(gradients):
        return meta_peak(network, lambda net: net(x, levels, text))
