"""Published checkpoints in diffusers' layout: read by a key map into a model of ours, and written by it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vidgen.checkpoints.atomic import atomic_write
from vidgen.checkpoints.empty_weights import init_empty_weights
from vidgen.checkpoints.key_maps import Key
from vidgen.checkpoints.pretrained import CONFIG_NAME, WEIGHTS_NAME, Checkpoint, find_checkpoint, put, room_like
from vidgen.errors import VidgenError

Model = TypeVar("Model", bound=nn.Module)
HALF = (torch.bfloat16, torch.float16)


class Config(Protocol):
    """A published model's settings: `check` refuses those that ours has not, `to_ours` says the rest in our words."""

    def check(self, where: str) -> None: ...

    def to_ours(self) -> Any: ...


def make_empty(config: Config, kind: Callable[[Any], Model], place: Path) -> Model:
    """The model of a published config, without memory for its weights. Raises VidgenError, naming `place`, if ours
    cannot be made so."""
    config.check(str(place))
    try:
        with init_empty_weights():
            return kind(config.to_ours())
    except VidgenError as error:
        raise VidgenError(f"{place}: {error}") from None


@dataclass(frozen=True, kw_only=True)
class KeyedDraft:
    """A network of ours, perhaps without weights, and the published checkpoint that is known to fit it by the key map
    `keys` (by their names); nothing has been read yet."""

    network: nn.Module
    keys: dict[str, Key]
    checkpoint: Checkpoint

    def read(self, *, dtype: torch.dtype | None, device: str) -> dict[str, Tensor]:
        """The tensors by our names, laid out as the network's; each goes from the mapped file straight to its place."""
        places, tensors = self.network.state_dict(), {}
        for name, tensor in self.checkpoint.read():
            key = self.keys[name]
            like, kind = places[key.ours], torch.float32 if key.wide and dtype in HALF else dtype
            if key.rows is None:
                tensors[key.ours] = put(key.to_ours(tensor, like.shape), like, kind, device)
                continue
            if key.ours not in tensors:
                tensors[key.ours] = room_like(like, kind or tensor.dtype, device)
            part = tensors[key.ours][key.rows]
            part.copy_(key.to_ours(tensor, part.shape))
        return tensors

    def fill(self, *, dtype: torch.dtype | None, device: str) -> nn.Module:
        """The network with its weights, in evaluation mode and without gradients."""
        self.network.load_state_dict(self.read(dtype=dtype, device=device), strict=True, assign=True)
        return self.network.eval().requires_grad_(False)


def draft_keyed(network: nn.Module, keys: Iterable[Key], place: Path) -> KeyedDraft:
    """Raises VidgenError if a tensor of the checkpoint at `place` is missing, unexpected or of another shape."""
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
    """Writes the tensors that `keys` name, in `dtype` if given, and the config to `folder`, all or nothing."""
    places, tensors = model.state_dict(), {}
    for key in keys:
        value = key.to_theirs(places[key.ours].detach().to("cpu", dtype))
        tensors[key.name] = value.clone(memory_format=torch.contiguous_format)
    Path(folder).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder) as target:
        target.mkdir()
        save_file(tensors, target / WEIGHTS_NAME)
        text = json.dumps({"_class_name": class_name, **config}, indent=2)
        (target / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")
