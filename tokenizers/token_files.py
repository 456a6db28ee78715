"""Token files: the latents of one clip as safetensors, with all that it takes to give the clip back, and by whom."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vidgen.atomic import written_aside
from vidgen.errors import VidgenError
from vidgen.hashing import model_hash

FORMAT = "vidgen tokens 1"


@dataclass(frozen=True, kw_only=True)
class TokenFile:
    """A clip as tokens. `tokenizer` is the name of what wrote it, fps frames a second, `extra` anything else said."""

    latents: Float[Tensor, "b c t h w"]
    num_frames: int
    height: int
    width: int
    fps: float
    tokenizer: str
    tokenizer_hash: str
    extra: dict[str, str] = field(default_factory=dict)


class Clip(Protocol):
    """What is written: `Encoded` of a tokenizer, or anything with these."""

    latents: Tensor
    num_frames: int
    height: int
    width: int


def tokenizer_hash(tokenizer: nn.Module) -> str:
    """The hash of a tokenizer's config and of its weights in bfloat16: the same in whatever precision it was loaded."""
    return model_hash(copy.deepcopy(tokenizer).to(torch.bfloat16))


def write_tokens(
    path: str | os.PathLike, clip: Clip, tokenizer: nn.Module, *, fps: float, extra: Mapping[str, str] | None = None
) -> Path:
    """Writes the latents of `clip`, made by or for `tokenizer`, in the dtype they have; all or nothing.

    Raises VidgenError if `path` cannot be written.
    """
    path = Path(path)
    latents = clip.latents.detach().cpu().contiguous()
    metadata = {
        **{k: str(v) for k, v in (extra or {}).items()},
        "format": FORMAT,
        "tokenizer": tokenizer.config.name,
        "tokenizer_hash": tokenizer_hash(tokenizer),
        "num_frames": str(clip.num_frames),
        "height": str(clip.height),
        "width": str(clip.width),
        "fps": repr(float(fps)),
        "time_base": str(1 / Fraction(fps).limit_denominator(1001)),
    }
    with written_aside(path) as target:
        save_file({"latents": latents}, target, metadata=metadata)
    return path


def read_tokens(path: str | os.PathLike, tokenizer: nn.Module | None = None) -> TokenFile:
    """The clip in a token file; with `tokenizer`, only if that is what it was written for.

    Raises VidgenError for a file that is missing, damaged or of another kind, or written for another tokenizer.
    """
    path = Path(path)
    if not path.is_file():
        raise VidgenError(f"{path}: no such file; `vidgen tokenizer encode` makes token files")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise VidgenError(f"{path}: not a token file of vidgen; make one with `vidgen tokenizer encode`")
            latents = file.get_tensor("latents")
        clip = _describe(latents, metadata)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        if isinstance(error, VidgenError):
            raise
        reason = " ".join(str(error).split())[:160]
        raise VidgenError(f"{path}: not a whole token file ({reason}); encode the clip again") from None
    if tokenizer is not None and (own := tokenizer_hash(tokenizer)) != clip.tokenizer_hash:
        raise VidgenError(
            f"{path}: written for tokenizer {clip.tokenizer} ({clip.tokenizer_hash[:12]}), and this one is "
            f"{tokenizer.config.name} ({own[:12]}); decode it with the model that it was made with"
        )
    return clip


def _describe(latents: Tensor, metadata: dict[str, str]) -> TokenFile:
    named = {"format", "tokenizer", "tokenizer_hash", "num_frames", "height", "width", "fps", "time_base"}
    clip = TokenFile(
        latents=latents,
        num_frames=int(metadata["num_frames"]),
        height=int(metadata["height"]),
        width=int(metadata["width"]),
        fps=float(metadata["fps"]),
        tokenizer=metadata["tokenizer"],
        tokenizer_hash=metadata["tokenizer_hash"],
        extra={k: v for k, v in metadata.items() if k not in named},
    )
    if latents.ndim != 5 or min(clip.num_frames, clip.height, clip.width) < 1 or not 0 < clip.fps <= 1e6:
        raise ValueError(f"latents {tuple(latents.shape)} with {clip.num_frames} frames at {clip.fps} fps")
    return clip
