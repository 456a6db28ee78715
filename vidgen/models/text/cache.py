"""Encoded prompts on disk: a prompt that a large text encoder has encoded once is read from a file after that."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vidgen.checkpoints.hashing import json_hash, model_hash
from vidgen.errors import VidgenError
from vidgen.files.atomic import atomic_write
from vidgen.files.interrupts import signals_held
from vidgen.interfaces import LayeredTextEncoder, TextEncoder
from vidgen.models.placement import device_of
from vidgen.models.text.encoders import TextEncoding
from vidgen.models.text.prompt_rule import describe_fields

VARIABLE = "VIDGEN_CACHE"
LARGE = 100_000_000  # parameters from which on an encoder is cached: smaller ones are faster than a file
PLAIN = (bool, int, float, str)
_hashes: WeakKeyDictionary[Any, tuple[Any, str]] = WeakKeyDictionary()


def cache_folder() -> Path:
    """Return $VIDGEN_CACHE, or `vidgen` in the platform's folder of caches."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "vidgen"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "vidgen"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vidgen"


def encoder_hash(encoder: TextEncoder) -> str:
    """Return a hash of a text encoder's weights, settings and tokenizer, which changes when its encodings may.

    It is computed once for a module whose tensors stay untouched. Raises VidgenError for what is no module.
    """
    if not isinstance(encoder, nn.Module):
        raise VidgenError(f"{type(encoder).__name__} is no module, so its encodings cannot be told from another's")
    tensors = [*encoder.parameters(), *encoder.buffers()]
    state = [(x.data_ptr(), x.dtype, 0 if x.is_inference() else x._version) for x in tensors]
    if encoder not in _hashes or _hashes[encoder][0] != state:
        settings = {
            name: value for name, value in vars(encoder).items() if isinstance(value, PLAIN) and name != "training"
        }
        settings |= {k: describe_fields(v) for k, v in vars(encoder).items() if dataclasses.is_dataclass(v)}
        children = encoder.named_children()
        settings |= {name: encoder_hash(child) for name, child in children if isinstance(child, LayeredTextEncoder)}
        tokenizer = describe_tokenizer(getattr(encoder, "tokenizer", None))
        _hashes[encoder] = (state, json_hash([model_hash(encoder), settings, tokenizer]))
    return _hashes[encoder][1]


def describe_tokenizer(tokenizer: Any) -> Any:
    """Return what identifies a tokenizer of transformers: all of a fast one, the vocabulary of others."""
    if tokenizer is None:
        return None
    fast = getattr(tokenizer, "backend_tokenizer", None)
    return [type(tokenizer).__name__, fast.to_str() if fast is not None else tokenizer.get_vocab()]


@dataclasses.dataclass(frozen=True)
class TextCache:
    """Files `FOLDER/text/ENCODER/PROMPT.safetensors`, the names being hashes; each holds the encoding of one prompt.

    A prompt is encoded by itself, so that a file does not depend on the prompts beside it. A file that is damaged, or
    of another prompt than its name is, is made again; one that cannot be written makes a warning, and nothing is lost.
    """

    folder: Path

    def encode(self, encoder: TextEncoder, prompts: Sequence[str]) -> TextEncoding:
        """Return `encoder(prompts)`, from files; those that are missing are made. Raises what the encoder raises."""
        rows = [self.encode_one(encoder, prompt) for prompt in prompts]
        length = max(len(mask) for _, mask in rows)
        tokens = torch.stack([nn.functional.pad(x, (0, 0, 0, length - len(x))) for x, _ in rows])
        return TextEncoding(
            tokens=tokens, mask=torch.stack([nn.functional.pad(m, (0, length - len(m))) for _, m in rows])
        )

    def encode_one(self, encoder: TextEncoder, prompt: str) -> tuple[Float[Tensor, "l d"], Bool[Tensor, " l"]]:
        """Return tokens and mask of one prompt, without padding."""
        path, metadata = self.file_of(encoder, prompt)
        if (encoding := read_encoding(path, metadata)) is not None:
            device = device_of(encoder)
            return encoding[0].to(device), encoding[1].to(device)
        text = encoder([prompt])
        visible = text.mask[0].nonzero()
        length = int(visible.max()) + 1 if len(visible) else text.mask.shape[1]
        tokens, mask = text.tokens[0, :length], text.mask[0, :length]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_encoding(path, tokens, mask, metadata)
        except (OSError, VidgenError) as error:
            warnings.warn(f"encoded prompts are not kept: {error}; set {VARIABLE} to a folder for them", stacklevel=2)
        return tokens, mask

    def file_of(self, encoder: TextEncoder, prompt: str) -> tuple[Path, dict[str, str]]:
        """Return the path of a prompt's file, and its metadata."""
        metadata = {"encoder": encoder_hash(encoder), "prompt": prompt}
        name = hashlib.sha256(prompt.encode()).hexdigest()[:32]
        return self.folder / "text" / metadata["encoder"][:32] / f"{name}.safetensors", metadata


def find_text_cache(encoder: TextEncoder, mode: str = "auto") -> TextCache | None:
    """Return the cache of `cache_folder`: "on" for any encoder, "auto" for one of `LARGE` and more parameters; "off":
    None."""
    if mode == "on":
        return TextCache(cache_folder())
    large = isinstance(encoder, nn.Module) and sum(p.numel() for p in encoder.parameters()) >= LARGE
    return TextCache(cache_folder()) if mode == "auto" and large else None


def digest(tokens: Tensor, mask: Tensor) -> str:
    """Return the SHA-256 of an encoding: of types and shapes too, since the same bytes are other numbers in others."""
    total = hashlib.sha256()
    for x in (tokens, mask):
        total.update(f"{x.dtype} {tuple(x.shape)} ".encode())
        total.update(x.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def write_encoding(path: Path, tokens: Tensor, mask: Tensor, metadata: dict[str, str]) -> None:
    """Write an encoding to a file, all or nothing."""
    tensors = {"tokens": tokens.detach().cpu().contiguous(), "mask": mask.detach().cpu().contiguous()}
    with atomic_write(path) as target:
        save_file(tensors, target, metadata=metadata | {"sha256": digest(**tensors)})


def read_encoding(path: Path, metadata: dict[str, str]) -> tuple[Tensor, Tensor] | None:
    """Return tokens and mask of a file that is whole and has the metadata; else None."""
    try:
        with signals_held(), safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tokens, mask = file.get_tensor("tokens"), file.get_tensor("mask")
    except (OSError, SafetensorError, MemoryError):
        return None
    whole = tokens.ndim == 2 and mask.dtype == torch.bool and mask.shape == tokens.shape[:1]
    same = all(header.get(name) == value for name, value in metadata.items())
    return (tokens, mask) if whole and same and header.get("sha256") == digest(tokens, mask) else None
