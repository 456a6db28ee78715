"""FLOPs, the floating point operations of any piece of code, counted on tensors that may be on `meta`."""

from __future__ import annotations

from collections.abc import Callable


def count_gflops(work: Callable[[], object]) -> float:
    """Return the floating point operations of convolutions, products and attention in `work`, in 10^9; a multiply-add
    is two."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # Attention in its plain form: fused kernels for the CPU are not in the counter's list, and count as nothing.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        work()
    return counter.get_total_flops() / 1e9
