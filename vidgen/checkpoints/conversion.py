"""Published checkpoints in diffusers' layout that a network of ours is filled from, by a key map, or written as."""

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

from vidgen.checkpoints.atomic import atomic_write
from vidgen.checkpoints.key_maps import Key
from vidgen.checkpoints.pretrained import CONFIG_NAME, WEIGHTS_NAME, Checkpoint, allocate_like, find_checkpoint, put

HALF = (torch.bfloat16, torch.float16)


@dataclass(frozen=True, kw_only=True)
class KeyedDraft:
    """A network of ours that waits for its weights, and the published checkpoint that has them under other names.

    `keys` is the key map, by the checkpoint's names. Names and shapes have been checked; no tensor has been read yet.
    """

    network: nn.Module
    keys: dict[str, Key]
    checkpoint: Checkpoint

    def read(self, *, dtype: torch.dtype | None, device: str) -> dict[str, Tensor]:
        """Return the tensors by our names, laid out as the network's; each goes from the mapped file straight there."""
        targets = self.network.state_dict()
        tensors: dict[str, Tensor] = {}
        for name, tensor in self.checkpoint.read():
            key = self.keys[name]
            like = targets[key.ours]
            precision = torch.float32 if key.wide and dtype in HALF else dtype
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
        self.network.load_state_dict(self.read(dtype=dtype, device=device), strict=True, assign=True)
        return self.network.eval().requires_grad_(False)


def draft_keyed(network: nn.Module, keys: Iterable[Key], place: Path) -> KeyedDraft:
    """Return the network with the checkpoint at `place`.

    Raises VidgenError if a tensor is missing, unexpected or of another shape.
    """
    draft = KeyedDraft(network=network, keys={key.name: key for key in keys}, checkpoint=find_checkpoint(place))
    draft.checkpoint.check({key.name: key.shape for key in draft.keys.values()})
    return draft


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
