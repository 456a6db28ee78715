"""Encoders of texts and clips by name or folder: ours, and those of transformers."""

from __future__ import annotations

import os

import torch

from vidgen.checkpoints.hub import find_model
from vidgen.checkpoints.pretrained import CONFIG_NAME
from vidgen.errors import VidgenError
from vidgen.files.bounded_files import read_json
from vidgen.interfaces import TextVideoEncoder
from vidgen.models.text_video.dual_encoder import DualEncoder, is_dual_encoder
from vidgen.models.text_video.transformers_models import TEXT_VIDEO_MODELS, load_transformers_text_video


def load_text_video_encoder(
    name: str | os.PathLike, *, dtype: torch.dtype | None = None, device: str = "cpu"
) -> TextVideoEncoder:
    """Return the model `name`, in evaluation mode and without gradients: a dual encoder of ours, shipped, in a folder
    or on the hub, or a CLIP, SigLIP or X-CLIP of transformers.

    Raises VidgenError for any other model.
    """
    folder = find_model(name)
    if is_dual_encoder(folder):
        return DualEncoder.from_pretrained(folder, dtype=dtype or torch.float32, device=device)
    values = read_json(folder / CONFIG_NAME) if (folder / CONFIG_NAME).is_file() else {}
    if "model_type" in values:
        return load_transformers_text_video(folder, dtype=dtype, device=device)
    raise VidgenError(
        f"{name} is no encoder of texts and clips: train one by `vidgen train align`, or give a folder of transformers "
        f"({', '.join(TEXT_VIDEO_MODELS)})"
    )
