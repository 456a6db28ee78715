"""Guidance by name, and what a call says of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from vidgen.bounds import GuidanceScale, check_value
from vidgen.diffusion.paths import ProbabilityPath
from vidgen.errors import VidgenError
from vidgen.interfaces import Denoiser
from vidgen.samplers.guidance.batched_guidance import PASSES
from vidgen.samplers.guidance.rules import (
    ALWAYS,
    Interval,
    Rescale,
    apg,
    cfg,
    cfg_zero,
    pag,
    perturbed_cfg,
    text_image_cfg,
    zero_level,
)


@dataclass(frozen=True, kw_only=True)
class Method:
    """A kind of guidance: `rule(denoise_cond, *others, scale, interval, *, rescale, both, **options)`.

    `others` says what it leads away from: "uncond" has the negative prompt for its text; "blind" that and no known
    frames either; "weak" is another network, "perturbed" the same with its attention weakened, both under all
    conditions. `options` are those of the rule, `choices` those of how the others are made. `on_path`: the rule has to
    know the path, and takes it as `path`. `neutral` is the scale up to which it does nothing, and `further` has the
    same of its other scales, which are 1 where a call does not say. `rescale` is its share of rescaling.
    """

    rule: Callable[..., Denoiser]
    others: tuple[str, ...] = ("uncond",)
    options: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    on_path: bool = False
    neutral: float = 1.0
    further: Mapping[str, float] = field(default_factory=dict)
    rescale: float = 0.0


GUIDANCE: dict[str, Method] = {
    "cfg": Method(rule=cfg),
    "rescale": Method(rule=cfg, rescale=0.7),  # the share of Lin et al. 2023, section 3.4
    "apg": Method(rule=apg, options=("eta", "momentum", "norm_limit")),
    "cfg_zero": Method(rule=cfg_zero, options=("zero_from",), choices=("zero_init_steps",), on_path=True),
    "autoguidance": Method(rule=cfg, others=("weak",), choices=("weaker",)),
    "pag": Method(rule=pag, others=("perturbed",), choices=("blocks",), neutral=0.0),
    "cfg_perturbed": Method(
        rule=perturbed_cfg,
        others=("uncond", "perturbed"),
        options=("perturbed_scale",),
        choices=("blocks",),
        further={"perturbed_scale": 0.0},
    ),
    "text_image": Method(
        rule=text_image_cfg, others=("uncond", "blind"), options=("image_scale",), further={"image_scale": 1.0}
    ),
}
# "pag" before it took its paper's scale, which is less by 1. Gone in 0.3.
FORMER = {"perturbed_attention": Method(rule=cfg, others=("perturbed",), choices=("blocks",))}


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How a call is guided: one of GUIDANCE by `name`, at `scale` (None: the checkpoint's; up to 1: not at all).

    It acts where a clip's noise level lies in `interval`. `rescale` is the share of the conditional prediction's
    standard deviation that is kept, in what the model predicts (None: the kind's own). `passes`: "batched" runs all of
    its estimates in one pass over a larger batch, "sequential" one after the other, "auto" batched where the memory is
    there. `options` by kind:

    - "apg": `eta`, `momentum`, `norm_limit`, see there;
    - "cfg_zero": `zero_init_steps`, how many of the first steps do not move (1 by default); or `zero_from`, a level;
    - "autoguidance": `weaker`, a network of the same kind (a pipeline's `transformer`), smaller or trained for less;
    - "pag", perturbed attention by its paper's scale, 0 being none: `blocks`, numbers of the transformer's blocks
      (default: the one in the middle, a guess);
    - "cfg_perturbed": `blocks`, and `perturbed_scale`, the paper's, beside that of the text;
    - "text_image": `image_scale`, that of the known frames; `scale` is the text's. "cfg" where none are.

    Raises VidgenError for what is not one of these.
    """

    name: str = "cfg"
    scale: float | None = None
    interval: Interval = ALWAYS
    rescale: float | None = None
    passes: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in GUIDANCE | FORMER:
            raise VidgenError(f"guidance {self.name!r} is unknown; choose one of {', '.join(GUIDANCE)}")
        if self.name in FORMER:
            line = "guidance 'perturbed_attention' is now 'pag', whose scale is the paper's: 1 less than here"
            warnings.warn(line, FutureWarning, stacklevel=3)
        if self.passes not in PASSES:
            raise VidgenError(f"guidance_passes {self.passes!r} is unknown; choose one of {', '.join(PASSES)}")
        check_value(self.scale, GuidanceScale | None, "guidance_scale")
        interval = tuple(self.interval)
        if len(interval) != 2 or not 0.0 <= interval[0] <= interval[1] <= 1.0:
            raise VidgenError(f"guidance_interval is {interval}; two noise levels are wanted, 0 <= low <= high <= 1")
        if self.rescale is not None and not 0.0 <= self.rescale <= 1.0:
            raise VidgenError(f"guidance_rescale is {self.rescale}; it is a share, from 0 to 1")
        names = (*self.method.options, *self.method.choices)
        if unknown := [name for name in self.options if name not in names]:
            raise VidgenError(
                f"guidance {self.name!r} has no option {unknown[0]!r}; it has {', '.join(names) or 'none'}"
            )
        if self.name == "autoguidance" and self.options.get("weaker") is None:
            raise VidgenError("autoguidance leads away from a weaker network: give one, options={'weaker': network}")
        steps = self.options.get("zero_init_steps", 0)
        if not isinstance(steps, int | float) or isinstance(steps, bool) or steps < 0 or steps != int(steps):
            raise VidgenError(f"zero_init_steps is {steps!r}; it is a number of steps, 0 or more")
        if {"zero_init_steps", "zero_from"} <= self.options.keys():
            raise VidgenError("zero_init_steps and zero_from say the same in two ways; give one of them")

    @property
    def method(self) -> Method:
        """The entry of GUIDANCE."""
        return (GUIDANCE | FORMER)[self.name]

    def acts(self, scale: float) -> bool:
        """Return whether anything but the conditional estimate counts at this scale."""
        further = self.method.further.items()
        return scale > self.method.neutral or any(self.options.get(name, 1.0) > neutral for name, neutral in further)

    def rule_options(self, path: ProbabilityPath, prediction_type: str, times: Tensor | None) -> dict[str, Any]:
        """Return what the rule takes besides denoisers, scale and interval, in a run over the levels `times`."""
        options = {name: value for name, value in self.options.items() if name in self.method.options}
        share = self.method.rescale if self.rescale is None else self.rescale
        options["rescale"] = Rescale(share=share, path=path, prediction_type=prediction_type)
        if self.method.on_path:
            options["path"] = path
        if self.name == "cfg_zero" and times is not None and "zero_from" not in options:
            options["zero_from"] = zero_level(times, int(self.options.get("zero_init_steps", 1)))
        return options


def read_guidance(
    guidance: str | Guidance,
    *,
    scale: float | None,
    interval: Interval | None,
    rescale: float | None,
    passes: str | None,
) -> Guidance:
    """Return a guidance by name, or a whole one, with those of its fields replaced that are not None here."""
    guidance = guidance if isinstance(guidance, Guidance) else Guidance(name=guidance)
    fields = {"scale": scale, "interval": interval, "rescale": rescale, "passes": passes}
    return replace(guidance, **{name: value for name, value in fields.items() if value is not None})
