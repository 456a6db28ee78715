"""Save and load models in diffusers' folder layout: config.json beside safetensors; strict, and never half-written."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch

from vidgen.bounds import one_line
from vidgen.checkpoints.checkpoint import LARGEST_SHARD, WEIGHTS_NAME, find_checkpoint, opened, save_shards
from vidgen.checkpoints.config_fields import current_fields, present_value
from vidgen.checkpoints.empty_weights import init_empty_weights
from vidgen.checkpoints.hub import find_model
from vidgen.checkpoints.weight_files import OTHER_SUFFIXES, describe_single_file
from vidgen.errors import VidgenError, explained
from vidgen.files.atomic import atomic_write
from vidgen.files.bounded_files import parse_json, read_class, read_json
from vidgen.models.placement import PlacedModule, loading_dtype

CONFIG_NAME = "config.json"
T = TypeVar("T", bound="Pretrained")
Config = TypeVar("Config")


def config_from_dict(config_class: type[Config], values: Mapping[str, Any], where: str) -> Config:
    """Return a config dataclass from JSON values; names that begin with an underscore are the layout's own.

    Raises VidgenError, naming `where`, for any other that is no field, and for values of the wrong type.
    """
    fields = {f.name: f for f in dataclasses.fields(config_class)}
    values = current_fields(config_class, {k: v for k, v in values.items() if not k.startswith("_")}, where)
    if unknown := sorted(set(values) - set(fields)):
        named = ", ".join(map(one_line, unknown[:20]))
        raise VidgenError(f"{where}: unknown keys {named}; {config_class.__name__} knows {sorted(fields)}")
    try:
        values = {k: tuple(v) if isinstance(v, list) else present_value(fields[k], v) for k, v in values.items()}
        return config_class(**values)
    except VidgenError as error:
        raise VidgenError(f"{where}: {error}") from None
    except TypeError as error:
        raise VidgenError(f"{where}: a value of the wrong type ({error}); see {config_class.__name__}") from None


def read_config(place: Path) -> dict[str, Any]:
    """Return the config of a model in a folder; of a single file, which has it in its header or beside it.

    Raises VidgenError if there is none.
    """
    if not place.is_file():
        return read_json(place / CONFIG_NAME)
    if place.suffix in OTHER_SUFFIXES:
        raise VidgenError(f"{place} is {OTHER_SUFFIXES[place.suffix]}")
    with opened(place) as file:
        text = (file.metadata() or {}).get("config")
        names = list(file.keys())
        dtypes = {file.get_slice(name).get_dtype() for name in names}
    if text is None and not (place.parent / CONFIG_NAME).exists():
        if what := describe_single_file(names, dtypes):
            raise VidgenError(f"{place} holds {what}")
        raise VidgenError(f"{place} has no config in its header and no {CONFIG_NAME} beside it; put the model's there")
    if text is None:
        return read_json(place.parent / CONFIG_NAME)
    try:
        values = parse_json(text)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise VidgenError(f"{place}: the config in its header is no JSON object; the file is damaged")
    return values


def put(tensor: torch.Tensor, like: torch.Tensor, dtype: torch.dtype | None, device: str) -> torch.Tensor:
    """Return a copy of `tensor` on `device`, in `dtype` if it has a fraction, and laid out in memory as `like` is.

    Nothing wider or elsewhere is made on the way. It is a copy in any case, since one tensor that stayed in a mapped
    file would keep in memory all that was read of the file.
    """
    target = dtype if dtype and tensor.is_floating_point() else tensor.dtype
    return allocate_like(like, target, device).copy_(tensor)


def allocate_like(like: torch.Tensor, dtype: torch.dtype, device: str) -> torch.Tensor:
    """Return an empty tensor that lies in memory as the dense `like` does. (`torch.empty_like` of one without memory
    would import half of torch's compiler.)"""
    return torch.empty_strided(like.shape, like.stride(), dtype=dtype, device=device)


class Pretrained(PlacedModule):
    """A model with a frozen config dataclass, saved as config.json + safetensors and loaded strictly.

    Subclasses set `config_class` and take the config as their one constructor argument.
    """

    config_class: ClassVar[type]
    former_names: ClassVar[tuple[str, ...]] = ()  # of the class, in folders that were saved under them

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def save_pretrained(
        self,
        folder: str | os.PathLike,
        *,
        dtype: torch.dtype | None = None,
        variant: str | None = None,
        max_shard_size: int | str = LARGEST_SHARD,
    ) -> None:
        """Write config.json and the weights (in `dtype` if given) to `folder`, all or nothing; see `save_shards`."""
        tensors = {
            k: v.detach().to("cpu", dtype if v.is_floating_point() else None) for k, v in self.state_dict().items()
        }
        Path(folder).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder) as target:
            target.mkdir()
            save_shards(tensors, target, WEIGHTS_NAME, variant=variant, max_shard_size=max_shard_size)
            config = {"_class_name": type(self).__name__, **dataclasses.asdict(self.config)}
            (target / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def parse_config(cls, values: Mapping[str, Any], where: str) -> Any:
        """Return the config in `values`, as config.json has them. Raises VidgenError, naming `where`, if it is none."""
        return config_from_dict(cls.config_class, values, where)

    @classmethod
    def from_config(cls: type[T], config: Any) -> T:
        """Return a model with random weights. Raises VidgenError for values that are no config."""
        return cls(config if isinstance(config, cls.config_class) else cls.parse_config(config, cls.__name__))

    @classmethod
    def from_pretrained(
        cls: type[T],
        folder: str | os.PathLike,
        *,
        dtype: torch.dtype | str | None = None,
        device: str = "cpu",
        torch_dtype: torch.dtype | str | None = None,
        subfolder: str | None = None,
        variant: str | None = None,
        low_cpu_mem_usage: bool = True,
    ) -> T:
        """Return the model in `folder`, in evaluation mode and without gradients; `requires_grad_(True)` to train it.

        Raises VidgenError if the folder, a key or a shape is not as the class needs it, before a tensor is read.

        Args:
            folder: Of a model; a shipped name or hub id; or a safetensors file with a config, see `read_config`.
            dtype: See `loading_dtype`; `torch_dtype` is its name in diffusers.
            device: Where to put the weights.
            subfolder: The part of a pipeline that the model is.
            variant: A word in the names of the weights' files, as "fp16".
            low_cpu_mem_usage: Without effect: weights are never in memory twice.
        """
        dtype = loading_dtype(dtype if torch_dtype is None else torch_dtype, device)
        folder = Path(folder) if Path(folder).exists() else find_model(folder, part=subfolder)
        folder = folder / subfolder if subfolder else folder
        values = read_config(folder)
        class_name = read_class(values, folder)
        if class_name not in (cls.__name__, *cls.former_names):
            raise VidgenError(f"{folder} holds a {class_name}, not a {cls.__name__}")
        config = cls.parse_config(values, str(folder / CONFIG_NAME))
        checkpoint = find_checkpoint(folder, variant=variant)
        stored = len(checkpoint.homes)
        with explained(f"{folder / CONFIG_NAME} makes no {cls.__name__}"), init_empty_weights(stored):
            model = cls(config)
        targets = model.state_dict()
        checkpoint.check(targets)
        checkpoint.check_memory(dtype, device)
        tensors = {name: put(tensor, targets[name], dtype, device) for name, tensor in checkpoint.read()}
        model.load_state_dict(tensors, strict=True, assign=True)
        return model.eval().requires_grad_(False)
