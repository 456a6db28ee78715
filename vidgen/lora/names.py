"""What LoRA files call the layers of a network: its own names, diffusers', and those that it was published under."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a name in a LoRA file points: a layer, or of one that holds several, part `part` of `parts` equal ones, by
    the rows (outputs) of its weight.

    `fit`: what a reader of checkpoints does to a weight of that name on its way into the layer, such as another order
    of rows. It must be linear: it is done to the change of the weight.
    """

    layer: str
    part: int = 0
    parts: int = 1
    fit: Callable[[Tensor], Tensor] | None = None


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
)
LTX: Renames = (
    (r"^proj_in$", "patchify_proj"),
    (r"^time_embed\b", "adaln_single"),
    (r"\bnorm_([qk])$", r"\1_norm"),
)
# Ours -> diffusers' Wan, whose blocks have the same layers.
OURS: Renames = (
    (r"^(blocks\.\d+)\.attention\b", r"\1.attn1"),
    (r"^(blocks\.\d+)\.cross\b", r"\1.attn2"),
    (r"^(blocks\.\d+\.attn\d)\.out$", r"\1.to_out.0"),
    (r"^(blocks\.\d+)\.mlp\.up$", r"\1.ffn.net.0.proj"),
    (r"^(blocks\.\d+)\.mlp\.down$", r"\1.ffn.net.2"),
)
# By class: one step of renaming after the other, each result a name of its own.
ALIASES: dict[str, tuple[Renames, ...]] = {
    "VideoDiT": (OURS, WAN),
    "WanTransformer3DModel": (WAN,),
    "LTXVideoTransformer3DModel": (LTX,),
}


def rename(name: str, renames: Renames) -> str:
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name


def own_places(network: nn.Module) -> Iterator[tuple[str, Place]]:
    """The network's own names of its layers that have a weight, and those of the layers that some hold fused."""
    for path, module in network.named_modules():
        if isinstance(getattr(module, "weight", None), nn.Parameter):
            yield path, Place(layer=path)
            above, dot, last = path.rpartition(".")
            parts = FUSED.get(last, ())
            for k, alone in enumerate(parts):
                yield f"{above}{dot}{alone}", Place(layer=path, part=k, parts=len(parts))


def name_places(network: nn.Module) -> dict[str, Place]:
    """Every name by which a file may speak of a layer of `network`, underscores for dots included, as some write it."""
    spoken = list(own_places(network))
    table = dict(spoken)
    for step in ALIASES.get(type(network).__name__, ()):
        spoken = [(rename(name, step), place) for name, place in spoken]
        for name, place in spoken:
            table.setdefault(name, place)
    for name, place in list(table.items()):
        table.setdefault(name.replace(".", "_"), place)
    return table


def find_places(network: nn.Module, names: Collection[str]) -> tuple[nn.Module, dict[str, Place]]:
    """The network that `names` speak of, and its table: `network`, or one that it holds, if that knows more of them."""
    tables = [(module, name_places(module)) for module in (network, *network.children())]
    return max(tables, key=lambda found: sum(name in found[1] for name in names))
