"""Encoders by name: ours by kind; of others, which library a folder is of, and that its weights are safe to read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from vidgen.checkpoints.drafts import TRANSFORMERS_NAME
from vidgen.checkpoints.hub import find_model
from vidgen.checkpoints.pretrained import CONFIG_NAME
from vidgen.errors import VidgenError
from vidgen.files.bounded_files import read_json
from vidgen.models.encoders.clip_encoder import ClipEncoder
from vidgen.models.encoders.efficientnet import EFFICIENTNET, load_efficientnet
from vidgen.models.encoders.external import ExternalEncoder
from vidgen.models.encoders.video_resnet import VideoResNet
from vidgen.models.encoders.video_vit import VideoViT

ENCODERS: dict[str, type[ClipEncoder]] = {"vit": VideoViT, "resnet": VideoResNet}  # that are trained here, by kind


def is_external(values: dict[str, Any]) -> bool:
    """Return whether a config.json is of transformers or timm, not of a model of ours or of diffusers."""
    return "_class_name" not in values and ("model_type" in values or "architecture" in values)


def is_packaged(name: str | os.PathLike) -> bool:
    """Return whether a name is of a model in a package of the registry, and of no folder here."""
    return os.fspath(name) == EFFICIENTNET and not Path(name).exists()


def load_encoder(name: str | os.PathLike, *, dtype: torch.dtype | None = None, device: str = "cpu") -> ExternalEncoder:
    """Return an image or video model of transformers or timm by folder or hub id, as an `Encoder` of clips.

    "efficientnet-lite0" is the one of the package of that name. Raises VidgenError for a type that cannot be read, and
    for weights that are not safetensors.
    """
    if is_packaged(name):
        return load_efficientnet(dtype=dtype, device=device)
    folder = find_model(name)
    check_safe(folder)
    if "architecture" in read_json(folder / CONFIG_NAME):
        from vidgen.models.encoders.timm_encoder import load_timm

        return load_timm(folder, dtype=dtype, device=device)
    from vidgen.models.encoders.transformers_encoder import load_transformers

    return load_transformers(folder, dtype=dtype, device=device)


def check_safe(folder: Path) -> None:
    """Raise VidgenError unless the weights in a folder are safetensors."""
    if (folder / TRANSFORMERS_NAME).is_file() or (folder / f"{TRANSFORMERS_NAME}.index.json").is_file():
        return
    pickled = next((path.name for path in sorted(folder.glob("*.bin"))), None)
    if pickled is not None:
        raise VidgenError(f"{folder / pickled} could run code when read; save the model as {TRANSFORMERS_NAME}")
    raise VidgenError(f"{folder} has no {TRANSFORMERS_NAME}; only safetensors are read")
