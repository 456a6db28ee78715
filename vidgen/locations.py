"""Where models are: shipped by name, in a folder, or on the hub (cache first, network only if allowed)."""

from __future__ import annotations

import os
from pathlib import Path

from vidgen.errors import VidgenError

SHIPPED = Path(__file__).parent / "weights"


def find_model(name: str | os.PathLike) -> Path:
    """The local folder of model `name`: a shipped name, a folder, or a hub id "owner/name".

    A hub id is taken from the local cache, or fetched where HF_HUB_OFFLINE allows it. Raises VidgenError if nothing
    of that name can be had.
    """
    name = os.fspath(name)
    if (SHIPPED / name / "model_index.json").is_file():
        return SHIPPED / name
    if Path(name).is_dir():
        return Path(name)
    shipped = ", ".join(sorted(p.name for p in SHIPPED.glob("*") if p.is_dir()))
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or Path(name).exists():
        raise VidgenError(f"model {name!r} is neither a shipped model ({shipped}) nor a model folder; check the path")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt"]))
    except Exception as error:  # the hub's client raises its own kinds for "offline", "no such model", "no access"
        reason = str(error).split("\n")[0][:160] or type(error).__name__
        raise VidgenError(
            f"model {name!r} is not shipped ({shipped}), not a folder, and not to be had from the hub: {reason}"
        ) from None
