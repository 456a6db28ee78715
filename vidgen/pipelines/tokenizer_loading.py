"""`load_tokenizer`: the shipped one by name, a folder, a single file, or a hub id."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from vidgen.checkpoints.hub import find_model
from vidgen.checkpoints.pretrained import read_config, read_json
from vidgen.errors import VidgenError
from vidgen.pipelines.wan.autoencoder import CLASS_NAME as WAN
from vidgen.pipelines.wan.autoencoder import read_wan
from vidgen.pipelines.whole_clip import COGVIDEOX, LTX, read_cogvideox, read_ltx
from vidgen.tokenizers.model import VideoTokenizer

# By the class that a config names: docs/published_weights.md lists them.
READERS: dict[str, Callable[..., Any]] = {
    VideoTokenizer.__name__: VideoTokenizer.from_pretrained,
    WAN: read_wan,
    COGVIDEOX: read_cogvideox,
    LTX: read_ltx,
}


def load_tokenizer(name: str = "default", *, device: str = "cpu", dtype: torch.dtype | None = None) -> Any:
    """The tokenizer `name`: "default", a folder of a tokenizer or of a whole pipeline, one safetensors file, a hub id.

    A VideoTokenizer, or a WholeClipTokenizer, which has its interface but does not stream. Raises VidgenError if there
    is none, if it is of a class that is not supported, or if its weights do not fit its config.
    """
    place = find_model(name, part="vae")
    if (place / "model_index.json").is_file():
        read_json(place / "model_index.json")
        place = place / "vae"
    kind = read_config(place).get("_class_name")
    if kind not in READERS:
        rest = ", ".join(known for known in READERS if known != VideoTokenizer.__name__)
        raise VidgenError(f"{place} holds a {kind}, not a VideoTokenizer, nor a published class that is read: {rest}")
    return READERS[kind](place, dtype=dtype, device=device)


def load_trainable(name: str, *, dtype: torch.dtype | None = None) -> VideoTokenizer:
    """The tokenizer `name` as `load_tokenizer` finds it. Raises VidgenError if it is of a class of diffusers, which is
    not trained here."""
    found = load_tokenizer(name, dtype=dtype)
    if not isinstance(found, VideoTokenizer):
        raise VidgenError(f"{name} holds {found.config.name} of diffusers' class, which is not trained; name another")
    return found
