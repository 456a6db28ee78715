"""Folders of sentence-transformers: modules.json, a text model, and a folder for each of what comes after it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vidgen.checkpoints.checkpoint import find_checkpoint
from vidgen.checkpoints.drafts import TRANSFORMERS_NAME, draft_unchanged
from vidgen.checkpoints.pretrained import CONFIG_NAME
from vidgen.errors import VidgenError
from vidgen.files.bounded_files import parse_json, read_json, read_text
from vidgen.models.text.pooling import Pooling
from vidgen.models.text.prompt_rule import PromptRule
from vidgen.models.text.sentence_encoder import ACTIVATIONS, DenseLayer, SentenceEncoder
from vidgen.models.text.static_vectors import StaticTextEncoder
from vidgen.models.text.transformers_encoder import TransformersTextEncoder

MODULES_NAME = "modules.json"
BODY_NAME = "sentence_bert_config.json"
PROMPTS_NAME = "config_sentence_transformers.json"
# Ways of pooling in the order in which sentence-transformers puts them end to end, by the key of its config.
MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt",
    "pooling_mode_weightedmean_tokens": "weighted",
    "pooling_mode_lasttoken": "last",
}
# By its short names, which newer folders have in one key.
SHORT_MODES = {
    "cls": "cls", "max": "max", "mean": "mean", "mean_sqrt_len_tokens": "mean_sqrt", "weightedmean": "weighted",
    "lasttoken": "last",
}  # fmt: skip


def read_sentence_folder(folder: Path, *, dtype: torch.dtype | None = None, device: str = "cpu") -> SentenceEncoder:
    """Return the sentence encoder in a folder: a Transformer or StaticEmbedding, Pooling, any Dense, and Normalize.

    A text that is longer than the folder's `max_seq_length` is cut, with a warning. Raises VidgenError for modules of
    other kinds or in another order, and for what cannot be read of them.
    """
    modules = read_modules(folder)
    kinds = [kind for kind, _ in modules]
    body, rest = modules[0], modules[1:]
    if body[0] == "StaticEmbedding":
        encoder = StaticTextEncoder.from_pretrained(body[1], dtype=dtype, device=device)
        pooling = Pooling()
    elif body[0] == "Transformer" and rest and rest[0][0] == "Pooling":
        encoder = read_body(folder, body[1], dtype=dtype, device=device)
        pooling = read_pooling(rest.pop(0)[1])
    else:
        raise VidgenError(f"{folder / MODULES_NAME}: {' and '.join(kinds[:2])[:80]} do not make a sentence encoder")
    normalize = bool(rest) and rest[-1][0] == "Normalize"
    dense = rest[:-1] if normalize else rest
    if other := [kind for kind, _ in dense if kind != "Dense"]:
        raise VidgenError(f"{folder / MODULES_NAME}: a {other[0][:60]} is not read in its place; Dense, Normalize are")
    layers = [read_dense(place, dtype=dtype, device=device) for _, place in dense]
    notes = read_json(folder / PROMPTS_NAME) if (folder / PROMPTS_NAME).is_file() else {}
    whole = SentenceEncoder(
        encoder, pooling, dense=layers, normalize=normalize, dim=notes.get("truncate_dim"), prompt=default_prompt(notes)
    )
    return whole.eval().requires_grad_(False)


def read_modules(folder: Path) -> list[tuple[str, Path]]:
    """Return kind and folder of every module, in their order. Raises VidgenError where modules.json is damaged."""
    path = folder / MODULES_NAME
    try:
        values = parse_json(read_text(path))
    except ValueError as error:
        raise VidgenError(f"{path} is no JSON ({error}); fetch the model again") from None
    modules = []
    for entry in values if isinstance(values, list) else ():
        kind, place = (entry.get("type"), entry.get("path")) if isinstance(entry, dict) else (None, None)
        if not isinstance(kind, str) or not isinstance(place, str) or place not in ("", ".", Path(place).name):
            raise VidgenError(f"{path}: {str(entry)[:60]!r} names no module and its folder; the model is damaged")
        modules.append((kind.rsplit(".", 1)[-1], folder / place))
    if not modules:
        raise VidgenError(f"{path} lists no modules; the model is damaged")
    return modules


def read_body(folder: Path, place: Path, *, dtype: torch.dtype | None, device: str) -> TransformersTextEncoder:
    """Return the text model of a folder, whose texts are cut at its `max_seq_length`."""
    encoder = TransformersTextEncoder.from_pretrained(place, dtype=dtype, device=device)
    settings = read_json(place / BODY_NAME) if (place / BODY_NAME).is_file() else {}
    longest = encoder.max_length if encoder.rule is None else encoder.rule.length
    length = settings.get("max_seq_length") or min(longest, encoder.tokenizer.model_max_length)
    if not isinstance(length, int) or not 3 <= length <= longest:
        raise VidgenError(f"{place / BODY_NAME}: max_seq_length={str(length)[:40]} is none from 3 to {longest}")
    rule = PromptRule(
        length=length, masked=True, attended=False, filled=False, lowercased=bool(settings.get("do_lower_case"))
    )
    return TransformersTextEncoder(encoder.model, encoder.tokenizer, rule=rule)


def read_pooling(place: Path) -> Pooling:
    """Return the pooling in a folder. Raises VidgenError for a way of pooling that is not known."""
    values = read_json(place / CONFIG_NAME)
    if isinstance(values.get("pooling_mode"), str | list):
        names = values["pooling_mode"]
        names = [names] if isinstance(names, str) else names
        modes = [SHORT_MODES.get(name, name) if isinstance(name, str) else str(name) for name in names]
    else:
        modes = [mode for key, mode in MODES.items() if values.get(key)]
    layers = values.get("layers", [-1])
    if not isinstance(layers, list) or not all(isinstance(number, int) for number in layers):
        raise VidgenError(f"{place / CONFIG_NAME}: layers={str(layers)[:40]} is no list of numbers")
    try:
        return Pooling(modes=tuple(modes), layers=tuple(layers))
    except VidgenError as error:
        raise VidgenError(f"{place / CONFIG_NAME}: {error}") from None


def read_dense(place: Path, *, dtype: torch.dtype | None, device: str) -> DenseLayer:
    """Return the dense layer in a folder. Raises VidgenError for an activation that is not in ACTIVATIONS."""
    values = read_json(place / CONFIG_NAME)
    name = str(values.get("activation_function", "Tanh")).rsplit(".", 1)[-1]
    sizes = [values.get("in_features"), values.get("out_features")]
    if name not in ACTIVATIONS or not all(isinstance(size, int) and 0 < size < 2**16 for size in sizes):
        known = ", ".join(ACTIVATIONS)
        raise VidgenError(f"{place / CONFIG_NAME}: {name[:40]} of {sizes} is no dense layer; activations are {known}")
    layer = DenseLayer(*sizes, bias=bool(values.get("bias", True)), activation=name)
    draft = draft_unchanged(layer, find_checkpoint(place, TRANSFORMERS_NAME))
    return draft.fill(dtype=dtype, device=device)


def default_prompt(notes: Mapping[str, Any]) -> str:
    """Return what a folder says is put before every sentence; "" where it names nothing."""
    prompts, name = notes.get("prompts"), notes.get("default_prompt_name")
    prompt = prompts.get(name) if isinstance(prompts, dict) and isinstance(name, str) else None
    return prompt if isinstance(prompt, str) else ""


def write_sentence_folder(encoder: SentenceEncoder, folder: str | os.PathLike) -> None:
    """Write a sentence encoder over a text model of transformers in sentence-transformers' layout, in a new folder.

    Layers other than the last, and fewer dimensions, are keys that vidgen alone reads. Raises VidgenError for an
    encoder of another kind, which has a layout of its own.
    """
    from safetensors.torch import save_file

    body = encoder.encoder
    if not isinstance(body, TransformersTextEncoder):
        raise VidgenError(f"{folder}: a {type(body).__name__} is not written so; use its own save_pretrained")
    folder = Path(folder)
    body.save_pretrained(folder)
    rule = body.rule or PromptRule(length=body.max_length)
    places = ["", "1_Pooling", *(f"{i}_Dense" for i, _ in enumerate(encoder.dense, start=2))]
    places += [f"{len(places)}_Normalize"] if encoder.normalize else []
    kinds = ["Transformer", *(place.split("_")[1] for place in places[1:])]
    modules = [
        {"idx": i, "name": str(i), "path": place, "type": f"sentence_transformers.models.{kind}"}
        for i, (place, kind) in enumerate(zip(places, kinds, strict=True))
    ]
    pooling: dict[str, Any] = {key: mode in encoder.pooling.modes for key, mode in MODES.items()}
    if not encoder.pooling.takes_last_alone:
        pooling["layers"] = list(encoder.pooling.layers)
    files: dict[str, Any] = {
        MODULES_NAME: modules,
        BODY_NAME: {"max_seq_length": rule.length, "do_lower_case": rule.lowercased},
        PROMPTS_NAME: {
            "prompts": {"sentence": encoder.prompt}, "default_prompt_name": "sentence", "truncate_dim": encoder.dim
        },
        f"1_Pooling/{CONFIG_NAME}": {"word_embedding_dimension": encoder.width, **pooling},
    }  # fmt: skip
    for place, layer in zip(places[2:], encoder.dense, strict=False):
        linear, activation = layer.linear, type(layer.activation)
        files[f"{place}/{CONFIG_NAME}"] = {
            "in_features": linear.in_features, "out_features": linear.out_features, "bias": linear.bias is not None,
            "activation_function": f"{activation.__module__}.{activation.__name__}",
        }  # fmt: skip
        (folder / place).mkdir(exist_ok=True)
        save_file(layer.state_dict(), folder / place / TRANSFORMERS_NAME)
    for name, values in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
