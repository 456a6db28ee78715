"""Hashes of models and settings: short strings that change when these do."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import torch
from torch import nn

from vidgen.checkpoints.config_fields import former_dict, former_name

PARTS = ("vae", "transformer", "text_encoder")  # of a pipeline


def json_hash(value: Any) -> str:
    """Return the SHA-256 (64 hex digits) of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def model_hash(model: Any) -> str:
    """Return the SHA-256 (64 hex digits) of a module's config, names, types, shapes and values, or a pipeline's.

    Device and memory format of the weights do not matter. Their dtype does: other dtypes give other features. Raises
    ValueError for what is neither a module nor a pipeline.
    """
    if isinstance(model, nn.Module):
        return _module_hash(model)
    modules = {name: getattr(model, name, None) for name in PARTS}
    parts = {name: _module_hash(part) for name, part in modules.items() if isinstance(part, nn.Module)}
    if not parts:
        raise ValueError(f"{type(model).__name__} is neither a module nor a pipeline of {', '.join(PARTS)}")
    path = getattr(model, "path", None)
    name = type(path).__name__
    settings = _changed_fields(path)
    return json_hash({**parts, "path": [name, settings] if settings else name})


def _changed_fields(config: Any) -> dict[str, Any] | None:
    """Return a config's fields where they are not the default: a new field with a default changes no older hash."""
    if not dataclasses.is_dataclass(config):
        return None
    values, former = dataclasses.asdict(config), former_dict(config)
    changed = [former_name(f) for f in dataclasses.fields(config) if values[f.name] != f.default]
    return {name: former[name] for name in changed}


def _module_hash(module: nn.Module) -> str:
    digest = hashlib.sha256(
        json_hash([type(module).__name__, _changed_fields(getattr(module, "config", None))]).encode()
    )
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # as bytes: numpy has no bfloat16
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
