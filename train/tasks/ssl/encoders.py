"""The encoders that task ssl trains, by the `kind` of recipe key `encoder`, and what they read of clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.checkpoints.hub import durable_name, find_model
from vidgen.checkpoints.pretrained import config_from_dict, read_config
from vidgen.errors import VidgenError
from vidgen.interfaces import Tokenizer
from vidgen.models.encoders.clip_encoder import ClipEncoder
from vidgen.models.encoders.loading import ENCODERS
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig
from vidgen.pipelines.loading import load_tokenizer
from vidgen.representations.latent_encoder import (
    ENCODER,
    INDICES,
    Cells,
    LatentEncoder,
    LatentEncoderConfig,
    cell_size,
    check_cells,
    read_cells,
    read_latent_config,
    save_latent_encoder,
)
from vidgen.tokenizers.bottlenecks.output import Quantizer
from vidgen.tokenizers.encoded import latent_size
from vidgen.tokenizers.files.token_files import tokenizer_hash
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.train.config.data import DataConfig
from vidgen.train.config.self_supervised import SSLRecipe

MOST_CODES = 2**16  # of a codebook that is embedded, or whose codes are told from each other


@dataclass(frozen=True)
class CellReader:
    """A frozen tokenizer that turns clips into what an encoder `reads`; its name or folder, and its hash.

    `codes` is the size of the codebook where indices are read, else 0.
    """

    tokenizer: Tokenizer
    reads: str
    name: str
    hash: str
    codes: int

    @torch.no_grad()
    def __call__(self, video: Float[Tensor, "b 3 T H W"]) -> Cells:
        """Return the cells of clips, in the precision that the tokenizer is opened in, whatever autocast says."""
        with torch.autocast(video.device.type, enabled=False):
            return read_cells(self.tokenizer, video, self.reads)

    def clip(self, data: DataConfig) -> tuple[int, int, int]:
        """Return the cells (t, h, w) of clips of the data."""
        rows, columns = latent_size(*data.size, cell_size(self.tokenizer)[1])
        return self.tokenizer.latent_frames(data.num_frames), rows, columns

    @property
    def channels(self) -> dict[str, int]:
        """What the config of an encoder over the cells says of them."""
        return {"codebook_size": self.codes} if self.codes else {"in_channels": self.tokenizer.config.latent_channels}


def open_reader(name: str, reads: str, recipe: SSLRecipe) -> CellReader:
    """Return what reads "latents" or "indices" of the tokenizer `name`. Raises VidgenError for indices of one without a
    codebook, of several codes a cell, or of too many."""
    dtype = torch.bfloat16 if recipe.autocast == "bfloat16" else torch.float32
    tokenizer = load_tokenizer(name, device=recipe.device, dtype=dtype)
    codes = 0
    if reads == INDICES:
        if not (isinstance(tokenizer, VideoTokenizer) and isinstance(tokenizer.bottleneck, Quantizer)):
            raise VidgenError(
                f"tokenizer={name} has no codebook: name the folder of one with fsq, vq or the like, as `vidgen train "
                "tokenizer_discrete` makes it"
            )
        codes, several = tokenizer.bottleneck.codebook_size, tokenizer.bottleneck.quantizers
        if several is not None or codes > MOST_CODES:
            codebook = f"{several} codes a cell" if several else f"{codes} codes"
            raise VidgenError(f"tokenizer={name} has {codebook}; name one of a code a cell, of {MOST_CODES} at most")
    place = durable_name(name, find_model(name, part="vae"))
    return CellReader(tokenizer.eval().requires_grad_(False), reads, place, tokenizer_hash(tokenizer), codes)


def build_encoder(recipe: SSLRecipe, reader: CellReader | None = None) -> ClipEncoder:
    """Return the encoder of `init_from`, or a new one from the recipe's seed: of pixels, or of the cells that `reader`
    makes of clips. Raises VidgenError for another shape, and for one that reads something else."""
    data, values = recipe.data, dict(recipe.encoder)
    kind = values.pop("kind", "vit")
    if kind not in ENCODERS:
        raise VidgenError(f"recipe key `encoder`: kind {kind!r} is unknown; choose one of {', '.join(ENCODERS)}")
    encoder_class = ENCODERS[kind]
    size, channels = (data.num_frames, *data.size), {"in_channels": 3, "codebook_size": 0}
    if reader is not None:
        if kind != "vit":
            raise VidgenError(f"encoder.kind={kind} reads pixels; leave it out, or reads={recipe.reads}")
        size, channels = reader.clip(data), channels | reader.channels
    clip = {"clip": size, "fps": data.fps or encoder_class.config_class.fps}
    if recipe.init_from:
        encoder = open_encoder(recipe.init_from, None if "kind" not in recipe.encoder else encoder_class, reader)
        encoder.config = replace(encoder.config, **clip)  # what it is trained at from here on
        frames = values.get("selector_frames")
        if frames and isinstance(encoder, VideoViT) and not encoder.config.selector_frames:
            encoder = add_selector(encoder, frames, recipe.seed)
        check_same(encoder.config, values, recipe)
    else:
        if reader is not None:
            values = {"patch": (1, 1, 1)} | values | reader.channels
        torch.manual_seed(recipe.seed)
        encoder = encoder_class(config_from_dict(encoder_class.config_class, values | clip, "recipe key `encoder`"))
    if isinstance(encoder, VideoViT) and any(encoder.config[name] != count for name, count in channels.items()):
        raise VidgenError(
            f"init_from={recipe.init_from} is no encoder of {recipe.reads}; name another, or leave it out"
        )
    if reader is not None:
        check_cells(reader.tokenizer, encoder.config.patch)
    encoder.grid_of(torch.empty(1, 3, *size, device="meta"))
    return encoder.to(recipe.device).requires_grad_(True)


def open_encoder(name: str, wanted: type[ClipEncoder] | None, reader: CellReader | None = None) -> ClipEncoder:
    """Return the encoder in a folder, of the class `wanted` or of whichever it says; with a `reader` one that was
    trained on these cells. Raises VidgenError for another."""
    folder = find_model(name)
    class_name = read_config(folder).get("_class_name")
    if reader is not None:
        return open_over_cells(folder, class_name, reader)
    if class_name == LatentEncoder.__name__:
        own = read_latent_config(folder)
        raise VidgenError(f"init_from={name} reads {own.reads}; set reads={own.reads} tokenizer={own.tokenizer}")
    classes = {encoder_class.__name__: encoder_class for encoder_class in ENCODERS.values()}
    if class_name not in classes:
        raise VidgenError(f"init_from={name} is a {class_name}; name a folder of a {' or '.join(classes)}")
    component = wanted or classes[class_name]
    return component.from_pretrained(folder, dtype=torch.float32)


def open_over_cells(folder: Path, class_name: str | None, reader: CellReader) -> VideoViT:
    """Return the encoder over cells in a folder. Raises VidgenError for one of pixels, and of another tokenizer."""
    if class_name != LatentEncoder.__name__:
        raise VidgenError(f"init_from={folder} is a {class_name}, of pixels; leave it out, or reads={reader.reads}")
    own = read_latent_config(folder)
    if (own.reads, own.tokenizer_hash) != (reader.reads, reader.hash):
        raise VidgenError(
            f"init_from={folder} reads {own.reads} of the tokenizer {own.tokenizer_hash[:12]}, not {reader.reads} of "
            f"{reader.name} ({reader.hash[:12]})"
        )
    return VideoViT.from_pretrained(folder / ENCODER, dtype=torch.float32)


def export_over_cells(
    encoder: VideoViT, reader: CellReader, recipe: SSLRecipe, folder: Path, dtype: torch.dtype | None
) -> None:
    """Write an encoder over cells with the name and hash of their tokenizer."""
    config = LatentEncoderConfig(
        reads=reader.reads,
        clip=(recipe.data.num_frames, *recipe.data.size),
        fps=encoder.config.fps,
        tokenizer=reader.name,
        tokenizer_hash=reader.hash,
    )
    save_latent_encoder(encoder, folder, config, dtype=dtype)


def add_selector(encoder: VideoViT, frames: int, seed: int) -> VideoViT:
    """Return a trained encoder with a new selector of so many frames."""
    torch.manual_seed(seed)
    shape = dict(encoder.config) | {"selector_frames": frames}
    selecting = VideoViT(config_from_dict(VideoViTConfig, shape, "recipe key `encoder`"))
    selecting.load_state_dict(selecting.state_dict() | encoder.state_dict())
    return selecting


def check_same(shape: Mapping[str, Any], values: Mapping[str, Any], recipe: SSLRecipe) -> None:
    """Raise VidgenError where `values` say another shape than that of the encoder of `init_from`."""
    for name, value in values.items():
        own = shape[name] if name in shape else None
        if own != (tuple(value) if isinstance(value, list) else value):
            raise VidgenError(f"init_from={recipe.init_from} has encoder.{name}={own}, not {value}; leave it out")
