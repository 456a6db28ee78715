"""`load_pipeline` and its like: a shipped model, a folder, or a hub id, as what makes clips, codes or features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from vidgen.checkpoints.hub import find_model
from vidgen.checkpoints.pretrained import CONFIG_NAME, read_config
from vidgen.errors import VidgenError
from vidgen.files.bounded_files import read_class, read_json
from vidgen.interfaces import Encoder
from vidgen.models.adaptation.adapted_encoder import AdaptedEncoder
from vidgen.models.adaptation.files import load_adapted
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.models.encoders.loading import ENCODERS, is_external, is_packaged, load_encoder
from vidgen.models.encoders.video_vit import VideoViT
from vidgen.models.ip_adapter import IPAdapterEncoder
from vidgen.models.placement import loading_dtype
from vidgen.models.text.encoders import ByteTextEncoder
from vidgen.models.text.transformers_encoder import TransformersTextEncoder
from vidgen.pipelines.components import INDEX_NAME
from vidgen.pipelines.diffusers_folder import open_published, read_entry
from vidgen.pipelines.families import PIPELINES
from vidgen.pipelines.gan.pipeline import GANPipeline
from vidgen.pipelines.priors.pipeline import PriorPipeline
from vidgen.pipelines.scheduler_config import read_scheduler
from vidgen.pipelines.video import VideoPipeline
from vidgen.pipelines.wan.transformer import WanTransformer
from vidgen.pipelines.whole_clip import WholeClipTokenizer
from vidgen.representations.latent_encoder import ENCODER, LatentEncoder, read_latent_config
from vidgen.tokenizers.files.token_files import tokenizer_hash
from vidgen.tokenizers.model import VideoTokenizer

# By class name alone: modules move, and older folders name where a class once was.
COMPONENTS = {
    "VideoTokenizer": VideoTokenizer,
    "VideoDiT": VideoDiT,
    "WanTransformer": WanTransformer,
    "ByteTextEncoder": ByteTextEncoder,
    "TransformersTextEncoder": TransformersTextEncoder,
    "IPAdapterEncoder": IPAdapterEncoder,
    "ImagePromptEncoder": IPAdapterEncoder,  # its name before
}
# Readers of tokenizers by the class that a config names: docs/published_weights.md lists them.
READERS: dict[str, Callable[..., VideoTokenizer | WholeClipTokenizer]] = {
    VideoTokenizer.__name__: VideoTokenizer.from_pretrained,
    **{kind.autoencoder: kind.read_autoencoder for kind in PIPELINES.values()},
}

# Pipelines without a denoiser, by the class that model_index.json names.
GENERATORS = {kind.__name__: kind for kind in (PriorPipeline, GANPipeline)}

# What tasks of training make that has no VideoTokenizer's interface, and the commands that read it.
READ_ELSEWHERE = {
    "KeyframeTokenizer": "its codes are key frames and motion; `vidgen tokenizer keyframes CLIPS --model {folder}` "
    "measures it, `tokenizer encode`, `decode` and `reconstruct` and `extract` take it, and "
    "KeyframeTokenizer.from_pretrained reads it in Python",
    "DiffusionTokenizer": "its decoder takes many passes; `vidgen extract {folder} CLIPS` reads its features, and "
    "DiffusionTokenizer.from_pretrained decodes in Python",
}


def load_component(folder: Path, entry: object, dtype: torch.dtype | None, device: str) -> nn.Module:
    """Return one part of a pipeline, of the class that model_index.json names; only vidgen's own classes are loaded."""
    _, name = read_entry(folder, entry, ("vidgen",))
    if name not in COMPONENTS:
        raise VidgenError(f"{folder}: class {name} is not one of {', '.join(COMPONENTS)}; saved by another version?")
    component = COMPONENTS[name]
    if component is VideoDiT and read_config(folder).get("final_table"):  # how version 0.1 saved Wan's transformers
        component = WanTransformer
    return component.from_pretrained(folder, dtype=dtype, device=device)


