"""Arguments of a pipeline's call in the forms that users of diffusers give them, read into one form."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.bounds import Count, Frames, GuidanceScale, InferenceSteps, Side, check_value
from vidgen.diffusion.noise import draw_per_sample, sample_generator
from vidgen.errors import VidgenError
from vidgen.interfaces import TextEncoder
from vidgen.models.text.encoders import TextEncoding
from vidgen.samplers.finite import require_finite
from vidgen.samplers.guidance.registry import Guidance
from vidgen.samplers.solvers.stepping import Callback
from vidgen.samplers.step_cache import take_rows

TIMESTEPS = 1000.0  # noise level 1 as diffusers' flow schedulers count it
TENSORS = ("latents", "x0")
# Arguments that say nothing of how a clip is made.
FOR_ANY_CLIP = (
    *("prompt", "prompt_embeds", "height", "width", "num_frames", "num_videos_per_prompt", "seed", "generator"),
    *("latents", "output_type", "return_dict", "callback_on_step_end", "callback_on_step_end_tensor_inputs"),
)
NUMBERS = {
    "num_frames": Frames,
    "height": Side,
    "width": Side,
    "num_inference_steps": InferenceSteps,
    "guidance_scale": GuidanceScale,
    "num_videos_per_prompt": Count,
}


def check_numbers(**numbers: float | None) -> None:
    """Raise VidgenError for an argument of `NUMBERS` that is out of its range; None is the checkpoint's own."""
    for name, value in numbers.items():
        check_value(value, NUMBERS[name] | None, name)


def read_generators(
    generator: torch.Generator | Sequence[torch.Generator] | None, seed: int, prompts: int, copies: int
) -> list[torch.Generator]:
    """Return a generator a clip, `copies` of each prompt.

    A single generator serves all clips in turn, as in diffusers: the noise of a clip then depends on how many are
    before it. None makes streams of their own from the seed and the copy's number.
    """
    if generator is None:
        return [sample_generator(seed, copy) for _ in range(prompts) for copy in range(copies)]
    return [generator] * (prompts * copies) if isinstance(generator, torch.Generator) else list(generator)


def draw_noise(
    shape: tuple[int, ...], generators: Sequence[torch.Generator], latents: Tensor | None
) -> Float[Tensor, "b c t h w"]:
    """Return the first noise of clips, from one generator a clip; `latents`, if there are any, in its place.

    Raises VidgenError for another number of generators, and for latents of another shape, or not finite.
    """
    if len(generators) != shape[0]:
        raise VidgenError(f"{len(generators)} generators for {shape[0]} clips; give one a clip")
    noise = draw_per_sample(shape[1:], generators)  # also where it is not used, so that later noise is not the first
    if latents is None:
        return noise
    require_finite(latents, "the latents given hold", "start from others")
    if tuple(latents.shape) != shape:
        raise VidgenError(f"latents are {tuple(latents.shape)}, {shape[0]} clips of {shape[1:]} are asked for")
    return latents


def read_text(
    prompt: str | Sequence[str] | None,
    embeds: TextEncoding | Float[Tensor, "n l d"] | None,
    encoder: TextEncoder,
    name: str,
) -> list[str] | TextEncoding:
    """Return prompts as a list, or encoded ones as they are; of a bare tensor every token counts, padding included.

    Raises VidgenError unless there is one of the two, and for tokens that are not as wide as the encoder's.
    """
    if (prompt is None) == (embeds is None):
        raise VidgenError(f"give {name} or {name}_embeds, one of the two")
    if embeds is None:
        return [prompt] if isinstance(prompt, str) else list(prompt)
    if isinstance(embeds, Tensor):
        embeds = TextEncoding(tokens=embeds, mask=embeds.new_ones(embeds.shape[:2], dtype=torch.bool))
    if embeds.tokens.ndim != 3 or embeds.tokens.shape[2] != encoder.width:
        raise VidgenError(
            f"{name}_embeds are {tuple(embeds.tokens.shape)}; this model reads (prompts, tokens, {encoder.width})"
        )
    return embeds


