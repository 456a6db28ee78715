"""Activation checkpointing of networks that do not know of it: layers run again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def activation_checkpointing(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Within the block, each of `layers` keeps its inputs only, and computes its activations again for its gradient.

    Gradients are the same numbers, since a layer's pass depends on its inputs alone (Chen et al. 2016). Nothing stays
    on the modules after the block, so copies and saved models are as they were.
    """
    layers = list(layers)
    for layer in layers:
        layer.forward = _checkpointed(layer.forward)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _checkpointed(forward: Callable) -> Callable:
    def run(*inputs: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*inputs, **options)
        return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False, **options)

    return run


def layers_of(*networks: nn.Module) -> list[nn.Module]:
    """Return what to checkpoint one by one: the members of every `layers` list that a network has at its top."""
    return [layer for network in networks for layer in getattr(network, "layers", ())]
