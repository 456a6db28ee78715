"""Gradient checkpointing: layers keep their inputs only, and run again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class GradientCheckpointing:
    """diffusers' switch for a model that runs its layers within `checkpointing`."""

    gradient_checkpointing = False

    def enable_gradient_checkpointing(self) -> None:
        """Keep the inputs of layers only, and compute the rest again in the backward pass: less memory, a third more
        work, the same gradients."""
        self.gradient_checkpointing = True

    def disable_gradient_checkpointing(self) -> None:
        """Keep all activations for the backward pass."""
        self.gradient_checkpointing = False

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether layers run again in the backward pass."""
        return self.gradient_checkpointing

    def checkpointing(self, layers: Iterable[nn.Module]) -> AbstractContextManager[None]:
        """Return a block within which `layers` are checkpointed, where that is switched on and gradients are taken."""
        wanted = self.gradient_checkpointing and torch.is_grad_enabled()
        return activation_checkpointing(layers) if wanted else nullcontext()


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
        return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False, **options)

    return run