def repeat_prompts(prompts: list[str] | TextEncoding, copies: int) -> list[str] | TextEncoding:
    """Return every prompt, or row of text, `copies` times in a row."""
    if isinstance(prompts, list):
        return [prompt for prompt in prompts for _ in range(copies)]
    rows = torch.arange(len(prompts.mask), device=prompts.mask.device)
    return take_rows(prompts, rows.repeat_interleave(copies))


def read_callback(
    pipe: Any, callback: Callable[..., Any] | None, tensors: Sequence[str], levels: Float[Tensor, " n_plus_1"]
) -> Callback | None:
    """Return a solver's callback of one that takes (step, x, x0), or diffusers' (pipe, step, timestep, kwargs).

    Diffusers' form is called with the tensors that are asked for, "latents" and "x0"; the "latents" of the dictionary
    that it returns go on in place of the step's. Raises VidgenError for a callback that takes neither, and for tensors
    that are not there.

    Args:
        pipe: Handed on.
        callback: The user's, or None.
        tensors: Names of what is in kwargs.
        levels: The noise levels of the run: a timestep is 1000 times the level that a step begins at.
    """
    if callback is None or takes(callback, 3):
        return callback
    if not takes(callback, 4):
        raise VidgenError("callback_on_step_end takes (step, x, x0), or (pipe, step, timestep, callback_kwargs)")
    names = getattr(callback, "tensor_inputs", tensors)  # diffusers' PipelineCallback says what it wants
    if unknown := sorted(set(names) - set(TENSORS)):
        raise VidgenError(f"callback_on_step_end_tensor_inputs {', '.join(unknown)}: there are {', '.join(TENSORS)}")

    def call(step: int, x: Tensor, x0: Tensor) -> Tensor | None:
        values = {"latents": x, "x0": x0}
        timestep = TIMESTEPS * levels[step]
        changed = callback(pipe, step, timestep, {name: values[name] for name in names})
        return changed.get("latents") if isinstance(changed, dict) else None

    return call


def suits_student(schedule: Any, settings: Mapping[str, Any]) -> bool:
    """Return whether a call under these arguments is what a student is for: prompts alone, and of the sampling no more
    than a number of steps that it was trained for. A sampler, a scale of guidance or anything else asks for the model
    itself; None is left out."""
    steps = settings.get("num_inference_steps")
    if steps is not None and schedule.distilled_steps and steps not in schedule.distilled_steps:
        return False
    guidance = settings.get("guidance")
    if isinstance(guidance, Guidance):
        guidance = None if replace(guidance, passes=Guidance().passes) == Guidance() else guidance
    others = settings.keys() - {"num_inference_steps", "guidance", "negative_prompt", *FOR_ANY_CLIP}
    is_plain = guidance in (None, "cfg") and not settings.get("negative_prompt")
    return is_plain and all(settings[name] is None for name in others)


def warn_student(schedule: Any, steps: int, guidance_scale: float | None) -> None:
    """Warn where a distilled model is run at other steps than it was trained for, or guided once more."""
    trained = getattr(schedule, "distilled_steps", ())
    if trained and steps not in trained:
        counts = ", ".join(str(count) for count in trained)
        warnings.warn(
            f"this model is a student of {counts} steps, and was not trained for {steps}: num_inference_steps={counts}",
            stacklevel=4,
        )
    scale = getattr(schedule, "distilled_guidance", 1.0)
    if scale > 1.0 and guidance_scale is not None and guidance_scale > 1.0:
        warnings.warn(
            f"guidance of {scale:g} is distilled into this model, and guidance_scale={guidance_scale:g} adds to it: "
            "leave it at 1",
            stacklevel=4,
        )


def takes(function: Callable[..., Any], count: int) -> bool:
    """Return whether a function may be called with so many positional arguments."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    return True
