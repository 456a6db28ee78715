"""Guidance by name, and what a call says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from vidgen.errors import VidgenError
from vidgen.interfaces import Denoiser
from vidgen.samplers.guidance.batched_guidance import PASSES
from vidgen.samplers.guidance.rules import ALWAYS, Interval, apg, cfg, cfg_zero, perturbed_cfg, text_image_cfg


@dataclass(frozen=True, kw_only=True)
class Method:
    """A kind of guidance: `rule(denoise_cond, *others, scale, interval, *, rescale, both, **options)`.

    `others` says what it leads away from: "uncond" has the negative prompt for its text; "blind" that and no known
    frames either; "weak" is another network, "perturbed" the same with its attention weakened, both under all
    conditions. `options` are those of the rule, `choices` those of how the others are made. `on_path`: the rule has to
    know the path, and takes it as `path`.
    """

    rule: Callable[..., Denoiser]
    others: tuple[str, ...] = ("uncond",)
    options: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    on_path: bool = False


GUIDANCE: dict[str, Method] = {
    "cfg": Method(rule=cfg),
    "rescale": Method(rule=partial(cfg, rescale=0.7)),  # the share of Lin et al. 2023, section 3.4
    "apg": Method(rule=apg, options=("eta", "momentum", "norm_limit")),
    "cfg_zero": Method(rule=cfg_zero, options=("zero_from",), on_path=True),
    "autoguidance": Method(rule=cfg, others=("weak",), choices=("weaker",)),
    "perturbed_attention": Method(rule=cfg, others=("perturbed",), choices=("blocks",)),
    "cfg_perturbed": Method(
        rule=perturbed_cfg, others=("uncond", "perturbed"), options=("perturbed_scale",), choices=("blocks",)
    ),
    "text_image": Method(rule=text_image_cfg, others=("uncond", "blind"), options=("image_scale",)),
}


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How a call is guided: one of GUIDANCE by `name`, at `scale` (None: the checkpoint's; up to 1: not at all).

    It acts where a clip's noise level lies in `interval`. `rescale` is the share of the conditional estimate's standard
    deviation that is kept (None: the kind's own). `passes`: "batched" runs all of its estimates in one pass over a
    larger batch, "sequential" one after the other, "auto" batched where the memory is there. `options` by kind:

    - "apg": `eta`, `momentum`, `norm_limit`; "cfg_zero": `zero_from`; see there;
    - "autoguidance": `weaker`, a network of the same kind (a pipeline's `transformer`), smaller or trained for less;
    - "perturbed_attention": `blocks`, numbers of the transformer's blocks (default: the one in the middle, a guess);
    - "cfg_perturbed": `blocks`, and `perturbed_scale`, which counts beside that of the text;
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
        if self.name not in GUIDANCE:
            raise VidgenError(f"guidance {self.name!r} is unknown; choose one of {', '.join(GUIDANCE)}")
        if self.passes not in PASSES:
            raise VidgenError(f"guidance_passes {self.passes!r} is unknown; choose one of {', '.join(PASSES)}")
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

    @property
    def method(self) -> Method:
        """The entry of GUIDANCE."""
        return GUIDANCE[self.name]

    def rule_options(self) -> dict[str, Any]:
        """Return what the rule takes besides denoisers, scale and interval."""
        options = {name: value for name, value in self.options.items() if name in self.method.options}
        return options if self.rescale is None else options | {"rescale": self.rescale}


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
