"""Save and load models in diffusers' folder layout: config.json beside safetensors; strict, and never half-written."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vidgen.checkpoints.atomic import atomic_write
from vidgen.checkpoints.bounded_files import check_regular, parse_json, read_class, read_json
from vidgen.checkpoints.checksums import check_sums
from vidgen.checkpoints.config_fields import current_fields, present_value
from vidgen.checkpoints.empty_weights import init_empty_weights
from vidgen.checkpoints.memory import check_weights
from vidgen.checkpoints.weight_files import (
    OTHER_SUFFIXES,
    describe_bytes_of,
    describe_missing,
    describe_single_file,
)
from vidgen.errors import VidgenError, explained
from vidgen.models.placement import PlacedModule

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"
INDEX_NAME = f"{WEIGHTS_NAME}.index.json"
# By safetensors' names, for the memory that is needed; of any other type a value takes a byte at least.
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
FRACTIONS = ("F64", "F32", "BF16", "F16")  # what weights may be stored in
T = TypeVar("T", bound="Pretrained")
Config = TypeVar("Config")


def config_from_dict(config_class: type[Config], values: Mapping[str, Any], where: str) -> Config:
    """Return a config dataclass from JSON values; names that begin with an underscore are the layout's own.

    Raises VidgenError, naming `where`, for any other that is no field, and for values of the wrong type.
    """
    fields = {f.name: f for f in dataclasses.fields(config_class)}
    values = current_fields(config_class, {k: v for k, v in values.items() if not k.startswith("_")}, where)
    if unknown := sorted(set(values) - set(fields)):
        raise VidgenError(f"{where}: unknown keys {', '.join(unknown)}; {config_class.__name__} knows {sorted(fields)}")
    try:
        values = {k: tuple(v) if isinstance(v, list) else present_value(fields[k], v) for k, v in values.items()}
        return config_class(**values)
    except TypeError as error:
        raise VidgenError(f"{where}: a value of the wrong type ({error}); see {config_class.__name__}") from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Tensors on disk: `homes` is the file of each by its name, `where` the whole as errors call it."""

    where: Path
    homes: dict[str, Path]

    def check(self, expected: Mapping[str, torch.Tensor]) -> None:
        """Raise VidgenError, before any tensor is read, unless names, shapes and kinds of numbers are those expected.

        Weights may be in any dtype with a fraction and 16 bits or more; whole numbers are in their own.
        """
        missing, extra = sorted(set(expected) - set(self.homes)), sorted(set(self.homes) - set(expected))
        if missing or extra:
            problem = f"missing {missing[:3]}" if missing else f"unexpected {extra[:3]}"
            raise VidgenError(f"{self.where}: {problem} ({len(missing)} missing, {len(extra)} unexpected); wrong model")
        for path, names, file in self._files():
            for name in names:
                stored = file.get_slice(name)
                shape = tuple(stored.get_shape())
                if shape != tuple(expected[name].shape):
                    wanted = tuple(expected[name].shape)
                    raise VidgenError(f"{path}: {name} has shape {shape}, the config asks for {wanted}")
                check_kind(path, name, stored.get_dtype(), expected[name].dtype)

    def check_memory(self, dtype: torch.dtype | None, device: str) -> None:
        """Raise VidgenError if the tensors, in `dtype`, are more than the memory that is free on `device`."""
        check_weights(self.where, self.sizes(), dtype, device)

    def check_fractions(self) -> None:
        """Raise VidgenError for a weight or bias that is stored as whole numbers, or in 8 bits."""
        for path, names, file in self._files():
            for name in names:
                if name.endswith(("weight", "bias")):
                    check_kind(path, name, file.get_slice(name).get_dtype(), torch.float32)

    def sizes(self) -> Iterator[tuple[int, torch.dtype]]:
        """Yield of every tensor its number of elements, and its dtype on disk."""
        for _, names, file in self._files():
            for part in map(file.get_slice, names):
                yield math.prod(part.get_shape()), DTYPES.get(part.get_dtype(), torch.uint8)

    def read(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield every tensor with its name; of a file that is mapped, not copied."""
        for _, names, file in self._files():
            for name in names:
                yield name, file.get_tensor(name)

    def _files(self) -> Iterator[tuple[Path, list[str], Any]]:
        for path in sorted(set(self.homes.values())):
            with opened(path) as file:
                yield path, sorted(name for name, home in self.homes.items() if home == path), file


def check_kind(path: Path, name: str, stored: str, expected: torch.dtype) -> None:
    """Raise VidgenError for a tensor that is `stored`, in safetensors' words, as another kind of numbers."""
    if expected.is_floating_point:
        if stored not in FRACTIONS:
            raise VidgenError(
                f"{path}: {name} is stored as {stored}, and weights are read of {', '.join(FRACTIONS)}; take the "
                "model in one of these"
            )
    elif DTYPES.get(stored) != expected:
        raise VidgenError(f"{path}: {name} is stored as {stored}, not as {expected}; wrong model, or damaged")


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file. Raises VidgenError if it is missing or not whole."""
    try:
        check_regular(path)
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError:
        reason = describe_missing(path.parent, path.name) or "the model folder is incomplete"
        raise VidgenError(f"{path} is missing; {reason}") from None
    except VidgenError:
        raise
    except (SafetensorError, OSError) as error:
        reason = describe_bytes_of(path)
        if reason is not None:
            raise VidgenError(f"{path} is {reason}") from None
        raise VidgenError(f"{path} is not a whole safetensors file ({error}); fetch or save it again") from None


def find_checkpoint(place: Path, name: str = WEIGHTS_NAME) -> Checkpoint:
    """Return the tensors of a file, or of a folder: of its one file `name`, or of the shards that its index names.

    Raises VidgenError for a file or shard that is missing or damaged.
    """
    index = place / f"{name}.index.json"
    if not place.is_dir() or not index.exists():
        file = place / name if place.is_dir() else place
        return Checkpoint(where=file, homes=_homes([file]))
    if (place / name).exists():
        raise VidgenError(f"{place / name} and the shards of {index.name} beside it may differ; take one of them away")
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(n, str) and Path(n).name == n for n in listed.values()):
        raise VidgenError(f"{index} has no weight_map of file names; the model folder is damaged")
    shards = sorted(set(listed.values()))
    if absent := [name for name in shards if not (place / name).is_file()]:
        raise VidgenError(f"{index}: shard {absent[0]} is missing ({len(absent)} of {len(shards)} are); fetch it again")
    homes = _homes([place / name for name in shards])
    if lost := sorted(name for name, shard in listed.items() if homes.get(name) != place / shard):
        raise VidgenError(f"{index}: {lost[0]} is not in {listed[lost[0]]} as it says; the model folder is damaged")
    return Checkpoint(where=index, homes=homes)


def _homes(files: list[Path]) -> dict[str, Path]:
    """Return the file of each tensor. Raises VidgenError for a damaged file, or one that was not published so."""
    check_sums(files)
    homes: dict[str, Path] = {}
    for path in files:
        with opened(path) as file:
            homes.update(dict.fromkeys(file.keys(), path))
    return homes


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

    def save_pretrained(self, folder: str | os.PathLike, *, dtype: torch.dtype | None = None) -> None:
        """Write config.json and the weights (in `dtype` if given) to `folder`, all or nothing."""
        tensors = {
            k: v.detach().to("cpu", dtype if v.is_floating_point() else None) for k, v in self.state_dict().items()
        }
        Path(folder).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder) as target:
            target.mkdir()
            save_file({k: v.clone().contiguous() for k, v in tensors.items()}, target / WEIGHTS_NAME)
            config = {"_class_name": type(self).__name__, **dataclasses.asdict(self.config)}
            (target / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def parse_config(cls, values: Mapping[str, Any], where: str) -> Any:
        """Return the config in `values`, as config.json has them. Raises VidgenError, naming `where`, if it is none."""
        return config_from_dict(cls.config_class, values, where)

    @classmethod
    def from_pretrained(
        cls: type[T], folder: str | os.PathLike, *, dtype: torch.dtype | None = None, device: str = "cpu"
    ) -> T:
        """Return the model in `folder`, in evaluation mode and without gradients; `requires_grad_(True)` to train it.

        `folder` may also be a single safetensors file with a config, see `read_config`. Raises VidgenError if the
        folder, a key or a shape is not as the class needs it, before a tensor is read.
        """
        folder = Path(folder)
        values = read_config(folder)
        class_name = read_class(values, folder)
        if class_name not in (cls.__name__, *cls.former_names):
            raise VidgenError(f"{folder} holds a {class_name}, not a {cls.__name__}")
        config = cls.parse_config(values, str(folder / CONFIG_NAME))
        with explained(f"{folder / CONFIG_NAME} makes no {cls.__name__}"), init_empty_weights():
            model = cls(config)
        targets = model.state_dict()
        checkpoint = find_checkpoint(folder)
        checkpoint.check(targets)
        checkpoint.check_memory(dtype, device)
        tensors = {name: put(tensor, targets[name], dtype, device) for name, tensor in checkpoint.read()}
        model.load_state_dict(tensors, strict=True, assign=True)
        return model.eval().requires_grad_(False)
