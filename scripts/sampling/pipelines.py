"""The pipeline of `vidgen sample`, with what the options change of it, and the options that it takes."""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

from vidgen.errors import VidgenError
from vidgen.scripts.cli.lora import apply_loras

if TYPE_CHECKING:
    from vidgen.pipelines.gan.pipeline import GANPipeline
    from vidgen.pipelines.priors.pipeline import PriorPipeline
    from vidgen.pipelines.video import VideoPipeline
    from vidgen.scripts.cli.guidance import GuidanceOptions
    from vidgen.scripts.cli.lora import LoraChoice
    from vidgen.scripts.cli.option_sets import MaskingOptions, SamplerOptions, TokenOptions


KINDS = {"PriorPipeline": "a prior", "GANPipeline": "a generator in one pass"}


def open_pipeline(
    model: str, settings: dict[str, Any], loras: list[LoraChoice], *, attention: str, text_cache: str, fps: float | None
) -> VideoPipeline | PriorPipeline | GANPipeline:
    """Return the pipeline with what the options change of it.

    Args:
        model: its name, folder or hub id.
        settings: the device and dtype to load it with.
        loras: weights that are added to the denoiser.
        attention: the implementation of attention.
        text_cache: whether encoded prompts are kept on disk: auto, on or off.
        fps: frames a second that the clips will play at, None being the model's own rate.
    """
    from vidgen.models.text.cache import find_text_cache
    from vidgen.pipelines.loading import load_generator
    from vidgen.pipelines.video import VideoPipeline

    pipe = load_generator(model, **settings)
    if not isinstance(pipe, VideoPipeline):
        if loras:
            raise VidgenError(f"--lora is for denoisers, and {model} has none; leave it out")
        return pipe
    if loras:  # the student does not know them
        pipe.student = None
    for part in (pipe, pipe.student):
        if part is not None:
            part.transformer.set_attention(attention)
            part.text_cache = find_text_cache(part.text_encoder, text_cache)
    apply_loras(pipe, loras)
    if hasattr(pipe.transformer, "frame_rate"):  # of models that need to know how fast a clip plays
        pipe.transformer.frame_rate = fps or pipe.scheduler.fps
    return pipe


def call_settings(
    pipe: VideoPipeline | PriorPipeline | GANPipeline, model: str, *option_sets: object, **typed: Any
) -> dict[str, Any]:
    """Return what of the options goes to the pipeline's call: those that it takes.

    Raises VidgenError for others that are not at their defaults; `typed` are options of no set, whose default is None.
    """
    taken = signature(type(pipe).__call__).parameters
    defaults = {field.name: field.default for options in option_sets for field in fields(options)}
    values = {name: value for options in option_sets for name, value in vars(options).items()} | typed
    for name, value in values.items():
        if name not in taken and value != defaults.get(name):
            kind = KINDS.get(type(pipe).__name__, "a denoiser")
            raise VidgenError(f"--{name.replace('_', '-')} says nothing to {kind}, which {model} is; leave it out")
    return {name: value for name, value in values.items() if name in taken}


def sampler_settings(
    pipe: VideoPipeline | PriorPipeline | GANPipeline,
    model: str,
    sampling: SamplerOptions,
    guidance: GuidanceOptions,
    tokens: TokenOptions,
    masking: MaskingOptions,
    negative_prompt: str = "",
) -> dict[str, Any]:
    """Return the arguments of the pipeline's call that say how clips are drawn, but for the `Guidance` of a denoiser,
    which may load a model. Raises as `call_settings` does."""
    from vidgen.pipelines.priors.pipeline import PriorPipeline
    from vidgen.pipelines.video import VideoPipeline

    if isinstance(pipe, VideoPipeline):  # published ones hide what they take
        call_settings(pipe, model, tokens, masking)
        return {"negative_prompt": negative_prompt, **sampling.settings()}
    made_by = call_settings(pipe, model, sampling, guidance, tokens, negative_prompt=negative_prompt or None)
    if isinstance(pipe, PriorPipeline):
        made_by["guidance_interval"] = guidance.interval()
        made_by["masking"] = masking.read(pipe.prior.config, tokens.decoder, model)
    else:
        call_settings(pipe, model, masking)
    return made_by | ({"negative_prompt": negative_prompt} if "negative_prompt" in made_by else {})


def describe_settings(made_by: dict[str, Any]) -> dict[str, Any]:
    """Return those arguments of a call that say something, as plain data for a report."""
    said = {name: value for name, value in made_by.items() if value not in (None, "")}
    return {name: asdict(value) if is_dataclass(value) else value for name, value in said.items()}
