"""Text encoders by name or folder: whatever library wrote it, one interface."""

from __future__ import annotations

import os

import torch

from vidgen.checkpoints.pretrained import CONFIG_NAME
from vidgen.errors import VidgenError
from vidgen.files.bounded_files import read_class, read_json
from vidgen.models.text.encoders import ByteTextEncoder
from vidgen.models.text.packages import PACKAGES, find_text_model
from vidgen.models.text.pooling import Pooling
from vidgen.models.text.sentence_encoder import SentenceEncoder
from vidgen.models.text.sentence_folders import MODULES_NAME, read_sentence_folder
from vidgen.models.text.static_vectors import StaticTextEncoder
from vidgen.models.text.text_models import TEXT_MODELS
from vidgen.models.text.transformers_encoder import TransformersTextEncoder

STATIC = "model2vec"


def load_text_encoder(
    name: str | os.PathLike, *, dtype: torch.dtype | None = None, device: str = "cpu"
) -> ByteTextEncoder | TransformersTextEncoder | StaticTextEncoder:
    """Return the encoder of text tokens `name`, in evaluation mode and without gradients: what is before the pooling of
    `load_sentence_encoder`. Raises VidgenError as it does."""
    return load_sentence_encoder(name, dtype=dtype, device=device).encoder


def load_sentence_encoder(
    name: str | os.PathLike,
    *,
    pooling: Pooling | None = None,
    dim: int | None = None,
    depth: int | None = None,
    dtype: torch.dtype | None = None,
    device: str = "cpu",
) -> SentenceEncoder:
    """Return the sentence encoder `name`, in evaluation mode and without gradients. Nothing is fetched.

    Raises VidgenError for what is none, for a package that is not installed, and for layers, dimensions or blocks that
    it does not have.

    Args:
        name: of PACKAGES, such as "minilm"; or a folder of ours (ByteTextEncoder), of a text model of transformers, of
            sentence-transformers or of model2vec.
        pooling: in place of the folder's; where that has none, the mean of tokens, of causal models and of CLIP and
            SigLIP the last of them.
        dim: how many dimensions of its vectors to keep.
        depth: how many of its blocks.
        dtype: of the weights, None for float32, or of static vectors that of the file.
        device: where to put them.
    """
    folder = find_text_model(name)
    if (folder / MODULES_NAME).is_file():
        whole = read_sentence_folder(folder, dtype=dtype, device=device)
    elif not (folder / CONFIG_NAME).is_file():
        known = ", ".join(PACKAGES)
        raise VidgenError(f"text encoder {str(name)!r} is neither a packaged one ({known}) nor a model folder")
    else:
        values = read_json(folder / CONFIG_NAME)
        if values.get("model_type") == STATIC:
            body = StaticTextEncoder.from_pretrained(folder, dtype=dtype, device=device)
            whole = SentenceEncoder(body, normalize=bool(values.get("normalize", True)))
        elif read_class(values, folder) == ByteTextEncoder.__name__:
            whole = SentenceEncoder(ByteTextEncoder.from_pretrained(folder, dtype=dtype, device=device))
        else:
            body = TransformersTextEncoder.from_pretrained(folder, dtype=dtype, device=device)
            row = TEXT_MODELS[values["model_type"]]
            whole = SentenceEncoder(body, Pooling(modes=("last",) if row.pooled_last else ("mean",)))
    return whole.with_changes(pooling=pooling, dim=dim, depth=depth).eval()
