"""Folders of adapted encoders: what was learned, and the name and hash of the encoder beside which; or all of it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor, nn

from vidgen.bounds import Choice, Range, check_fields
from vidgen.checkpoints.checkpoint import WEIGHTS_NAME, find_checkpoint, save_shards
from vidgen.checkpoints.hashing import model_hash
from vidgen.checkpoints.hub import durable_name, find_model
from vidgen.checkpoints.pretrained import CONFIG_NAME, config_from_dict, put, read_config
from vidgen.errors import VidgenError
from vidgen.files.atomic import atomic_write
from vidgen.models.adaptation.adapted_encoder import ADAPTATIONS, AdaptedEncoder
from vidgen.models.adaptation.temporal import ImageTower
from vidgen.models.encoders.clip_encoder import Size
from vidgen.models.encoders.loading import is_external, is_packaged, load_encoder
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig


class Base(NamedTuple):
    """A frozen encoder as it is on disk: its name or folder, and its hash."""

    name: str
    hash: str


@dataclass(frozen=True, kw_only=True)
class AdaptedConfig:
    """config.json of an adapted encoder: see `AdaptedShape`; `base` and `base_hash` of the encoder that is frozen, or
    the shape of a `VideoViT` (`encoder`) whose weights are in the folder too."""

    kind: Annotated[str, Choice(tuple(ADAPTATIONS))]
    settings: dict[str, Any] = field(default_factory=dict)
    clip: tuple[Size, Size, Size]
    fps: Annotated[float, Range(0.0, 1000.0, above=True)]
    base: str = ""
    base_hash: str = ""
    encoder: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)


def open_base(name: str, *, device: str = "cpu", dtype: torch.dtype | None = None) -> tuple[ImageTower, Base]:
    """Return the encoder to freeze, and what it is: a `VideoViT` in a folder, or a model of timm or transformers.

    The hash is of the weights as they are stored, whatever `dtype` is. Raises VidgenError where there is none.
    """
    encoder: ImageTower
    folder = None if is_packaged(name) else find_model(name)
    if folder is None or is_external(read_config(folder)):
        encoder = load_encoder(name)
    else:
        encoder = VideoViT.from_pretrained(folder)
    base = Base(name if folder is None else durable_name(name, folder), model_hash(encoder))
    return encoder.to(device, dtype), base


def save_adapted(
    encoder: AdaptedEncoder, folder: str | os.PathLike, base: Base, *, dtype: torch.dtype | None = None
) -> None:
    """Write what was learned (in `dtype` if given), with the name and hash of the `base`, all or nothing."""
    write_folder(encoder, folder, encoder.adaptation.state_dict(), dtype, {"base": base.name, "base_hash": base.hash})


def save_whole(
    encoder: AdaptedEncoder, folder: str | os.PathLike, shape: VideoViTConfig, *, dtype: torch.dtype | None = None
) -> None:
    """Write a folder that needs no other: of kind lora a `VideoViT` with the factors in its weights, of another kind
    the encoder's weights beside what was learned.

    Args:
        encoder: On a `VideoViT`.
        folder: Where to, all or nothing.
        shape: The encoder's config before it was adapted.
        dtype: That weights are stored in; None leaves them as they are.
    """
    if encoder.config.kind == "lora":
        merge_factors(encoder).save_pretrained(folder, dtype=dtype)
    else:
        write_folder(encoder, folder, encoder.state_dict(), dtype, {"encoder": asdict(shape)})


def merge_factors(encoder: AdaptedEncoder) -> VideoViT:
    """Return a `VideoViT` that has a LoRA's factors in its weights; the encoder stays as it is."""
    frozen = encoder.encoder
    merged = VideoViT(frozen.config)
    linear = {f"{name}.weight": m.weight for name, m in frozen.named_modules() if isinstance(m, nn.Linear)}
    rest = {name: x for name, x in frozen.state_dict().items() if name in merged.state_dict()}
    merged.load_state_dict(rest | linear, strict=True)
    return merged


def write_folder(
    encoder: AdaptedEncoder,
    folder: str | os.PathLike,
    state: Mapping[str, Tensor],
    dtype: torch.dtype | None,
    where: dict[str, Any],
) -> None:
    """Write weights and config.json, with the fields `where`, all or nothing."""
    tensors = {k: v.detach().to("cpu", dtype if v.is_floating_point() else None) for k, v in state.items()}
    shape = encoder.config
    config = {"kind": shape.kind, "settings": shape.settings, "clip": shape.clip, "fps": shape.fps, **where}
    Path(folder).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder) as target:
        target.mkdir()
        save_shards(tensors, target, WEIGHTS_NAME)
        text = json.dumps({"_class_name": AdaptedEncoder.__name__, **config}, indent=2) + "\n"
        (target / CONFIG_NAME).write_text(text, encoding="utf-8")


def load_adapted(folder: Path, *, dtype: torch.dtype | None = None, device: str = "cpu") -> AdaptedEncoder:
    """Return the adapted encoder in a folder, in evaluation mode, without gradients.

    `dtype` None is that of the frozen encoder's files. Raises VidgenError where the frozen encoder is not there, or is
    another than the one that was adapted, and for weights that do not fit.
    """
    where = folder / CONFIG_NAME
    config = config_from_dict(AdaptedConfig, read_config(folder), str(where))
    if bool(config.base) == bool(config.encoder):
        raise VidgenError(f"{where}: one of base and encoder says which encoder is adapted, and the other is empty")
    checkpoint = find_checkpoint(folder)
    if config.encoder:
        shape = config_from_dict(VideoViTConfig, config.encoder, f"{where}: encoder")
        checkpoint.check_memory(dtype, device)
        frozen: ImageTower = VideoViT(shape).to(device, dtype)
    else:
        frozen = open_named(config, where, device, dtype)
    try:
        encoder = AdaptedEncoder(frozen, config.kind, config.settings, clip=config.clip, fps=config.fps)
    except VidgenError as error:
        raise VidgenError(f"{where}: {error}") from None
    part = encoder if config.encoder else encoder.adaptation.to(frozen.dtype)
    targets = part.state_dict()
    checkpoint.check(targets)
    kind = dtype if config.encoder else frozen.dtype
    part.load_state_dict({n: put(x, targets[n], kind, device) for n, x in checkpoint.read()}, strict=True, assign=True)
    return encoder.eval().requires_grad_(False)


def open_named(config: AdaptedConfig, where: Path, device: str, dtype: torch.dtype | None) -> ImageTower:
    """Return the frozen encoder that a config names. Raises VidgenError where it is not there, or is another."""
    try:
        encoder, base = open_base(config.base, device=device, dtype=dtype)
    except VidgenError as error:
        raise VidgenError(
            f"{where}: the frozen encoder is not to be had, name its place as `base` there: {error}"
        ) from None
    if base.hash != config.base_hash:
        raise VidgenError(
            f"{where}: {config.base} has hash {base.hash[:12]}, and {config.base_hash[:12]} was adapted; name that "
            "encoder's folder as `base` there"
        )
    return encoder
