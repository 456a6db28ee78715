"""The tensors of a checkpoint on disk: which file holds which, checked before any is read; one file, or shards."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vidgen.checkpoints.memory import check_weights
from vidgen.checkpoints.weight_files import describe_bytes_of, describe_missing
from vidgen.errors import VidgenError
from vidgen.files.bounded_files import check_regular, read_json
from vidgen.files.checksums import check_sums
from vidgen.files.interrupts import signals_held

WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"
LARGEST_SHARD = "10GB"  # as diffusers writes them
# By safetensors' names, for the memory that is needed; of any other type a value takes a byte at least.
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
FRACTIONS = ("F64", "F32", "BF16", "F16")  # what weights may be stored in


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
                with signals_held():
                    tensor = file.get_tensor(name)
                yield name, tensor

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
    except MemoryError:
        raise VidgenError(f"{path}: no memory is left to map it; end other programs, or take a smaller model") from None
    except (SafetensorError, OSError) as error:
        reason = describe_bytes_of(path)
        if reason is not None:
            raise VidgenError(f"{path} is {reason}") from None
        raise VidgenError(f"{path} is not a whole safetensors file ({error}); fetch or save it again") from None


def find_checkpoint(place: Path, name: str = WEIGHTS_NAME, variant: str | None = None) -> Checkpoint:
    """Return the tensors of a file, or of a folder: of its one file `name`, or of the shards that its index names.

    `variant` is a word in the names of a folder's files, as "fp16". Raises VidgenError for a file or shard that is
    missing or damaged.
    """
    index = place / index_name(name, variant)
    name = weights_name(name, variant)
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


def weights_name(name: str, variant: str | None) -> str:
    """Return the file of a variant: "model.safetensors" is "model.fp16.safetensors". Raises VidgenError for a variant
    that is no word."""
    if variant is None:
        return name
    if not re.fullmatch(r"\w[\w-]*", variant):
        raise VidgenError(f"variant {variant!r} is no word such as fp16")
    stem, suffix = name.rsplit(".", 1)
    return f"{stem}.{variant}.{suffix}"


def index_name(name: str, variant: str | None) -> str:
    """Return the index of a variant's shards: "model.safetensors" has "model.safetensors.index.fp16.json"."""
    return f"{name}.index.json" if variant is None else f"{name}.index.{variant}.json"


def save_shards(
    tensors: Mapping[str, torch.Tensor],
    folder: Path,
    name: str,
    *,
    variant: str | None = None,
    max_shard_size: int | str = LARGEST_SHARD,
) -> None:
    """Write tensors to one file in an empty folder, or to several of at most `max_shard_size`, with their index.

    Args:
        tensors: by name; each is copied, so that none that share memory are stored wrong.
        folder: where to.
        name: of the file, where it is one.
        variant: a word in the files' names, as "fp16".
        max_shard_size: in bytes, or as "5GB".
    """
    from huggingface_hub import split_torch_state_dict_into_shards

    stem, suffix = weights_name(name, variant).rsplit(".", 1)
    try:
        plan = split_torch_state_dict_into_shards(
            dict(tensors), filename_pattern=f"{stem}{{suffix}}.{suffix}", max_shard_size=max_shard_size
        )
    except ValueError as error:
        raise VidgenError(f"max_shard_size {max_shard_size!r} is no size ({error}); give one such as 5GB") from None
    for file, names in plan.filename_to_tensors.items():
        save_file({key: tensors[key].clone().contiguous() for key in names}, folder / file)
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (folder / index_name(name, variant)).write_text(text, encoding="utf-8")
