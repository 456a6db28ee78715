"""Encoded prompts on disk: a prompt that a large text encoder has read once is read from a file after that."""

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

from vidgen.checkpoints.atomic import atomic_write
from vidgen.checkpoints.hashing import json_hash, model_hash
from vidgen.errors import VidgenError
from vidgen.interfaces import TextEncoder
from vidgen.models.text.encoders import TextEncoding

VARIABLE = "VIDGEN_CACHE"
LARGE = 100_000_000  # parameters from which on an encoder is cached: smaller ones are done before a file is found
PLAIN = (bool, int, float, str)
_hashes: WeakKeyDictionary[Any, tuple[Any, str]] = WeakKeyDictionary()


def cache_folder() -> Path:
    """$VIDGEN_CACHE, or `vidgen` in the folder that the platform keeps caches in."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "vidgen"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "vidgen"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vidgen"


def encoder_hash(encoder: TextEncoder) -> str:
    """What a text encoder is, as a string that changes when its encodings may: of weights, settings and tokenizer.

    Of a module whose tensors are untouched it is worked out once.
    """
    if not isinstance(encoder, nn.Module):
        raise VidgenError(f"{type(encoder).__name__} is no module, so its encodings cannot be told from another's")
    tensors = [*encoder.parameters(), *encoder.buffers()]
    now = [(x.data_ptr(), x.dtype, 0 if x.is_inference() else x._version) for x in tensors]
    if encoder not in _hashes or _hashes[encoder][0] != now:
        said = {name: value for name, value in vars(encoder).items() if isinstance(value, PLAIN) and name != "training"}
        said |= {k: dataclasses.asdict(v) for k, v in vars(encoder).items() if dataclasses.is_dataclass(v)}
        words = describe_tokenizer(getattr(encoder, "tokenizer", None))
        _hashes[encoder] = (now, json_hash([model_hash(encoder), said, words]))
    return _hashes[encoder][1]


def describe_tokenizer(tokenizer: Any) -> Any:
    """All that a tokenizer of transformers is: a fast one says it itself, of others the vocabulary has to do."""
    if tokenizer is None:
        return None
    fast = getattr(tokenizer, "backend_tokenizer", None)
    return [type(tokenizer).__name__, fast.to_str() if fast is not None else tokenizer.get_vocab()]


@dataclasses.dataclass(frozen=True)
class TextCache:
    """Files `FOLDER/text/ENCODER/PROMPT.safetensors`, the names being hashes; each holds the encoding of one prompt.

    A prompt is encoded by itself, so that a file does not depend on what was asked for beside it. A file that is
    damaged, or not what its name says, is made again; one that cannot be written is warned of, and nothing is lost.
    """

    folder: Path

    def encode(self, encoder: TextEncoder, prompts: Sequence[str]) -> TextEncoding:
        """As `encoder(prompts)`; those that are not there are encoded and kept. Raises what the encoder raises."""
        rows = [self.encode_one(encoder, prompt) for prompt in prompts]
        length = max(len(mask) for _, mask in rows)
        tokens = torch.stack([nn.functional.pad(x, (0, 0, 0, length - len(x))) for x, _ in rows])
        return TextEncoding(
            tokens=tokens, mask=torch.stack([nn.functional.pad(m, (0, length - len(m))) for _, m in rows])
        )

    def encode_one(self, encoder: TextEncoder, prompt: str) -> tuple[Float[Tensor, "l d"], Bool[Tensor, " l"]]:
        path, said = self.place(encoder, prompt)
        if (found := read_encoding(path, said)) is not None:
            device = next(encoder.parameters()).device
            return found[0].to(device), found[1].to(device)
        text = encoder([prompt])
        seen = text.mask[0].nonzero()
        length = int(seen.max()) + 1 if len(seen) else text.mask.shape[1]
        tokens, mask = text.tokens[0, :length], text.mask[0, :length]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_encoding(path, tokens, mask, said)
        except (OSError, VidgenError) as error:
            warnings.warn(f"encoded prompts are not kept: {error}; set {VARIABLE} to a folder for them", stacklevel=2)
        return tokens, mask

    def place(self, encoder: TextEncoder, prompt: str) -> tuple[Path, dict[str, str]]:
        """The file of a prompt, and what it says of itself."""
        said = {"encoder": encoder_hash(encoder), "prompt": prompt}
        name = hashlib.sha256(prompt.encode()).hexdigest()[:32]
        return self.folder / "text" / said["encoder"][:32] / f"{name}.safetensors", said


def find_text_cache(encoder: TextEncoder, wanted: str = "auto") -> TextCache | None:
    """The cache of `cache_folder`: "on" for any encoder, "auto" for one of `LARGE` and more parameters; "off": None."""
    if wanted == "on":
        return TextCache(cache_folder())
    large = isinstance(encoder, nn.Module) and sum(p.numel() for p in encoder.parameters()) >= LARGE
    return TextCache(cache_folder()) if wanted == "auto" and large else None


def digest(tokens: Tensor, mask: Tensor) -> str:
    parts = (x.contiguous().flatten().view(torch.uint8).numpy().tobytes() for x in (tokens, mask))
    return hashlib.sha256(b"".join(parts)).hexdigest()


def write_encoding(path: Path, tokens: Tensor, mask: Tensor, said: dict[str, str]) -> None:
    held = {"tokens": tokens.detach().cpu().contiguous(), "mask": mask.detach().cpu().contiguous()}
    with atomic_write(path) as target:
        save_file(held, target, metadata=said | {"sha256": digest(**held)})


def read_encoding(path: Path, said: dict[str, str]) -> tuple[Tensor, Tensor] | None:
    """Tokens and mask of a file that is whole and what it is `said` to be; else None."""
    try:
        with safe_open(path, framework="pt") as file:
            found, tokens, mask = file.metadata() or {}, file.get_tensor("tokens"), file.get_tensor("mask")
    except (OSError, SafetensorError):
        return None
    whole = tokens.ndim == 2 and mask.dtype == torch.bool and mask.shape == tokens.shape[:1]
    same = all(found.get(name) == value for name, value in said.items())
    return (tokens, mask) if whole and same and found.get("sha256") == digest(tokens, mask) else None
