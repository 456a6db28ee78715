"""transformers' text tokenizers, read from a folder."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vidgen.checkpoints.other_libraries import from_folder
from vidgen.errors import VidgenError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def read_text_tokenizer(folder: str | os.PathLike) -> PreTrainedTokenizerBase:
    """Return transformers' tokenizer in a folder. Raises VidgenError if there is none, or if it cannot be read here."""
    from transformers import AutoTokenizer

    folder = Path(folder)
    lacking = [name for name in ("sentencepiece", "google.protobuf") if not is_installed(name)]
    if (folder / "spiece.model").is_file() and not (folder / "tokenizer.json").is_file() and lacking:
        raise VidgenError(f"{folder / 'spiece.model'} cannot be read without: pip install sentencepiece protobuf")
    return from_folder(AutoTokenizer, folder, "text tokenizer")


def is_installed(module: str) -> bool:
    """Return whether a module can be imported."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
