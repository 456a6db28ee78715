"""`load_pipeline`: the shipped one by name, a folder in diffusers' layout, or a hub id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from vidgen.checkpoints.hub import find_model
from vidgen.checkpoints.pretrained import read_json
from vidgen.errors import VidgenError
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.models.ip_adapter import IPAdapterEncoder
from vidgen.models.text.encoders import ByteTextEncoder, TransformersTextEncoder
from vidgen.pipelines.diffusers_folder import open_published
from vidgen.pipelines.families import PIPELINES
from vidgen.pipelines.saving import INDEX_NAME
from vidgen.pipelines.scheduler_config import read_scheduler
from vidgen.pipelines.video import VideoPipeline
from vidgen.tokenizers.model import VideoTokenizer

# By class name alone: modules move, and older folders name where a class once was.
COMPONENTS = {
    "VideoTokenizer": VideoTokenizer,
    "VideoDiT": VideoDiT,
    "ByteTextEncoder": ByteTextEncoder,
    "TransformersTextEncoder": TransformersTextEncoder,
    "IPAdapterEncoder": IPAdapterEncoder,
    "ImagePromptEncoder": IPAdapterEncoder,  # its name before
}


def load_component(folder: Path, entry: Any, dtype: torch.dtype | None, device: str) -> Any:
    """One part of a pipeline, of the class that model_index.json names; only vidgen's own classes are loaded."""
    if not (isinstance(entry, list) and len(entry) == 2 and str(entry[0]).split(".")[0] == "vidgen"):
        raise VidgenError(f"{folder}: class {entry} of model_index.json is not one of vidgen's; not supported")
    if entry[1] not in COMPONENTS:
        raise VidgenError(
            f"{folder}: class {entry[1]} is not one of {', '.join(COMPONENTS)}; saved by another version?"
        )
    return COMPONENTS[entry[1]].from_pretrained(folder, dtype=dtype, device=device)


def load_pipeline(
    name: str = "default", *, device: str = "cpu", dtype: torch.dtype | None = torch.float32
) -> VideoPipeline:
    """The pipeline `name`: "default", a folder with model_index.json (ours, or diffusers' of PIPELINES), or a hub id.

    Raises VidgenError if it is not whole, or of a class that is not supported.
    """
    folder = find_model(name)
    index = read_json(folder / INDEX_NAME)
    kind = index.get("_class_name", VideoPipeline.__name__)
    if kind in PIPELINES:
        return open_published(folder, index, dtype=dtype, device=device)
    if kind != VideoPipeline.__name__:
        known = ", ".join((VideoPipeline.__name__, *PIPELINES))
        raise VidgenError(f"{folder} holds a {kind}, which is not supported; {known} are")
    missing = [part for part in ("vae", "transformer", "text_encoder", "scheduler") if part not in index]
    if missing:
        raise VidgenError(f"{folder / INDEX_NAME} names no {', '.join(missing)}; not a text-to-video pipeline")
    scheduler = read_scheduler(folder)
    names = [name for name in ("vae", "transformer", "text_encoder", "image_prompt") if name in index]
    parts = {name: load_component(folder / name, index[name], dtype, device) for name in names}
    return VideoPipeline(**parts, scheduler=scheduler)
