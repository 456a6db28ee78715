"""The one key map between our WanTransformer and diffusers' WanTransformer3DModel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vidgen.checkpoints.key_maps import Key, Order

if TYPE_CHECKING:
    from vidgen.pipelines.wan.transformer import WanTransformer

# Layers with a weight and a bias, ours and theirs.
ENDS = {
    "patch_in": "patch_embedding",
    "level.0": "condition_embedder.time_embedder.linear_1",
    "level.2": "condition_embedder.time_embedder.linear_2",
    "modulation": "condition_embedder.time_proj",
    "text_in.0": "condition_embedder.text_embedder.linear_1",
    "text_in.2": "condition_embedder.text_embedder.linear_2",
    "patch_out": "proj_out",
}
IN_BLOCKS = {
    "attention.out": "attn1.to_out.0",
    "norm_text": "norm2",
    "cross.out": "attn2.to_out.0",
    "mlp.up": "ffn.net.0.proj",
    "mlp.down": "ffn.net.2",
}
ATTENTIONS = {"attention": "attn1", "cross": "attn2"}
# Our layers of queries, keys and values, each with the checkpoint's layers that fill it, in the order of its rows.
PRODUCTS = {"to_qkv": ("to_q", "to_k", "to_v"), "to_q": ("to_q",), "to_kv": ("to_k", "to_v")}


def match_transformer_keys(model: WanTransformer) -> list[Key]:
    """Return one `Key` per checkpoint tensor, naming the tensor of `model` that it fills."""
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    return [key for name, shape in shapes.items() for key in keys_of(name, shape, model)]


def keys_of(name: str, shape: tuple[int, ...], model: WanTransformer) -> Iterator[Key]:
    """Yield the tensors of theirs that our tensor `name` is made of."""
    path, _, kind = name.rpartition(".")
    start, inside = "", path
    if path.startswith("blocks."):
        _, number, *rest = path.split(".")
        start, inside = f"blocks.{number}.", ".".join(rest)
    attention, _, part = inside.partition(".")
    if attention in ATTENTIONS and part != "out":
        yield from attention_keys(name, shape, f"{start}{ATTENTIONS[attention]}", model.config.attention_head_dim)
    elif kind in ("table", "table_out"):
        yield Key(ours=name, name=f"{start}scale_shift_table", shape=(1, *shape), wide=True)
    else:
        theirs = f"{start}{(IN_BLOCKS if start else ENDS)[inside]}.{kind}"
        yield Key(ours=name, name=theirs, **end_of(name, shape, model), wide=name.startswith("level."))


def end_of(name: str, shape: tuple[int, ...], model: WanTransformer) -> dict:
    """Return shape and order of a layer's tensor: patches come in by a convolution, and leave channel by channel."""
    channels = model.config.latent_channels
    patch = model.config.patch
    if name == "patch_in.weight":
        return {"shape": (shape[0], channels, *patch)}
    if name.startswith("patch_out."):
        order = Order(ours="c p q", theirs="p q c", sizes={"p": patch[1], "q": patch[2]})
        return {"shape": shape, "order": order}
    return {"shape": shape}


def attention_keys(name: str, shape: tuple[int, ...], theirs: str, head_dim: int) -> Iterator[Key]:
    """Yield the tensors of an attention layer's queries, keys, values and norms.

    Rotary positions rotate channels i and i + d/2 of a head together in ours, 2i and 2i + 1 in theirs. So queries and
    keys of self-attention, and the weights of their norms, have their channels in another order; products of the two
    are the same. Those of cross-attention are not rotated, and lie as they did.
    """
    part, kind = name.split(".")[-2:]
    rotary_order = None
    if theirs.endswith("attn1"):
        rotary_order = Order(ours="k two p", theirs="k p two", sizes={"two": 2, "p": head_dim // 2})
    if part in ("norm_q", "norm_k"):
        yield Key(ours=name, name=f"{theirs}.{part}.{kind}", shape=shape, order=rotary_order)
        return
    products = PRODUCTS[part]
    rows = shape[0] // len(products)
    for i, product in enumerate(products):
        yield Key(
            ours=name,
            name=f"{theirs}.{product}.{kind}",
            shape=(rows, *shape[1:]),
            rows=slice(i * rows, (i + 1) * rows) if len(products) > 1 else None,
            order=None if product == "to_v" else rotary_order,
        )
