"""Networks that are filled from a published checkpoint by a key map, or written as one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vidgen.checkpoints.checkpoint import WEIGHTS_NAME, Checkpoint
from vidgen.checkpoints.key_maps import Key
from vidgen.checkpoints.pretrained import CONFIG_NAME, allocate_like, put
from vidgen.files.atomic import atomic_write


@dataclass(frozen=True, kw_only=True)
class NetworkDraft:
    """A network that waits for its weights, and the checkpoint that has them, perhaps under other names.

    `keys` is the key map, by the checkpoint's names. Names and shapes have been checked; no tensor has been read yet.
    """

    network: nn.Module
    checkpoint: Checkpoint
    keys: dict[str, Key]

    def read(self, *, dtype: torch.dtype | None, device: str) -> dict[str, Tensor]:
        """Return the tensors by the network's names, laid out as its own; each goes straight there from the file."""
        targets = self.network.state_dict()
        tensors: dict[str, Tensor] = {}
        for name, tensor in self.checkpoint.read():
            key = self.keys[name]
            like = targets[key.ours]
            precision = torch.float32 if key.wide and dtype is not None and dtype.itemsize < 4 else dtype
            if key.rows is None:
                tensors[key.ours] = put(key.to_ours(tensor, like.shape), like, precision, device)
                continue
            if key.ours not in tensors:
                tensors[key.ours] = allocate_like(like, precision or tensor.dtype, device)
            part = tensors[key.ours][key.rows]
            part.copy_(key.to_ours(tensor, part.shape))
        return tensors

    def fill(self, *, dtype: torch.dtype | None, device: str) -> nn.Module:
        """Return the network with its weights, in evaluation mode and without gradients."""
        tensors = self.read(dtype=dtype, device=device)
        for names in tied_names(self.network):
            tensors |= dict.fromkeys(names, next(tensors[name] for name in names if name in tensors))
        self.network.load_state_dict(tensors, strict=True, assign=True)
        return self.network.to(device).eval().requires_grad_(False)


def draft_network(network: nn.Module, checkpoint: Checkpoint, keys: Iterable[Key]) -> NetworkDraft:
    """Return a network with its checkpoint.

    Raises VidgenError if a tensor that `keys` name is missing or of another shape, or one is not named.
    """
    draft = NetworkDraft(network=network, checkpoint=checkpoint, keys={key.name: key for key in keys})
    targets = network.state_dict()
    checkpoint.check(
        {name: torch.empty(key.shape, dtype=targets[key.ours].dtype, device="meta") for name, key in draft.keys.items()}
    )
    return draft


def tied_names(network: nn.Module) -> list[list[str]]:
    """Return the names of each parameter that has several."""
    names: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def write_checkpoint(
    model: nn.Module,
    keys: Iterable[Key],
    folder: str | os.PathLike,
    *,
    class_name: str,
    config: Mapping[str, Any],
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model of ours as a published checkpoint, all or nothing.

    Args:
        model: the model whose tensors are written.
        keys: the key map; the tensors that it names are written, under the published names.
        folder: where to; its parents are made.
        class_name: the published class.
        config: its settings.
        dtype: the precision to write in, None for the model's own.
    """
    sources = model.state_dict()
    tensors: dict[str, Tensor] = {}
    for key in keys:
        value = key.to_theirs(sources[key.ours].detach().to("cpu", dtype))
        tensors[key.name] = value.clone(memory_format=torch.contiguous_format)
    Path(folder).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder) as target:
        target.mkdir()
        save_file(tensors, target / WEIGHTS_NAME)
        text = json.dumps({"_class_name": class_name, **config}, indent=2)
        (target / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")
