"""Files of LoRA weights in the forms that are published: which key changes what, and how strongly."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidgen.checkpoints.checksums import check_sums
from vidgen.checkpoints.hub import find_model
from vidgen.checkpoints.pretrained import opened, read_json
from vidgen.errors import VidgenError

FILE_NAMES = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors")  # peft's, diffusers'
CONFIG_NAME = "adapter_config.json"
METADATA_KEY = "lora_adapter_metadata"  # of diffusers: the same settings in the file's header

# How the end of a key says what it holds; `lora_A.default.weight` has the name of an adapter in it.
KINDS = {
    "down": r"lora_A(\.\w+)?\.weight|lora_down\.weight|lora\.down\.weight",
    "up": r"lora_B(\.\w+)?\.weight|lora_up\.weight|lora\.up\.weight",
    "up_bias": r"lora_B(\.\w+)?\.bias|lora_up\.bias",
    "alpha": r"alpha",
    "weight": r"diff",
    "bias": r"diff_b",
}
WORDS = {"down": "lora_A (lora_down)", "up": "lora_B (lora_up)"}
ENDINGS = {kind: re.compile(rf"(?P<layer>.+?)\.(?:{ending})") for kind, ending in KINDS.items()}
# How the start of a key says which part of a pipeline it is about; longer ones first where one begins another.
PREFIXES = {
    "model.diffusion_model.": "transformer",
    "diffusion_model.": "transformer",
    "transformer.": "transformer",
    "transformer_2.": "transformer_2",
    "text_encoder.": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
    "lora_unet_": "transformer",
    "lora_transformer_": "transformer",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
}
WRAPPER = "base_model.model."  # peft's own, around any network


@dataclass(frozen=True, kw_only=True)
class Delta:
    """What a file adds to the weight or bias that it calls `name`: `factor` times up down, or times `up` alone;
    `factor` is alpha / r. `key` is one of its keys, for errors."""

    key: str
    name: str
    up: Tensor
    down: Tensor | None = None
    factor: float = 1.0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is added; ones at its end are left out: a layer over single positions may be written with or without
        their axes."""
        if self.down is None:
            return without_ones(tuple(self.up.shape))
        return without_ones((self.up.shape[0], *self.down.shape[1:]))

    def value(self, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
        """The change itself (Hu et al. 2022, LoRA, eq. 3: alpha / r B A), as a tensor of `shape`."""
        up = self.up.to(device, dtype)
        if self.down is not None:
            up = up.flatten(1) @ self.down.to(device, dtype).flatten(1)
        return self.factor * up.reshape(shape)


def without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is said of a file beside its tensors, in peft's words; `where` is what errors call the place."""

    where: str
    r: int | None = None
    lora_alpha: float | None = None
    use_rslora: bool = False
    rank_pattern: dict[str, int] = field(default_factory=dict)
    alpha_pattern: dict[str, float] = field(default_factory=dict)

    def of(self, layer: str) -> tuple[int | None, float | None]:
        """Rank and alpha of a layer, None where nothing is said; patterns match whole names, or their ends."""

        def find(pattern: dict[str, Any], otherwise: Any) -> Any:
            hits = (value for key, value in pattern.items() if re.fullmatch(rf"(.*\.)?({key})", layer))
            return next(hits, otherwise)

        try:
            return find(self.rank_pattern, self.r), find(self.alpha_pattern, self.lora_alpha)
        except re.error as error:
            raise VidgenError(f"{self.where}: a pattern that is none ({error}); the file is damaged") from None

    @staticmethod
    def parse(values: dict[str, Any], where: str) -> Settings:
        """Raises VidgenError for values of other types, and for kinds of adapters that are not low-rank changes."""
        if values.get("use_dora") or values.get("peft_type", "LORA") != "LORA":
            kind = "DoRA" if values.get("use_dora") else values["peft_type"]
            raise VidgenError(f"{where}: adapters of kind {kind} are not supported, only LoRA")
        known = {key: values[key] for key in Settings.__dataclass_fields__ if values.get(key) is not None}
        types = {"r": int, "lora_alpha": (int, float), "use_rslora": bool, "rank_pattern": dict, "alpha_pattern": dict}
        for key, kinds in types.items():
            if key in known and (not isinstance(known[key], kinds) or isinstance(known[key], bool) != (kinds is bool)):
                raise VidgenError(f"{where}: {key}={known[key]!r} is not what peft writes there; the file is damaged")
        numbers = [known.get("lora_alpha", 0), *known.get("alpha_pattern", {}).values()]
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in numbers):
            raise VidgenError(f"{where}: an alpha that is no finite number; the file is damaged")
        return Settings(**{**known, "where": where})


def find_lora(name: str | os.PathLike) -> Path:
    """The safetensors file of a LoRA: itself, the one in a folder, or that of a hub id "owner/name".

    Raises VidgenError if there is none, or several with none of the usual names.
    """
    name, place = os.fspath(name), Path(name)
    if not place.exists():
        if name.count("/") != 1 or name.startswith((".", "/", "~")) or place.suffix:
            raise VidgenError(f"LoRA {name!r} is neither a file nor a folder; check the path")
        place = find_model(name)
    if place.is_file():
        return place
    found = [place / known for known in FILE_NAMES if (place / known).is_file()] or sorted(place.glob("*.safetensors"))
    if len(found) != 1:
        what = f"several: {', '.join(path.name for path in found[:4])}" if found else "none"
        raise VidgenError(f"{place}: one safetensors file of LoRA weights is wanted, it has {what}; name the file")
    return found[0]


