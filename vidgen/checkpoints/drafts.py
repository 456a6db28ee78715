"""Networks of diffusers and transformers, made without memory, checked against their checkpoint, and then filled."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vidgen.checkpoints.conversion import NetworkDraft, draft_network, tied_names
from vidgen.checkpoints.empty_weights import init_empty_weights
from vidgen.checkpoints.key_maps import Key
from vidgen.checkpoints.pretrained import CONFIG_NAME, Checkpoint, find_checkpoint, read_config
from vidgen.errors import VidgenError

TRANSFORMERS_NAME = "model.safetensors"  # of weights in transformers' layout


def draft_unchanged(
    network: nn.Module, checkpoint: Checkpoint, wide: frozenset[str] = frozenset(), prefix: str = ""
) -> NetworkDraft:
    """Return a network with a checkpoint that has the network's own names, with `prefix` before each.

    Tensors whose names have a part in `wide` stay in float32 where a narrower dtype is asked for. Raises VidgenError
    unless the checkpoint has exactly the network's tensors; of one with several names, any.
    """
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    for names in tied_names(network):
        absent = [name for name in names if prefix + name not in checkpoint.homes]
        for name in absent if len(absent) < len(names) else absent[1:]:
            del shapes[name]
    keys = (
        Key(ours=name, name=prefix + name, shape=shape, wide=not wide.isdisjoint(name.split(".")))
        for name, shape in shapes.items()
    )
    return draft_network(network, checkpoint, keys)


def without(checkpoint: Checkpoint, kind: type, patterns: tuple[str, ...] = ()) -> Checkpoint:
    """Return the checkpoint without tensors whose names match a pattern, or one that the class itself ignores."""
    ignored = [*patterns, *(getattr(kind, "_keys_to_ignore_on_load_unexpected", None) or ())]
    homes = {name: home for name, home in checkpoint.homes.items() if not any(re.search(p, name) for p in ignored)}
    return replace(checkpoint, homes=homes)


def plain_settings(config: Any) -> dict[str, Any]:
    """Return the settings of a class of diffusers, without its own notes, which begin with an underscore."""
    return {name: value for name, value in dict(config).items() if not name.startswith("_")}


def known_settings(kind: type, config: Any, where: Path) -> dict[str, Any]:
    """Return the settings in a config. Raises VidgenError for one that the class does not know, which would be lost."""
    settings = plain_settings(config)
    if unknown := sorted(set(settings) - set(inspect.signature(kind.__init__).parameters)):
        raise VidgenError(f"{where}: the {kind.__name__} that is installed knows no {', '.join(unknown)}")
    return settings


def draft_diffusers(kind: type, place: Path) -> NetworkDraft:
    """Return the network of diffusers' class `kind` in a folder or a single file.

    Raises VidgenError for another class, settings that the class does not know or take, and tensors that do not fit.
    """
    values = read_config(place)
    where = place / CONFIG_NAME if place.is_dir() else place
    if values.get("_class_name") != kind.__name__:
        raise VidgenError(f"{where} is of a {values.get('_class_name')}, not of a {kind.__name__}")
    values = known_settings(kind, values, where)
    try:
        with init_empty_weights():
            network = kind.from_config(values)
    except (TypeError, ValueError, ArithmeticError, NotImplementedError, RuntimeError) as error:
        raise VidgenError(f"{where} makes no {kind.__name__}: {str(error).splitlines()[0][:160]}") from None
    return draft_unchanged(network, without(find_checkpoint(place), kind), frozenset(kind._keep_in_fp32_modules or ()))


def draft_transformers(
    folder: Path,
    kinds: Mapping[str, type],
    dtype: torch.dtype | None,
    *,
    prefix: str = "",
    left_out: tuple[str, ...] = (),
) -> NetworkDraft:
    """Return the network of transformers in a folder, of the class that `kinds` has for its type, for use in `dtype`.

    Names in the checkpoint may begin with `prefix` where the class's do not; tensors that match a pattern of
    `left_out` are ignored. Raises VidgenError for another type, a missing shard, and tensors that do not fit.
    """
    from transformers import AutoConfig

    part = folder.name.replace("_", " ")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise VidgenError(f"{folder} holds no {part}: {str(error).splitlines()[0][:160]}") from None
    if config.model_type not in kinds:
        raise VidgenError(f"{folder} holds a {config.model_type} model; of its kind are read: {', '.join(kinds)}")
    kind = kinds[config.model_type]
    with init_empty_weights():
        network = kind(config)
    checkpoint = without(find_checkpoint(folder, TRANSFORMERS_NAME), kind, left_out)
    has_prefix = any(name.startswith(prefix) for name in network.state_dict())
    if has_prefix or not all(name.startswith(prefix) for name in checkpoint.homes):
        prefix = ""
    # Of these the sums overflow float16.
    wide = frozenset(kind._keep_in_fp32_modules or ()) if dtype is torch.float16 else frozenset()
    return draft_unchanged(network, checkpoint, wide, prefix)