def load_pipeline(
    name: str = "default", *, device: str = "cpu", dtype: torch.dtype | str | None = torch.float32
) -> VideoPipeline:
    """Return the pipeline `name`: "default", a folder with model_index.json (ours, or diffusers' of PIPELINES), or a
    hub id.

    `dtype` None is that of the files, and "auto" is it too unless `device` would emulate bfloat16, see `loading_dtype`.
    Raises VidgenError if it is not whole, or of a class that is not supported.
    """
    dtype = loading_dtype(dtype, device)
    folder = find_model(name)
    if folder.is_file():
        read_config(folder)  # says what it is, if it is known
        raise VidgenError(f"{folder} is one file of weights, and a pipeline is a folder with {INDEX_NAME}; name that")
    if (folder / CONFIG_NAME).is_file() and not (folder / INDEX_NAME).is_file():
        class_name = read_class(read_config(folder), folder / CONFIG_NAME) or "model of another library"
        raise VidgenError(f"{name} is a {class_name} alone, and a pipeline is a folder with {INDEX_NAME}; name that")
    index = read_json(folder / INDEX_NAME)
    class_name = read_class(index, folder / INDEX_NAME) or VideoPipeline.__name__
    if class_name in PIPELINES:
        return open_published(folder, index, PIPELINES[class_name], dtype=dtype, device=device)
    if class_name in GENERATORS:
        raise VidgenError(
            f"{folder} holds a {class_name}, which has no denoiser: `vidgen sample` and `vidgen evaluate generation` "
            "take it, and load_generator in Python"
        )
    if class_name != VideoPipeline.__name__:
        supported = ", ".join((VideoPipeline.__name__, *PIPELINES))
        raise VidgenError(f"{folder} holds a {class_name}, which is not supported; {supported} are")
    missing = [part for part in ("vae", "transformer", "text_encoder", "scheduler") if part not in index]
    if missing:
        raise VidgenError(f"{folder / INDEX_NAME} names no {', '.join(missing)}; not a text-to-video pipeline")
    scheduler = read_scheduler(folder)
    names = [part for part in ("vae", "transformer", "text_encoder", "image_prompt") if part in index]
    parts = {part: load_component(folder / part, index[part], dtype, device) for part in names}
    pipe = VideoPipeline(**parts, scheduler=scheduler)
    if "student" in index:
        student = load_component(folder / "student", index["student"], dtype, device)
        pipe.student = VideoPipeline(pipe.vae, student, pipe.text_encoder, read_scheduler(folder / "student"))
    return pipe


def load_generator(
    name: str = "default", *, device: str = "cpu", dtype: torch.dtype | str | None = torch.float32
) -> VideoPipeline | PriorPipeline | GANPipeline:
    """Return whatever makes clips of prompts: the pipeline of a denoiser, see `load_pipeline`, of a prior, or of a
    generator in one pass.

    Raises VidgenError as `load_pipeline` does.
    """
    folder = find_model(name)
    index = folder / INDEX_NAME
    class_name = read_class(read_json(index), index) if index.is_file() else None
    if class_name in GENERATORS:
        return GENERATORS[class_name].from_pretrained(folder, dtype=loading_dtype(dtype, device), device=device)
    return load_pipeline(name, device=device, dtype=dtype)


def load_feature_encoder(
    name: str, *, device: str = "cpu", dtype: torch.dtype | str | None = torch.float32
) -> VideoPipeline | Encoder:
    """Return whatever has features to read: a pipeline, a tokenizer where the folder holds no more, a trained encoder,
    or one of transformers or timm.

    Raises VidgenError if there is none, and for a generator that reads no clips.
    """
    from vidgen.pipelines.priors.encoder import PriorEncoder
    from vidgen.tokenizers.diffusion_decoder.model import DiffusionTokenizer
    from vidgen.tokenizers.keyframes.model import KeyframeTokenizer

    settings = {"device": device, "dtype": loading_dtype(dtype, device)}
    if is_packaged(name):
        return load_encoder(name, **settings)
    folder = find_model(name)
    if (folder / INDEX_NAME).is_file():
        pipe = load_generator(name, **settings)
        if isinstance(pipe, GANPipeline):
            raise VidgenError(f"{name} makes clips and reads none; name a pipeline with a tokenizer, or an encoder")
        return PriorEncoder(pipe) if isinstance(pipe, PriorPipeline) else pipe
    config = read_config(folder)
    if is_external(config):
        return load_encoder(name, **settings)
    if config.get("_class_name") == AdaptedEncoder.__name__:
        return load_adapted(folder, **settings)
    if config.get("_class_name") == LatentEncoder.__name__:
        return load_latent_encoder(folder, **settings)
    for component in (*ENCODERS.values(), DiffusionTokenizer, KeyframeTokenizer):
        if config.get("_class_name") == component.__name__:
            return component.from_pretrained(folder, **settings)
    return load_tokenizer(name, **settings)