def read_settings(path: Path, metadata: dict[str, str], part: str | None) -> Settings:
    """Those in the file's header, where diffusers writes them; else those of peft's file beside it, if there is one."""
    if METADATA_KEY in metadata:
        where = f"{path}: {METADATA_KEY}"
        try:
            values = json.loads(metadata[METADATA_KEY])
        except json.JSONDecodeError:
            values = None
        if not isinstance(values, dict):
            raise VidgenError(f"{where} is no JSON object; the file is damaged")
        start = f"{part}."
        own = {key.removeprefix(start): value for key, value in values.items() if key.startswith(start)}
        return Settings.parse(own or values, where)
    config = path.with_name(CONFIG_NAME)
    return Settings.parse(read_json(config), str(config)) if config.is_file() else Settings(where=str(path))


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key of a file, taken apart."""

    name: str
    part: str | None
    layer: str
    kind: str


def parse_key(path: Path, name: str) -> Key:
    """Raises VidgenError for a key that says nothing known."""
    rest, part = name.removeprefix(WRAPPER), None
    for prefix, meant in PREFIXES.items():
        if rest.startswith(prefix):
            rest, part = rest.removeprefix(prefix), meant
            break
    for kind, ending in ENDINGS.items():
        if match := ending.fullmatch(rest):
            return Key(name=name, part=part, layer=match["layer"], kind=kind)
    raise VidgenError(
        f"{path}: key {name!r} is not supported; read are lora_A and lora_B, lora_down and lora_up, alpha, diff, diff_b"
    )


def read_lora(path: Path, part: str | None = None) -> list[Delta]:
    """What the file changes, its tensors checked against each other and, where it says so itself, its settings.

    `part` names the part of a pipeline ("transformer") that is wanted of a file that is about several. Raises
    VidgenError for keys that are not known or stand alone, ranks that differ, values that are not finite, and several
    parts with none named.
    """
    check_sums([path])
    with opened(path) as file:
        keys = [parse_key(path, name) for name in sorted(file.keys())]
        parts = {key.part: key.name for key in keys}
        if part is not None:
            keys = [key for key in keys if key.part in (part, None)]
        elif len(parts) > 1:
            said = ", ".join(f"{name!r}" for name in parts.values())
            raise VidgenError(f"{path} changes several networks, as its keys {said} say; name one by `part`")
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
            # Cloned: a tensor of a mapped file would keep in memory all that was read of it.
            tensors = {kind: (name, file.get_tensor(name).clone()) for kind, name in group.items()}
            for name, tensor in tensors.values():
                if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
                    raise VidgenError(f"{path}: {name!r} holds what are no finite numbers; the file is damaged")
            deltas += layer_deltas(path, layer, tensors, settings)
    return deltas


def layer_deltas(path: Path, layer: str, tensors: dict[str, tuple[str, Tensor]], settings: Settings) -> Iterator[Delta]:
    """The changes of one layer. Raises VidgenError where its tensors do not belong together."""
    for kind in ("weight", "bias"):
        if kind in tensors:
            key, value = tensors[kind]
            yield Delta(key=key, name=f"{layer}.{kind}", up=value)
    for kind, other in (("down", "up"), ("up", "down"), ("alpha", "up"), ("up_bias", "up")):
        if kind in tensors and other not in tensors:
            raise VidgenError(f"{path}: {tensors[kind][0]!r} stands without its {WORDS[other]}; the file is cut")
    if "up" not in tensors:
        return
    (key, up), (down_key, down) = tensors["up"], tensors["down"]
    rank, (said, alpha) = down.shape[0], settings.of(layer)
    if min(up.ndim, down.ndim) < 2 or rank < 1 or up.shape[1] != rank or math.prod(up.shape[2:]) != 1:
        raise VidgenError(f"{path}: {down_key!r} {tuple(down.shape)} and {key!r} {tuple(up.shape)} differ in rank")
    if said is not None and said != rank:
        raise VidgenError(f"{path}: {down_key!r} has rank {rank}, {settings.where} says r={said}")
    if "alpha" in tensors:
        if tensors["alpha"][1].numel() != 1:
            raise VidgenError(f"{path}: {tensors['alpha'][0]!r} is not one number; the file is damaged")
        alpha = tensors["alpha"][1].item()
    # With rsLoRA alpha / sqrt(r) (Kalajdzievski 2023, eq. 4). Files that say no alpha mean alpha = r.
    factor = (rank if alpha is None else alpha) / (math.sqrt(rank) if settings.use_rslora else rank)
    yield Delta(key=key, name=f"{layer}.weight", up=up, down=down, factor=factor)
    if "up_bias" in tensors:
        bias_key, bias = tensors["up_bias"]
        yield Delta(key=bias_key, name=f"{layer}.bias", up=bias, factor=factor)
