"""Networks of diffusers and transformers, made without memory, checked against their checkpoint, and then filled."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vidgen.checkpoints.checkpoint import Checkpoint, find_checkpoint
from vidgen.checkpoints.conversion import NetworkDraft, draft_network, tied_names
from vidgen.checkpoints.empty_weights import init_empty_weights
from vidgen.checkpoints.key_maps import Key
from vidgen.checkpoints.other_libraries import DROPPED, from_settings, read_network_config
from vidgen.checkpoints.pretrained import CONFIG_NAME, read_config
from vidgen.errors import VidgenError, explained
from vidgen.files.bounded_files import read_class

TRANSFORMERS_NAME = "model.safetensors"  # of weights in transformers' layout
FORMER_NAMES = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}  # of the first BERTs


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
        Key(
            ours=name,
            name=stored_name(prefix + name, checkpoint),
            shape=shape,
            wide=not wide.isdisjoint(name.split(".")),
        )
        for name, shape in shapes.items()
    )
    return draft_network(network, checkpoint, keys)


def stored_name(name: str, checkpoint: Checkpoint) -> str:
    """Return the name that a checkpoint has a tensor by: its own, or the former one of FORMER_NAMES."""
    if name not in checkpoint.homes:
        for ending, former in FORMER_NAMES.items():
            if name.endswith(ending) and (other := name.removesuffix(ending) + former) in checkpoint.homes:
                return other
    return name


def without(
    checkpoint: Checkpoint, kind: type, patterns: tuple[str, ...] = (), own: Collection[str] = ()
) -> Checkpoint:
    """Return the checkpoint without tensors whose names match a pattern, or one that the class itself ignores, and are
    none of its `own`."""
    ignored = [*patterns, *(getattr(kind, "_keys_to_ignore_on_load_unexpected", None) or ())]
    homes = {
        name: home
        for name, home in checkpoint.homes.items()
        if name in own or not any(re.search(pattern, name) for pattern in ignored)
    }
    return replace(checkpoint, homes=homes)


def draft_diffusers(kind: type, place: Path) -> NetworkDraft:
    """Return the network of diffusers' class `kind` in a folder or a single file.

    Raises VidgenError for another class, settings that the class does not know or take, and tensors that do not fit.
    """
    values = read_config(place)
    where = place / CONFIG_NAME if place.is_dir() else place
    class_name = read_class(values, where)
    if class_name != kind.__name__:
        raise VidgenError(f"{where} is of a {class_name}, not of a {kind.__name__}")
    checkpoint = without(find_checkpoint(place), kind)
    network = from_settings(kind, values, where, len(checkpoint.homes))
    return draft_unchanged(network, checkpoint, frozenset(kind._keep_in_fp32_modules or ()))


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
    kind, settings = read_network_config(folder, kinds)
    return draft_kind(kind, settings, folder, dtype, prefix=prefix, left_out=left_out)


def draft_kind(
    kind: type,
    settings: Mapping[str, Any],
    folder: Path,
    dtype: torch.dtype | None,
    *,
    prefix: str = "",
    left_out: tuple[str, ...] = (),
    headless: bool = False,
    options: Mapping[str, bool] | None = None,
) -> NetworkDraft:
    """Return the network of transformers' class `kind` with the settings of a folder's config.

    Raises VidgenError as `draft_transformers`.

    Args:
        kind: the class.
        settings: what the folder's config.json says.
        folder: where the weights are.
        dtype: for use in it.
        prefix: what names in the checkpoint may begin with where the class's do not.
        left_out: patterns of names that are ignored.
        headless: where names begin with the prefix, those that do not are of heads, and are ignored too.
        options: of the class's constructor, beside its config.
    """
    checkpoint = find_checkpoint(folder, TRANSFORMERS_NAME)
    with explained(f"{folder / CONFIG_NAME} makes no {kind.__name__}"), init_empty_weights(len(checkpoint.homes)):
        part = settings.get(kind.config_class.base_config_key)  # of a model of several networks
        settings = {name: value for name, value in (part or settings).items() if name not in DROPPED}
        network = kind(kind.config_class(**settings), **(options or {}))
    names = network.state_dict()
    own = {*names, *(prefix + name for name in names)}
    checkpoint = without(checkpoint, kind, left_out, own)
    inside = {name: home for name, home in checkpoint.homes.items() if name.startswith(prefix)}
    if any(name.startswith(prefix) for name in names) or not inside:
        prefix = ""
    elif headless:
        checkpoint = replace(checkpoint, homes=inside)
    elif len(inside) < len(checkpoint.homes):
        prefix = ""
    # Of these the sums overflow float16.
    wide = frozenset(kind._keep_in_fp32_modules or ()) if dtype is torch.float16 else frozenset()
    return draft_unchanged(network, checkpoint, wide, prefix)
