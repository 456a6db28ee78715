"""Files of LoRA weights in the forms that are published: which key changes what, and how strongly."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from vidgen.bounds import Range, Width, check_fields
from vidgen.checkpoints.checkpoint import opened
from vidgen.checkpoints.hub import find_model
from vidgen.errors import VidgenError
from vidgen.files.bounded_files import parse_json, read_json
from vidgen.files.checksums import check_sums
from vidgen.files.interrupts import signals_held
from vidgen.lora.file_keys import WORDS, parse_key, refuse_kind

FILE_NAMES = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors")  # peft's, diffusers'
CONFIG_NAME = "adapter_config.json"
METADATA_KEY = "lora_adapter_metadata"  # of diffusers: the same settings in the file's header

Alpha = Annotated[float, Range(-1e9, 1e9)]


@dataclass(frozen=True, kw_only=True)
class Delta:
    """A change of the weight or bias that a file calls `name`: `factor` times up down, or times `up` alone.

    `factor` is alpha / r. With a `magnitude` the changed weight has that norm over its inputs, a number for each output
    (Liu et al. 2024, DoRA, eq. 5), or over its outputs, a row of numbers. `key` is one of the file's keys, for errors.
    """

    key: str
    name: str
    up: Tensor
    down: Tensor | None = None
    factor: float = 1.0
    magnitude: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the change, without ones at its end: a layer over single positions may be written with or without
        their axes."""
        if self.down is None:
            return without_ones(tuple(self.up.shape))
        return without_ones((self.up.shape[0], *self.down.shape[1:]))

    def value(self, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the low-rank change itself (Hu et al. 2022, LoRA, eq. 3: alpha / r B A), as a tensor of `shape`."""
        up = self.up.to(device, dtype)
        if self.down is not None:
            up = up.flatten(1) @ self.down.to(device, dtype).flatten(1)
        return self.factor * up.reshape(shape)


def without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without the ones at its end."""
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings that go with a file's tensors, in peft's words; `where` is how errors call their source."""

    where: str
    r: Width | None = None
    lora_alpha: Alpha | None = None
    use_rslora: bool = False
    use_dora: bool = False
    rank_pattern: dict[str, Width] = field(default_factory=dict)
    alpha_pattern: dict[str, Alpha] = field(default_factory=dict)

    def of(self, layer: str) -> tuple[int | None, float | None]:
        """Return rank and alpha of a layer, None where the file has none; patterns match whole names, or their ends.

        Raises VidgenError for a pattern that is no regular expression.
        """

        def find(pattern: dict[str, Any], default: Any) -> Any:
            hits = (value for key, value in pattern.items() if re.fullmatch(rf"(.*\.)?({key})", layer))
            return next(hits, default)

        try:
            return find(self.rank_pattern, self.r), find(self.alpha_pattern, self.lora_alpha)
        except re.error as error:
            raise VidgenError(f"{self.where}: a pattern that is none ({error}); the file is damaged") from None

    @staticmethod
    def parse(values: dict[str, Any], where: str) -> Settings:
        """Return the settings in peft's values.

        Raises VidgenError for values of other types, and for kinds of adapters that are not low-rank changes.
        """
        if values.get("peft_type", "LORA") != "LORA":
            raise refuse_kind(where, values["peft_type"], "what it describes")
        settings = {key: values[key] for key in Settings.__dataclass_fields__ if values.get(key) is not None}
        parsed = Settings(**{**settings, "where": where})
        check_fields(parsed, f"{where}: ")
        return parsed


def find_lora(name: str | os.PathLike) -> Path:
    """Return the safetensors file of a LoRA: itself, the one in a folder, or that of a hub id "owner/name".

    Raises VidgenError if there is none, or several with none of the usual names.
    """
    name = os.fspath(name)
    path = Path(name)
    if not path.exists():
        if name.count("/") != 1 or name.startswith((".", "/", "~")) or path.suffix:
            raise VidgenError(f"LoRA {name!r} is neither a file nor a folder; check the path")
        path = find_model(name)
    if path.is_file():
        return path
    files = [path / usual for usual in FILE_NAMES if (path / usual).is_file()] or sorted(path.glob("*.safetensors"))
    if len(files) != 1:
        what = f"several: {', '.join(file.name for file in files[:4])}" if files else "none"
        raise VidgenError(f"{path}: one safetensors file of LoRA weights is wanted, it has {what}; name the file")
    return files[0]


def read_settings(path: Path, metadata: dict[str, str], part: str | None) -> Settings:
    """Return those in the file's header, where diffusers writes them; else those of peft's file beside it, if there is
    one. Raises VidgenError for a damaged header or file."""
    if METADATA_KEY in metadata:
        where = f"{path}: {METADATA_KEY}"
        try:
            values = parse_json(metadata[METADATA_KEY])
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise VidgenError(f"{where} is no JSON object; the file is damaged")
        start = f"{part}."
        of_part = {key.removeprefix(start): value for key, value in values.items() if key.startswith(start)}
        return Settings.parse(of_part or values, where)
    config = path.with_name(CONFIG_NAME)
    return Settings.parse(read_json(config), str(config)) if config.is_file() else Settings(where=str(path))


def parts_of(path: Path) -> set[str]:
    """Return the parts of a pipeline that a file's keys name. Raises VidgenError for keys of no known kind."""
    with opened(path) as file:
        return {part for part in (parse_key(path, name).part for name in file.keys()) if part is not None}


def read_lora(path: Path, part: str | None = None) -> list[Delta]:
    """Return the changes of a file, its tensors checked against each other and against its settings, if it has any.

    `part` names the part of a pipeline ("transformer") to read of a file that changes several. Raises VidgenError for
    keys of no known kind or without their counterpart, ranks that differ, values that are not finite, and several parts
    with none named.
    """
    check_sums([path])
    with opened(path) as file:
        keys = [parse_key(path, name) for name in sorted(file.keys())]
        parts = {key.part: key.name for key in keys}
        if part is not None:
            keys = [key for key in keys if key.part in (part, None)]
        elif len(parts) > 1:
            names = ", ".join(f"{name!r}" for name in parts.values())
            raise VidgenError(f"{path} changes several networks, as its keys {names} say; name one by `part`")
        if not keys:
            raise VidgenError(f"{path} has no LoRA weights{f' for {part}' if part else ''}; another file is meant")
        settings = read_settings(path, file.metadata() or {}, part or next(iter(parts)))
        groups: dict[str, dict[str, str]] = {}
        for key in keys:
            group = groups.setdefault(key.layer, {})
            if key.kind in group:
                raise VidgenError(f"{path}: {group[key.kind]!r} and {key.name!r} say the same; keep one of them")
            group[key.kind] = key.name
        deltas = []
        for layer, group in groups.items():
            tensors = {kind: (name, read_numbers(path, file, name)) for kind, name in group.items()}
            deltas += layer_deltas(path, layer, tensors, settings)
    return deltas


def read_numbers(path: Path, file: Any, name: str) -> Tensor:
    """Return a tensor of a file: of floating-point numbers, those of less than 16 bits as float32, whole ones as they
    are. Raises VidgenError for numbers that are not finite."""
    try:
        # Cloned: a tensor of a mapped file would keep in memory all that was read of it.
        with signals_held():
            tensor = file.get_tensor(name).clone()
        if tensor.is_floating_point() and tensor.element_size() < 2:
            tensor = tensor.float()
        finite = not tensor.is_complex() and bool(tensor.isfinite().all())
    except (RuntimeError, NotImplementedError, TypeError, AttributeError, KeyError) as error:
        line = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise VidgenError(f"{path}: {name!r} is of a type that is not read ({line}); convert it to bfloat16") from None
    if not finite:
        raise VidgenError(f"{path}: {name!r} holds what are no finite numbers; the file is damaged")
    return tensor


def layer_deltas(path: Path, layer: str, tensors: dict[str, tuple[str, Tensor]], settings: Settings) -> Iterator[Delta]:
    """Yield the changes of one layer. Raises VidgenError where its tensors do not belong together."""
    for key, value in (pair for kind, pair in tensors.items() if kind != "alpha"):
        if not value.is_floating_point():
            raise VidgenError(
                f"{path}: {key!r} is of {str(value.dtype).removeprefix('torch.')}, not of floating-point numbers; "
                "a quantized file is not read: take it in bfloat16"
            )
    for kind, name in (("weight", "weight"), ("bias", "bias"), ("modulation", "modulation.weight")):
        if kind in tensors:
            key, value = tensors[kind]
            yield Delta(key=key, name=f"{layer}.{name}", up=value)
    pairs = {"down": "up", "up": "down", "alpha": "up", "up_bias": "up", "magnitude": "up"}
    for kind, other in (pairs | {"down_scale": "down", "up_scale": "up"}).items():
        if kind in tensors and other not in tensors:
            raise VidgenError(f"{path}: {tensors[kind][0]!r} stands without its {WORDS[other]}; the file is cut")
    if "up" not in tensors:
        return
    (key, up), (down_key, down) = (dequantized(path, tensors, kind) for kind in ("up", "down"))
    rank = down.shape[0]
    set_rank, alpha = settings.of(layer)
    if min(up.ndim, down.ndim) < 2 or rank < 1 or up.shape[1] != rank or math.prod(up.shape[2:]) != 1:
        raise VidgenError(f"{path}: {down_key!r} {tuple(down.shape)} and {key!r} {tuple(up.shape)} differ in rank")
    if set_rank is not None and set_rank != rank:
        raise VidgenError(f"{path}: {down_key!r} has rank {rank}, {settings.where} says r={set_rank}")
    if "alpha" in tensors:
        if tensors["alpha"][1].numel() != 1:
            raise VidgenError(f"{path}: {tensors['alpha'][0]!r} is not one number; the file is damaged")
        alpha = float(tensors["alpha"][1])
    # With rsLoRA alpha / sqrt(r) (Kalajdzievski 2023, eq. 4). Files that say no alpha mean alpha = r.
    factor = (rank if alpha is None else alpha) / (math.sqrt(rank) if settings.use_rslora else rank)
    magnitude = read_magnitude(path, tensors)
    if settings.use_dora and magnitude is None:
        raise VidgenError(
            f"{path}: {settings.where} says DoRA, and {key!r} has no magnitude beside it; the file is cut"
        )
    yield Delta(key=key, name=f"{layer}.weight", up=up, down=down, factor=factor, magnitude=magnitude)
    if "up_bias" in tensors:
        bias_key, bias = tensors["up_bias"]
        yield Delta(key=bias_key, name=f"{layer}.bias", up=bias, factor=factor)


def dequantized(path: Path, tensors: dict[str, tuple[str, Tensor]], kind: str) -> tuple[str, Tensor]:
    """Return a factor with its key, times the scale beside it, if there is one: of all of it, or of each row."""
    key, value = tensors[kind]
    if f"{kind}_scale" not in tensors:
        return key, value
    scale_key, scale = tensors[f"{kind}_scale"]
    if scale.numel() not in (1, len(value)):
        raise VidgenError(f"{path}: {scale_key!r} {tuple(scale.shape)} is no scale of {key!r} {tuple(value.shape)}")
    return key, value.float() * scale.float().reshape(-1, *[1] * (value.ndim - 1))


def read_magnitude(path: Path, tensors: dict[str, tuple[str, Tensor]]) -> Tensor | None:
    """Return the magnitude of a DoRA as (out, 1) or (1, in), None without one. Raises VidgenError for other shapes."""
    if "magnitude" not in tensors:
        return None
    key, value = tensors["magnitude"]
    outs, ins = len(tensors["up"][1]), math.prod(tensors["down"][1].shape[1:])
    matrix = value.reshape(1, -1) if value.ndim > 1 and len(value) == 1 else value.reshape(-1, 1)
    if tuple(matrix.shape) not in ((outs, 1), (1, ins)):
        raise VidgenError(f"{path}: {key!r} {tuple(value.shape)} is no magnitude of a layer of {ins} to {outs}")
    return matrix
