"""Dataclasses of options that several commands take as one parameter, and the decorator that spells them out."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from functools import cache, wraps
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from vidgen.bounds import GUIDANCE_SCALE, INFERENCE_STEPS
from vidgen.errors import VidgenError
from vidgen.scripts.cli.options import (
    DeviceOption,
    DtypeOption,
    LimitOption,
    ModelFpsOption,
    ModelLengthOption,
    ModelSizeOption,
    find_device,
    find_dtype,
    parse_size,
)

if TYPE_CHECKING:
    from vidgen.interfaces import NoiseSchedule
    from vidgen.models.priors.config import TokenPriorConfig
    from vidgen.samplers.masked.maskgit import MaskGITConfig
    from vidgen.samplers.step_cache import StepCacheConfig


def with_option_sets(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command in which every parameter that is a dataclass of options has become these options.

    Each field of such a dataclass is declared as a parameter of a command is: `Annotated` with `typer.Option`. The
    parameters of `command` are keyword-only.
    """
    hints = get_type_hints(command, include_extras=True)
    option_sets = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind = option_sets.get(name)
        parameters += [parameter.replace(annotation=hints[name])] if kind is None else list_parameters(kind)

    @wraps(command)
    def run(**values: Any) -> None:
        for name, kind in option_sets.items():
            values[name] = kind(**{field.name: values.pop(field.name) for field in fields(kind)})
        command(**values)

    run.__signature__ = inspect.Signature(parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


@cache  # several commands share a dataclass, and its annotations are strings to evaluate
def list_parameters(kind: type) -> list[inspect.Parameter]:
    """Return the fields of a dataclass of options as keyword-only parameters."""
    hints = get_type_hints(kind, include_extras=True)
    parameters = []
    for field in fields(kind):
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(field.name, keyword, default=default, annotation=hints[field.name]))
    return parameters


@dataclass(frozen=True, kw_only=True)
class HardwareOptions:
    """Where networks run, and in which precision."""

    device: DeviceOption = "auto"
    dtype: DtypeOption = "float32"

    def settings(self) -> dict[str, Any]:
        """Return the `device` and `dtype` to load a model with. Raises VidgenError for a device that cannot be used."""
        device = find_device(self.device)
        return {"device": device, "dtype": find_dtype(self.dtype, device)}


@dataclass(frozen=True, kw_only=True)
class FastHardwareOptions(HardwareOptions):
    """The same, in the precision that is fastest on the device."""

    dtype: DtypeOption = "auto"