def find_tokenizer(name: str) -> Path:
    """Return the folder or file of the tokenizer `name`. Raises VidgenError if there is none."""
    folder = find_model(name, part="vae")
    if (folder / INDEX_NAME).is_file():
        read_json(folder / INDEX_NAME)
        folder = folder / "vae"
    return folder


def find_class(name: str) -> str | None:
    """Return the class that the tokenizer `name` says it is of. Raises VidgenError if there is none."""
    folder = find_tokenizer(name)
    return read_class(read_config(folder), folder)


def load_tokenizer(
    name: str = "default", *, device: str = "cpu", dtype: torch.dtype | str | None = "auto"
) -> VideoTokenizer | WholeClipTokenizer:
    """Return the tokenizer `name`: "default", a folder of a tokenizer or of a whole pipeline, one safetensors file, or
    a hub id.

    A WholeClipTokenizer has a VideoTokenizer's interface but does not stream. `dtype`: as of `load_pipeline`. Raises
    VidgenError if there is none, if it is of a class that is not supported, or if its weights do not fit its config.
    """
    dtype = loading_dtype(dtype, device)
    folder = find_tokenizer(name)
    class_name = read_class(read_config(folder), folder)
    if class_name in READ_ELSEWHERE:
        raise VidgenError(f"{folder} holds a {class_name}: {READ_ELSEWHERE[class_name].format(folder=folder)}")
    if class_name not in READERS:
        published = ", ".join(name for name in READERS if name != VideoTokenizer.__name__)
        raise VidgenError(
            f"{folder} holds a {class_name}, not a VideoTokenizer, nor a published class that is read: {published}"
        )
    return READERS[class_name](folder, dtype=dtype, device=device)


def load_latent_encoder(folder: Path, *, device: str = "cpu", dtype: torch.dtype | None = None) -> LatentEncoder:
    """Return the encoder over a tokenizer's latents or indices in a folder, with that tokenizer, in evaluation mode.

    Raises VidgenError where the tokenizer is not there, or is another than the one whose cells were learned.
    """
    where, config = folder / CONFIG_NAME, read_latent_config(folder)
    try:
        tokenizer = load_tokenizer(config.tokenizer, device=device, dtype=dtype)
    except VidgenError as error:
        raise VidgenError(
            f"{where}: the tokenizer is not to be had, name its place as `tokenizer` there: {error}"
        ) from None
    if (own_hash := tokenizer_hash(tokenizer)) != config.tokenizer_hash:
        raise VidgenError(
            f"{where}: {config.tokenizer} has hash {own_hash[:12]}, and the encoder reads {config.reads} of "
            f"{config.tokenizer_hash[:12]}; name that tokenizer's folder as `tokenizer` there"
        )
    encoder = VideoViT.from_pretrained(folder / ENCODER, device=device, dtype=dtype)
    whole = LatentEncoder(tokenizer, encoder, config.reads, clip=config.clip, fps=config.fps)
    return whole.eval().requires_grad_(False)


def load_trainable(name: str, *, dtype: torch.dtype | None = None) -> VideoTokenizer:
    """Return the tokenizer `name` as `load_tokenizer` finds it. Raises VidgenError if it is of a class of diffusers,
    which is not trained here."""
    tokenizer = load_tokenizer(name, dtype=dtype)
    if not isinstance(tokenizer, VideoTokenizer):
        raise VidgenError(
            f"{name} holds {tokenizer.config.name} of diffusers' class, which is not trained; name another"
        )
    return tokenizer
