"""A folder of one of diffusers' pipelines as a VideoPipeline: looked at whole, and then read."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from vidgen.checkpoints.drafts import Draft
from vidgen.checkpoints.memory import check_weights
from vidgen.checkpoints.pretrained import read_config
from vidgen.errors import VidgenError
from vidgen.pipelines.diffusers_schedule import read_schedule
from vidgen.pipelines.families import PIPELINES, PipelineKind
from vidgen.pipelines.image_encoder import ImageEncoder, draft_image_encoder, read_processor
from vidgen.pipelines.text_encoder import PublishedTextEncoder, draft_text_encoder, read_words
from vidgen.pipelines.tokenizer_loading import load_tokenizer
from vidgen.pipelines.video import VideoPipeline
from vidgen.pipelines.wan.image_to_video import ImageToVideoPipeline

OPTIONAL = ("transformer_2", "boundary_ratio", "image_encoder")


def open_published(folder: Path, index: dict[str, Any], *, dtype: torch.dtype | None, device: str) -> VideoPipeline:
    """The pipeline of diffusers in `folder`, whose model_index.json is `index`.

    All configs, and names and shapes of all tensors, are looked at before any of them is read; the weights go straight
    to their place in `dtype`. Raises VidgenError for parts that are missing, damaged or not supported, and for more
    weights than the free memory holds.
    """
    name = index["_class_name"]
    kind = PIPELINES[name]
    there = find_optional(folder, index, kind)
    module, denoiser_name = kind.denoiser.split(":")
    denoiser = getattr(import_module(module), denoiser_name)
    transformers = ["transformer", *(key for key in there if key == "transformer_2")]
    classes = {**dict.fromkeys(transformers, denoiser.network_class.__name__), "vae": kind.autoencoder}
    for part, cls in classes.items():
        found = read_config(folder / part).get("_class_name")
        if found != cls:
            raise VidgenError(f"{folder / part} holds a {found}; a {name} with {cls} is supported")
    drafts = {part: denoiser.draft(folder / part) for part in transformers}
    vae_config = read_config(folder / "vae")
    defaults = kind.defaults(index, drafts["transformer"].network.config, vae_config)
    schedule = read_schedule(folder, kind.schedulers, defaults, by_length=kind.by_length)
    drafts["text_encoder"] = draft_text_encoder(folder / "text_encoder", dtype)
    words, processor = read_words(folder / "tokenizer"), None
    if "image_encoder" in there:
        drafts["image_encoder"] = draft_image_encoder(folder / "image_encoder", dtype)
        processor = read_processor(folder / "image_processor")
    vae = load_tokenizer(str(folder / "vae"), dtype=dtype, device=device)
    settings = kind.settings(index, vae, defaults)
    made = [denoiser.around(drafts[part].network, schedule.clock, **settings) for part in transformers]
    check_fit(folder, made[0], vae, drafts["text_encoder"])
    if len(made) == 2:
        made = [import_module(module).TwoWanDenoisers(*made, index["boundary_ratio"])]
    from_image = is_from_image(folder, name, made[0], processor is not None)
    sizes = (size for draft in drafts.values() for size in draft.checkpoint.sizes())
    check_weights(folder, sizes, dtype, device)
    filled = {part: draft.fill(dtype=dtype, device=device) for part, draft in drafts.items()}
    parts = (vae, made[0], PublishedTextEncoder(filled["text_encoder"], words, kind.prompts), schedule)
    if not from_image:
        return VideoPipeline(*parts)
    sight = None if processor is None else ImageEncoder(filled["image_encoder"], processor)
    return ImageToVideoPipeline(*parts, image_encoder=sight)


def find_optional(folder: Path, index: dict[str, Any], kind: PipelineKind) -> list[str]:
    """The keys of OPTIONAL that an index has. Raises VidgenError for one that is not read, and for half of a pair."""
    there = [key for key in OPTIONAL if index.get(key) not in (None, [None, None])]
    if unread := [key for key in there if key not in kind.optional]:
        raise VidgenError(f"{folder}: a {index['_class_name']} with {unread[0]} is not supported")
    if ("transformer_2" in there) != ("boundary_ratio" in there):
        raise VidgenError(f"{folder}: transformer_2 and boundary_ratio go together; model_index.json names one only")
    return there


def check_fit(folder: Path, transformer: Any, vae: Any, text: Draft) -> None:
    """Raises VidgenError unless the transformer takes what the autoencoder and the text encoder give."""
    fits = {
        "latent channels": (transformer.config.latent_channels, vae.config.latent_channels, "vae"),
        "text width": (transformer.config.text_width, text.network.config.d_model, "text_encoder"),
    }
    for what, (taken, given, part) in fits.items():
        if taken != given:
            raise VidgenError(f"{folder}: the transformer's {what} is {taken}, the {part}'s {given}; they do not fit")


def is_from_image(folder: Path, name: str, transformer: Any, sees: bool) -> bool:
    """Whether clips are made from an image that goes in beside the latents; `sees`: there is an image encoder.

    Raises VidgenError where the transformer is not one for this class of pipelines.
    """
    beside = getattr(transformer, "beside_channels", 0)
    if name != "WanImageToVideoPipeline":
        if beside:
            c = transformer.config
            raise VidgenError(
                f"{folder}: the transformer takes {c.latent_channels + beside} channels and gives {c.latent_channels}: "
                f"it wants an image beside the latents, which a {name} has not"
            )
        return False
    if not beside and not transformer.config.frame_levels:
        raise VidgenError(f"{folder}: the transformer of this {name} takes no image")
    if bool(transformer.config.settings.get("image_dim")) != sees:
        raise VidgenError(f"{folder}: image_encoder and the transformer's image_dim go together, and one is missing")
    return bool(beside)
