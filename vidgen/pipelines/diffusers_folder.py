"""A folder of one of diffusers' pipelines as a VideoPipeline: all of it is checked before any of it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from vidgen.checkpoints.conversion import NetworkDraft
from vidgen.checkpoints.hub import PIPELINE_PARTS
from vidgen.checkpoints.memory import check_weights
from vidgen.checkpoints.pretrained import read_config
from vidgen.errors import VidgenError
from vidgen.files.bounded_files import read_class
from vidgen.models.text.tokenizers import read_text_tokenizer
from vidgen.pipelines.image_encoder import ImageEncoder, draft_image_encoder, read_processor
from vidgen.pipelines.pipeline_kind import PipelineKind
from vidgen.pipelines.published_schedule import read_published_schedule
from vidgen.pipelines.text_encoder import PublishedTextEncoder, draft_text_encoder
from vidgen.pipelines.video import VideoPipeline
from vidgen.pipelines.wan.image_to_video import ImageToVideoPipeline

OPTIONAL = ("transformer_2", "boundary_ratio", "image_encoder")
PARTS = (*PIPELINE_PARTS, "scheduler", "image_processor")
LIBRARIES = ("diffusers", "transformers")


def open_published(
    folder: Path, index: dict[str, Any], kind: PipelineKind, *, dtype: torch.dtype | None, device: str
) -> VideoPipeline:
    """Return the pipeline of diffusers in `folder`, of a class of `kind`, whose model_index.json is `index`.

    All configs, and names and shapes of all tensors, are checked before any of them is read; the weights go straight
    to their place in `dtype`. Raises VidgenError for parts that are missing, damaged or not supported, and for more
    weights than the free memory holds.
    """
    name = index["_class_name"]
    optional = find_optional(folder, index, kind)
    transformers = ["transformer", *(key for key in optional if key == "transformer_2")]
    check_classes(folder, name, kind, transformers)
    drafts = {part: kind.denoiser.draft(folder / part) for part in transformers}
    defaults = kind.defaults(index, drafts["transformer"].network.config, read_config(folder / "vae"))
    schedule = read_published_schedule(folder, kind.schedulers, defaults, by_length=kind.by_length)
    drafts["text_encoder"] = draft_text_encoder(folder / "text_encoder", dtype)
    tokenizer = read_text_tokenizer(folder / "tokenizer")
    processor = None
    if "image_encoder" in optional:
        drafts["image_encoder"] = draft_image_encoder(folder / "image_encoder", dtype)
        processor = read_processor(folder / "image_processor")
    vae = kind.read_autoencoder(folder / "vae", dtype=dtype, device=device)
    settings = kind.settings(index, vae, defaults)
    denoisers = [kind.denoiser.wrap(drafts[part].network, schedule.clock, **settings) for part in transformers]
    check_fit(folder, denoisers[0], vae, drafts["text_encoder"])
    transformer = kind.pair(*denoisers, index["boundary_ratio"]) if len(denoisers) == 2 else denoisers[0]
    takes_image = check_image(folder, name, kind, transformer, processor is not None)
    sizes = (size for draft in drafts.values() for size in draft.checkpoint.sizes())
    check_weights(folder, sizes, dtype, device)
    networks = {part: draft.fill(dtype=dtype, device=device) for part, draft in drafts.items()}
    text_encoder = PublishedTextEncoder(networks["text_encoder"], tokenizer, kind.prompts)
    parts = (vae, transformer, text_encoder, schedule)
    if not takes_image:
        return VideoPipeline(*parts)
    image_encoder = None if processor is None else ImageEncoder(networks["image_encoder"], processor)
    return ImageToVideoPipeline(*parts, image_encoder=image_encoder)


def find_optional(folder: Path, index: dict[str, Any], kind: PipelineKind) -> list[str]:
    """Return the keys of OPTIONAL that an index has. Raises VidgenError for one that is not read, and for half of a
    pair."""
    for part, entry in index.items():
        if part in PARTS and entry not in (None, [None, None]):
            read_entry(folder / part, entry, LIBRARIES)
    keys = [key for key in OPTIONAL if index.get(key) not in (None, [None, None])]
    if unread := [key for key in keys if key not in kind.optional]:
        raise VidgenError(f"{folder}: a {index['_class_name']} with {unread[0]} is not supported")
    if ("transformer_2" in keys) != ("boundary_ratio" in keys):
        raise VidgenError(f"{folder}: transformer_2 and boundary_ratio go together; model_index.json names one only")
    ratio = index.get("boundary_ratio")
    if ratio is not None and not (isinstance(ratio, int | float) and 0 <= ratio <= 1):
        raise VidgenError(f"{folder}: boundary_ratio={str(ratio)[:60]!r} of model_index.json is no share from 0 to 1")
    return keys


def read_entry(folder: Path, entry: object, libraries: tuple[str, ...]) -> tuple[str, str]:
    """Return library and class that model_index.json names for the part in `folder`.

    Raises VidgenError for what is no such pair, and for another library: no module that a folder names is imported.
    """
    if not (isinstance(entry, list) and len(entry) == 2 and all(isinstance(name, str) for name in entry)):
        raise VidgenError(f"{folder}: {str(entry)[:60]!r} of model_index.json is no library and class; it is damaged")
    library, name = entry
    if library.split(".")[0] not in libraries:
        wanted = " or ".join(libraries)
        raise VidgenError(
            f"{folder}: class {name[:60]!r} of model_index.json is of {library[:60]!r}, not of {wanted}; other code is "
            "not run"
        )
    return library, name


def check_classes(folder: Path, name: str, kind: PipelineKind, transformers: list[str]) -> None:
    """Raise VidgenError unless transformers and autoencoder are of the classes of the pipeline `name`."""
    classes = {**dict.fromkeys(transformers, kind.denoiser.network_class().__name__), "vae": kind.autoencoder}
    for part, expected in classes.items():
        actual = read_class(read_config(folder / part), folder / part)
        if actual != expected:
            raise VidgenError(f"{folder / part} holds a {actual}; a {name} with {expected} is supported")


def check_fit(folder: Path, transformer: nn.Module, vae: nn.Module, text: NetworkDraft) -> None:
    """Raise VidgenError unless the transformer takes what the autoencoder and the text encoder give."""
    fits = {
        "latent channels": (transformer.config.latent_channels, vae.config.latent_channels, "vae"),
        "text width": (transformer.config.text_width, text.network.config.d_model, "text_encoder"),
    }
    for name, (ours, theirs, part) in fits.items():
        if ours != theirs:
            raise VidgenError(f"{folder}: the transformer's {name} is {ours}, the {part}'s {theirs}; they do not fit")


def check_image(folder: Path, name: str, kind: PipelineKind, transformer: nn.Module, has_encoder: bool) -> bool:
    """Return whether clips are made from an image that goes in beside the latents; `has_encoder`: and through CLIP.

    Raises VidgenError where the transformer is not one for this class of pipelines.
    """
    config = transformer.config
    extra = transformer.image_channels
    if not kind.from_image:
        if extra:
            raise VidgenError(
                f"{folder}: the transformer takes {config.latent_channels + extra} channels and gives "
                f"{config.latent_channels}: it wants an image beside the latents, which a {name} has not"
            )
        return False
    if not extra and not config.frame_levels:
        raise VidgenError(f"{folder}: the transformer of this {name} takes no image")
    if bool(config.settings.get("image_dim")) != has_encoder:
        raise VidgenError(f"{folder}: image_encoder and the transformer's image_dim go together, and one is missing")
    return bool(extra)
