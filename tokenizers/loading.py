"""`load_tokenizer`: the shipped one by name, a folder, or a hub id."""

from __future__ import annotations

import torch

from vidgen.locations import find_model
from vidgen.pretrained import read_json
from vidgen.tokenizers.model import VideoTokenizer


def load_tokenizer(name: str = "default", *, device: str = "cpu", dtype: torch.dtype | None = None) -> VideoTokenizer:
    """The tokenizer `name`: "default", a folder of a tokenizer or of a whole pipeline, or a hub id.

    Raises VidgenError if there is none, or if its weights do not fit its config.
    """
    folder = find_model(name)
    if (folder / "model_index.json").is_file():
        read_json(folder / "model_index.json")
        folder = folder / "vae"
    return VideoTokenizer.from_pretrained(folder, dtype=dtype, device=device)
