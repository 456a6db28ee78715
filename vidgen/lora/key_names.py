"""Names of a network's layers in LoRA files: its own, diffusers', and those that it was published under."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Place:
    """The parameter that a name in a LoRA file is of, or `rows` of one that holds several (outputs of fused layers).

    Where our tensor has another layout than that of the published checkpoint, `shape` is the published one, and `fit`
    brings the published tensor into ours, by another order of rows for example. It is applied to the change, so it must
    be linear.
    """

    parameter: str
    rows: slice | None = None
    shape: tuple[int, ...] | None = None
    fit: Callable[[Tensor], Tensor] | None = None


class CheckpointKey(Protocol):
    """An entry of a key map: the published tensor `name`, and the tensor of ours, or rows of it, that it is."""

    ours: str
    name: str
    shape: tuple[int, ...]
    rows: slice | None

    def to_ours(self, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the published tensor as ours, in its `shape`."""
        ...


@runtime_checkable
class PublishedNetwork(Protocol):
    """A network of ours that is read from checkpoints of `published_class`, by a key map."""

    published_class: str

    def published_keys(self) -> Iterable[CheckpointKey]:
        """Return the tensors of the published class, each with its place in this network."""
        ...


# Layers that hold several, by the last part of their name, and what these are called alone; in order of rows.
FUSED = {"to_kv": ("to_k", "to_v"), "to_qkv": ("to_q", "to_k", "to_v")}

Renames = tuple[tuple[str, str], ...]  # patterns and what takes their place, all of them tried in order

# diffusers' names -> those of the files that Wan was published in.
WAN: Renames = (
    (r"\battn1\b", "self_attn"),
    (r"\battn2\b", "cross_attn"),
    (r"\bto_([qkv])$", r"\1"),
    (r"\bto_out\.0$", "o"),
    (r"\badd_([kv])_proj$", r"\1_img"),
    (r"\bnorm_added_k$", "norm_k_img"),
    (r"^(blocks\.\d+)\.norm2$", r"\1.norm3"),
    (r"^(blocks\.\d+)\.ffn\.net\.0\.proj$", r"\1.ffn.0"),
    (r"^(blocks\.\d+)\.ffn\.net\.2$", r"\1.ffn.2"),
    (r"^condition_embedder\.(text|time)_embedder\.linear_1$", r"\1_embedding.0"),
    (r"^condition_embedder\.(text|time)_embedder\.linear_2$", r"\1_embedding.2"),
    (r"^condition_embedder\.time_proj$", "time_projection.1"),
    (r"^condition_embedder\.image_embedder\.norm1$", "img_emb.proj.0"),
    (r"^condition_embedder\.image_embedder\.ff\.net\.0\.proj$", "img_emb.proj.1"),
    (r"^condition_embedder\.image_embedder\.ff\.net\.2$", "img_emb.proj.3"),
    (r"^condition_embedder\.image_embedder\.norm2$", "img_emb.proj.4"),
    (r"^proj_out$", "head.head"),
    (r"^(blocks\.\d+)\.scale_shift_table$", r"\1.modulation"),
    (r"^scale_shift_table$", "head.modulation"),
)
LTX: Renames = (
    (r"^proj_in$", "patchify_proj"),
    (r"^time_embed\b", "adaln_single"),
    (r"\bnorm_([qk])$", r"\1_norm"),
)
# By the class that the left-hand names are of.
ALIASES: dict[str, Renames] = {"WanTransformer3DModel": WAN, "LTXVideoTransformer3DModel": LTX}


def rename(name: str, renames: Renames) -> str:
    """Return a name after all replacements."""
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name


def layer_name(parameter: str) -> str:
    """Return the name of a parameter as one of a layer: those that are neither weight nor bias are a layer's weight."""
    return parameter if parameter.rpartition(".")[2] in ("weight", "bias") else f"{parameter}.weight"


def own_places(network: nn.Module) -> Iterator[tuple[str, Place]]:
    """Yield the network's own names of its parameters (see `layer_name`), and of the parts of its fused layers."""
    for name, parameter in network.named_parameters(remove_duplicate=False):
        yield layer_name(name), Place(parameter=name)
        layer, _, kind = name.rpartition(".")
        above, dot, last = layer.rpartition(".")
        parts = FUSED.get(last, ())
        for k, alone in enumerate(parts):
            size = parameter.shape[0] // len(parts)
            yield f"{above}{dot}{alone}.{kind}", Place(parameter=name, rows=slice(k * size, (k + 1) * size))


def places_of_keys(keys: Iterable[CheckpointKey], network: nn.Module) -> dict[str, Place]:
    """Return the key map between `network` and a published checkpoint as names for LoRAs of the latter."""
    parameters = dict(network.named_parameters())
    table: dict[str, Place] = {}
    for key in keys:
        if key.ours in parameters:
            whole = parameters[key.ours]
            ours = tuple((whole if key.rows is None else whole[key.rows]).shape)
            fit = partial(key.to_ours, shape=ours)
            table[layer_name(key.name)] = Place(parameter=key.ours, rows=key.rows, shape=tuple(key.shape), fit=fit)
    return table


def with_aliases(table: dict[str, Place], class_name: str) -> dict[str, Place]:
    """Return the table with the names that layers of diffusers' class have elsewhere, and with underscores for dots in
    the names of layers, as some trainers write them."""
    places = dict(table)
    split = [(*name.rpartition(".")[::2], place) for name, place in table.items()]
    split += [(rename(layer, ALIASES.get(class_name, ())), kind, place) for layer, kind, place in split]
    for layer, kind, place in split:
        places.setdefault(f"{layer}.{kind}", place)
    for layer, kind, place in split:
        places.setdefault(f"{layer.replace('.', '_')}.{kind}", place)
    return places


def published_places(network: nn.Module) -> dict[str, Place]:
    """Return what LoRAs of a published model call the parameters of a network that was read from it."""
    if not isinstance(network, PublishedNetwork):
        return {}
    return with_aliases(places_of_keys(network.published_keys(), network), network.published_class)


def find_place(table: Mapping[str, Place | None], name: str) -> Place | None:
    """Return the place of a name, which some trainers write with dots and underscores mixed. KeyError if unknown."""
    if name in table:
        return table[name]
    layer, _, kind = name.rpartition(".")
    return table[f"{layer.replace('.', '_')}.{kind}"]


def has_place(table: Mapping[str, Place | None], name: str) -> bool:
    """Return whether `find_place` finds a name."""
    layer, _, kind = name.rpartition(".")
    return name in table or f"{layer.replace('.', '_')}.{kind}" in table


def find_places(network: nn.Module, names: Collection[str]) -> tuple[nn.Module, dict[str, Place]]:
    """Return the network that `names` are of, and its table: `network`, or a part of it that has more of them."""
    tables = [
        (module, published_places(module) | with_aliases(dict(own_places(module)), type(module).__name__))
        for module in (network, *network.children())
    ]
    return max(tables, key=lambda pair: sum(has_place(pair[1], name) for name in names))
