"""Files of clips as NeRV: safetensors with coded weights, coded embeddings and ranges, and a line of settings."""

from __future__ import annotations

import dataclasses
import os
import warnings
from math import prod
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

from vidgen.bounds import Frames, Range, check_value
from vidgen.errors import VidgenError
from vidgen.files.atomic import atomic_write
from vidgen.files.bounded_files import check_regular, load_json
from vidgen.files.seals import open_sealed, save_sealed
from vidgen.tokenizers.nerv.clip import ClipNeRV
from vidgen.tokenizers.nerv.network import NeRVConfig, NeRVDecoder
from vidgen.tokenizers.nerv.quantization import QuantizedTensor, check_bits, code_symbols, decode_symbols

FORMAT = "vidgen clip fit 1"
ENTRY = "clip_fit"  # of the metadata: a JSON object
FORMER_NAMES = {"write_fit": "write_nerv", "read_fit": "read_nerv", "is_fit": "is_nerv"}
LARGEST_HEADER = 2**20  # bytes


def write_nerv(clip: ClipNeRV, path: str | os.PathLike) -> Path:
    """Write a clip, all or nothing; nothing but weights, embeddings and ranges is in its tensors."""
    weights, embeddings = clip.symbols()
    tensors = [*clip.weights.values(), clip.embeddings]
    stored = {
        "weights": torch.frombuffer(bytearray(code_symbols(weights)), dtype=torch.uint8),
        "embeddings": torch.frombuffer(bytearray(code_symbols(embeddings)), dtype=torch.uint8),
        "ranges": torch.tensor([[t.low, t.step] for t in tensors], dtype=torch.float32),
    }
    settings = {
        "format": FORMAT,
        "num_frames": clip.num_frames,
        "fps": clip.fps,
        "bits": clip.bits,
        "config": dataclasses.asdict(clip.config),
        "source": clip.source,
    }
    with atomic_write(path) as aside:
        save_sealed(stored, aside, settings, entry=ENTRY)
    return Path(path)


def is_nerv(path: str | os.PathLike) -> bool:
    """Return whether a file's header says that it holds a clip as NeRV, be the rest there or not."""
    try:
        check_regular(path)
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = load_json(file.read(size)) if size <= LARGEST_HEADER else {}
        return load_json(header["__metadata__"][ENTRY])["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_nerv(path: str | os.PathLike) -> ClipNeRV:
    """Return the clip in a file. Raises VidgenError for one that is missing, of another kind, damaged or cut short."""
    path = Path(path)
    if not path.is_file():
        raise VidgenError(f"{path}: no such file; `vidgen tokenizer nerv` makes files of fitted clips")
    try:
        with open_sealed(path, entry=ENTRY) as file:
            if not is_nerv(path):
                raise VidgenError(f"{path}: not a fitted clip; make one with `vidgen tokenizer nerv`")
            stored = {name: file.read(name) for name in file.names}
            for name, x in stored.items():
                file.check(name, x)
            return _parse(file.about, {name: torch.from_numpy(x) for name, x in stored.items()})
    except VidgenError:
        raise
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, reason: object) -> VidgenError:
    cause = " ".join(str(reason).split())[:160]
    return VidgenError(f"{path}: not a whole fitted clip ({cause}); fit the clip again")


def _parse(settings: dict[str, Any], stored: dict[str, Any]) -> ClipNeRV:
    """Raises KeyError, TypeError or ValueError for what is missing or makes no sense."""
    config = NeRVConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in settings["config"].items()})
    for name, hint in (("num_frames", Frames), ("fps", Annotated[float, Range(0.0, 1e6, above=True)]), ("bits", int)):
        check_value(settings[name], hint, name)
    num_frames, fps, bits = settings["num_frames"], float(settings["fps"]), check_bits(settings["bits"])
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in NeRVDecoder(config).state_dict().items()}
    grid = (num_frames, config.embedding, *config.grid)
    ranges = stored["ranges"]
    if tuple(ranges.shape) != (len(shapes) + 1, 2) or ranges.dtype != torch.float32 or not ranges.isfinite().all():
        raise ValueError(f"ranges {tuple(ranges.shape)} of {len(shapes) + 1} tensors")
    sizes = [prod(shape) for shape in shapes.values()]
    symbols = decode_symbols(stored["weights"].numpy().tobytes(), sum(sizes))
    parts = np.split(symbols, np.cumsum(sizes)[:-1])
    parts.append(decode_symbols(stored["embeddings"].numpy().tobytes(), prod(grid)))
    tensors = [
        QuantizedTensor(codes=torch.from_numpy(part.copy()).reshape(shape), low=low, step=step)
        for part, shape, (low, step) in zip(parts, [*shapes.values(), grid], ranges.tolist(), strict=True)
    ]
    return ClipNeRV(
        config=config,
        fps=fps,
        bits=bits,
        weights=dict(zip(shapes, tensors, strict=False)),
        embeddings=tensors[-1],
        source=str(settings.get("source", "")),
    )


def __getattr__(name: str) -> Any:
    """Return what an earlier version called `name`, with a warning. Raises AttributeError for any other name."""
    if name not in FORMER_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"{name} is now called {FORMER_NAMES[name]}", FutureWarning, stacklevel=2)
    return globals()[FORMER_NAMES[name]]