@dataclass(frozen=True, kw_only=True)
class SamplerOptions:
    """How a pipeline samples; what is None is the model's own."""

    num_inference_steps: Annotated[
        int | None,
        typer.Option(
            **INFERENCE_STEPS.limits, help="Denoising steps of a clip: more are slower and finer. Default: the model's."
        ),
    ] = None
    guidance_scale: Annotated[
        float | None,
        typer.Option(
            **GUIDANCE_SCALE.limits,
            help="How strictly to follow the prompt; 1 is without guidance. Default: the model's.",
        ),
    ] = None
    sampler: Annotated[
        str | None,
        typer.Option(help="The solver, one of those that `vidgen solvers orders` lists. Default: the model's."),
    ] = None

    def settings(self) -> dict[str, Any]:
        """Return the arguments of the pipeline's call."""
        return asdict(self)

    def used(self, scheduler: NoiseSchedule) -> dict[str, Any]:
        """Return the settings as they are used with a pipeline of this noise schedule."""
        return {name: getattr(scheduler, name) if value is None else value for name, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class TokenOptions:
    """How a prior's tokens are drawn; what is None is the model's own."""

    decoder: Annotated[
        str,
        typer.Option(
            help="Of a prior: autoregressive or speculative_jacobi; where it fills in masks maskgit, any_order, "
            "first_hitting, rows or far_apart; of order random any. Default: the first of them."
        ),
    ] = ""
    temperature: Annotated[
        float | None,
        typer.Option(min=0.0, max=1000.0, help="Of a prior's draws: below 1 sharper, 0 the most probable token."),
    ] = None
    top_k: Annotated[
        int | None, typer.Option(min=1, max=2**24, help="Draw among so many of the most probable tokens.")
    ] = None
    top_p: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Draw among the most probable tokens that have this probability, above 0."),
    ] = None
    min_p: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="Draw among tokens at least so many times as probable as the most probable one."
        ),
    ] = None
    repetition_penalty: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1000.0, help="Above 1: tokens that are there already are less probable; 1 is none. Above 0."
        ),
    ] = None

    def settings(self) -> dict[str, Any]:
        """Return the arguments of the pipeline's call."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class MaskingOptions:
    """How a prior that fills in masks goes about it by its decoder maskgit; what is None is as usual."""

    mask_schedule: Annotated[
        Literal["cosine", "linear", "arccos"] | None,
        typer.Option(help="Of the decoder maskgit: how many tokens are masked after each step. Default: cosine."),
    ] = None
    mask_order: Annotated[
        Literal["confidence", "random", "halton"] | None,
        typer.Option(
            help="Of the decoder maskgit: which tokens a step keeps. Default: confidence; random of continuous tokens."
        ),
    ] = None
    choice_temperature: Annotated[
        float | None,
        typer.Option(min=0.0, max=1000.0, help="Of the noise on confidence, which falls to 0. Default: 4.5."),
    ] = None
    revised_share: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Of the decoder maskgit: which share of the tokens kept so far, below 1, is drawn anew after each "
            "step but the last. Default: 0.",
        ),
    ] = None

    def read(self, prior: TokenPriorConfig, decoder: str, model: str) -> MaskGITConfig | None:
        """Return the settings of masks for the call of such a prior's pipeline; None where none was asked for.

        Raises VidgenError where they say nothing to the decoder, or to the order.
        """
        from vidgen.pipelines.priors.decoding import find_decoder
        from vidgen.samplers.masked.maskgit import MaskGITConfig

        said = {name: value for name, value in asdict(self).items() if value is not None}
        if not said:
            return None
        if (used := find_decoder(prior, decoder)) != "maskgit":
            option = next(iter(said)).replace("_", "-")
            raise VidgenError(f"--{option} says nothing to {used}, the decoder of {model} here; leave it out")
        order = self.mask_order or ("random" if prior.channels else "confidence")
        if order != "confidence" and self.choice_temperature is not None:
            raise VidgenError(f"--choice-temperature says nothing to a {order} order of masks; leave it out")
        if self.revised_share is not None and (prior.channels or self.revised_share == 1.0):
            what = "continuous tokens" if prior.channels else "a prior as 1: give less"
            raise VidgenError(f"--revised-share says nothing to {what}; tokens are revised by their confidence")
        settings = {name.removeprefix("mask_"): value for name, value in said.items()} | {"order": order}
        return MaskGITConfig(**settings)


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """Which clips of a source are read, and how many frames of each, at which size and rate."""

    num_frames: ModelLengthOption = None
    size: ModelSizeOption = None
    fps: ModelFpsOption = None
    limit: LimitOption = None

    def settings(self) -> dict[str, Any]:
        """Return them by name, `size` as (height, width). Raises VidgenError for what is no size."""
        return {"num_frames": self.num_frames, "size": parse_size(self.size), "fps": self.fps, "limit": self.limit}


@dataclass(frozen=True, kw_only=True)
class StepCacheOptions:
    """When a pass of the network is skipped and the last result used again."""

    cache_bound: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Reuse the last pass until the relative change since then exceeds this, e.g. 0.05. Default: never.",
        ),
    ] = None
    cache_by: Annotated[
        str,
        typer.Option(help="What the change is measured on: the output of the first_block, or the input of the step."),
    ] = "first_block"

    def read(self) -> StepCacheConfig | None:
        """Return the caching, or None where it was not asked for. Raises VidgenError for what is no bound or kind."""
        from vidgen.samplers.step_cache import StepCacheConfig

        return None if self.cache_bound is None else StepCacheConfig(threshold=self.cache_bound, kind=self.cache_by)


def describe_passes(caching: StepCacheConfig | None) -> dict[str, Any]:
    """Return {"passes": {"run", "skipped"}, "cache_bound", "cache_by"} for a report; nothing without caching."""
    if caching is None:
        return {}
    passes = {"run": caching.passes.run, "skipped": caching.passes.skipped}
    return {"cache_bound": caching.threshold, "cache_by": caching.kind, "passes": passes}
