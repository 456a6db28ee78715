"""Saving and loading in diffusers' folder layout: config.json beside safetensors; strict, and never half-written."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from vidgen.atomic import written_aside
from vidgen.errors import VidgenError

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"
T = TypeVar("T", bound="Pretrained")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from `path`, or one line that says what is wrong with it."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VidgenError(f"{path} is missing: not a model folder; check the path") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise VidgenError(f"{path} cannot be read as JSON ({error}); the model folder is damaged") from None
    if not isinstance(values, dict):
        raise VidgenError(f"{path} holds a {type(values).__name__}, not an object; the model folder is damaged")
    return values


def config_from_dict(config_class: type, values: dict[str, Any], where: str) -> Any:
    """A config dataclass from JSON values; names in `_lowercase` are the layout's own, others must be fields."""
    fields = {f.name for f in dataclasses.fields(config_class)}
    values = {k: v for k, v in values.items() if not k.startswith("_")}
    if unknown := sorted(set(values) - fields):
        raise VidgenError(f"{where}: unknown keys {', '.join(unknown)}; {config_class.__name__} knows {sorted(fields)}")
    try:
        return config_class(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except TypeError as error:
        raise VidgenError(f"{where}: a value of the wrong type ({error}); see {config_class.__name__}") from None


def read_tensors(path: Path, expected: dict[str, torch.Tensor], dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, checked by name and shape against `expected` before any is read."""
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            missing, extra = sorted(set(expected) - names), sorted(names - set(expected))
            if missing or extra:
                problem = f"missing {missing[:3]}" if missing else f"unexpected {extra[:3]}"
                raise VidgenError(f"{path}: {problem} ({len(missing)} missing, {len(extra)} unexpected); wrong model")
            for name in sorted(names):
                shape, wanted = tuple(file.get_slice(name).get_shape()), tuple(expected[name].shape)
                if shape != wanted:
                    raise VidgenError(f"{path}: {name} has shape {shape}, the config asks for {wanted}")
            tensors = {name: file.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise VidgenError(f"{path} is missing; the model folder is incomplete") from None
    except (SafetensorError, OSError) as error:
        raise VidgenError(f"{path} is not a whole safetensors file ({error}); fetch or save it again") from None
    return {k: v.to(dtype) if dtype and v.is_floating_point() else v for k, v in tensors.items()}


class Pretrained(nn.Module):
    """A model with a frozen config dataclass, saved as config.json + safetensors and loaded strictly.

    Subclasses set `config_class` and take the config as their one constructor argument.
    """

    config_class: ClassVar[type]

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def save_pretrained(self, folder: str | os.PathLike, *, dtype: torch.dtype | None = None) -> None:
        """Writes config.json and the weights (in `dtype` if given) to `folder`, all or nothing."""
        tensors = {
            k: v.detach().to("cpu", dtype if v.is_floating_point() else None) for k, v in self.state_dict().items()
        }
        Path(folder).parent.mkdir(parents=True, exist_ok=True)
        with written_aside(folder) as target:
            target.mkdir()
            save_file({k: v.clone().contiguous() for k, v in tensors.items()}, target / WEIGHTS_NAME)
            config = {"_class_name": type(self).__name__, **dataclasses.asdict(self.config)}
            (target / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(
        cls: type[T], folder: str | os.PathLike, *, dtype: torch.dtype | None = None, device: str = "cpu"
    ) -> T:
        """The model in `folder`, in evaluation mode and without gradients (`requires_grad_(True)` to train it on).

        Raises VidgenError if the folder, a key or a shape is not as the class needs it.
        """
        folder = Path(folder)
        values = read_json(folder / CONFIG_NAME)
        if values.get("_class_name") != cls.__name__:
            raise VidgenError(f"{folder} holds a {values.get('_class_name')}, not a {cls.__name__}")
        config = config_from_dict(cls.config_class, values, str(folder / CONFIG_NAME))
        with torch.device("meta"):  # no time spent on random weights that are replaced at once
            model = cls(config)
        tensors = read_tensors(folder / WEIGHTS_NAME, model.state_dict(), dtype)
        model.load_state_dict(tensors, strict=True, assign=True)
        return model.to(device).eval().requires_grad_(False)
