"""Where models are: shipped by name, in a folder, or on the hub (cache first, network only if allowed)."""

from __future__ import annotations

import os
from pathlib import Path

from vidgen.checkpoints.weight_files import OTHER_SUFFIXES, describe_bytes_of
from vidgen.errors import VidgenError
from vidgen.files.bounded_files import check_regular

SHIPPED = Path(__file__).parents[1] / "weights"
# Folders of a pipeline in diffusers' layout: to fetch one part takes no gigabytes of another.
PIPELINE_PARTS = (
    *("vae", "transformer", "transformer_2", "text_encoder", "text_encoder_2", "image_encoder", "image_prompt"),
    "student",
    "tokenizer",
    "prior",
)


def is_offline() -> bool:
    """Return whether HF_HUB_OFFLINE forbids the network, now: the hub's client reads it once, when it is imported."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def durable_name(name: str | os.PathLike, folder: Path) -> str:
    """Return what a saved model calls another by, whose folder `find_model` says: the whole path of a folder
    here, and the name itself of a shipped one or of one of the hub."""
    return str(folder.resolve()) if folder == Path(name) else os.fspath(name)


def find_model(name: str | os.PathLike, part: str | None = None) -> Path:
    """Return the local folder of a model: of a shipped name, a folder, a safetensors file, or a hub id "owner/name".

    A hub id is taken from the local cache, or fetched where HF_HUB_OFFLINE allows it; with `part` only that part of a
    pipeline is. Raises VidgenError if there is no such model.
    """
    name = os.fspath(name)
    if "/" not in name and any((SHIPPED / name / index).is_file() for index in ("model_index.json", "config.json")):
        return SHIPPED / name  # a folder of that name here is ./name
    if Path(name).is_dir() or (Path(name).is_file() and name.endswith(".safetensors")):
        return Path(name)
    if Path(name).exists():
        check_regular(name)
        what = OTHER_SUFFIXES.get(Path(name).suffix) or describe_bytes_of(Path(name))
        if what is not None:
            raise VidgenError(f"model {name!r} is {what}")
    shipped = ", ".join(sorted(p.name for p in SHIPPED.glob("*") if p.is_dir()))
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or Path(name).exists():
        raise VidgenError(f"model {name!r} is neither a shipped model ({shipped}) nor a model folder; check the path")
    from huggingface_hub import snapshot_download

    try:
        patterns = {
            "allow_patterns": ["*.json", "*.safetensors", "*.model", "*.txt"],
            "ignore_patterns": [f"{other}/*" for other in PIPELINE_PARTS if part is not None and other != part],
        }
        return Path(snapshot_download(name, local_files_only=is_offline(), **patterns))
    except Exception as error:  # the hub's client raises its own kinds for "offline", "no such model", "no access"
        reason = str(error).split("\n")[0][:160] or type(error).__name__
        raise VidgenError(
            f"model {name!r} is not shipped ({shipped}), not a folder, and not to be had from the hub: {reason}"
        ) from None
