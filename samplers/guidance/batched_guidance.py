"""Several estimates at one place: one network pass each, or one pass over all, as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from vidgen.checkpoints.memory import free_bytes
from vidgen.interfaces import Denoiser

Estimates = Callable[[Tensor, Tensor], tuple[Tensor, ...]]  # (x, t) -> several denoisers' x0
View = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # (x, t) -> what a denoiser is shown of them
PASSES = ("auto", "batched", "sequential")
FREE_SHARE = 0.5  # of the free memory may go to a batched pass: other processes, and the estimate, need room
# Bytes of a pass from which two passes are as fast as one over both. Measured on two cores, from VideoDiT's S to a Wan
# of 1,536 channels: up to 5 MiB one is 1.2 to 1.4 times as fast, from 80 MiB 1.04 to 0.92.
LARGE_ON_CPU = 64 * 2**20
# Numbers a token that are held at once, over in- plus out-width of the widest layer. Of a `VideoDiT` 1.5 to 2 are
# measured; others may have no wide layer for modulation.
HELD_WIDTHS = 3


def sequential(*denoisers: Denoiser) -> Estimates:
    """Return estimates made one after the other, in the memory of one pass."""
    return lambda x, t: tuple(denoise(x, t) for denoise in denoisers)


def batched(denoise: Denoiser, count: int, views: Sequence[View] | None = None) -> Estimates:
    """Return `count` estimates made in one pass over `count` times the batch.

    `denoise` is closed over that many rows of conditions, all of the first kind, then all of the second. `views`, one a
    kind, say what each is shown.
    """

    def estimates(x: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        levels = t.expand(len(x)) if t.ndim == 0 else t
        inputs = [view(x, levels) for view in views] if views else [(x, levels)] * count
        return denoise(*(torch.cat(values) for values in zip(*inputs, strict=True))).chunk(count)

    return estimates


def activation_bytes(network: object, tokens: int) -> int:
    """Return an estimate of the bytes beside the weights that a pass over so many tokens, of all clips, takes at most.

    Attention is taken not to hold its matrix of scores. 0 for what is no module.
    """
    if not isinstance(network, nn.Module):
        return 0
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    widest = max((layer.in_features + layer.out_features for layer in layers), default=0)
    size = max((layer.weight.element_size() for layer in layers), default=0)
    return HELD_WIDTHS * widest * size * tokens


def fits_batched(network: object, tokens: int, device: torch.device) -> bool:
    """Return whether a pass over so many tokens leaves half of the device's free memory; False where that is unknown.

    On a CPU only a small one does: large ones gain nothing there by a larger batch.
    """
    free = free_bytes(str(device))
    needed = activation_bytes(network, tokens)
    if device.type == "cpu" and needed > LARGE_ON_CPU:
        return False
    return free is not None and needed <= FREE_SHARE * free
