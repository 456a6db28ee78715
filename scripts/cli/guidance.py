"""How sampling is guided: the options that verbs share, and the `Guidance` that they choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.options import parse_numbers

if TYPE_CHECKING:
    import torch

    from vidgen.samplers.guidance import Guidance


@dataclass(frozen=True, kw_only=True)
class GuidanceOptions:
    """The options of guidance besides its scale, as they were typed."""

    guidance: Annotated[
        str,
        typer.Option(
            help="Rule of guidance: cfg, rescale, apg, cfg_zero, autoguidance, pag, cfg_perturbed or text_image."
        ),
    ] = "cfg"
    guidance_interval: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH",
            help="Guide only at noise levels from LOW to HIGH, of a prior while the share of tokens that are done lies "
            "there, 0 to 1. Default: always.",
        ),
    ] = None
    guidance_rescale: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="How far guided contrast is brought back to the unguided one, 0 to 1. Default: the rule's.",
        ),
    ] = None
    guidance_passes: Annotated[
        str,
        typer.Option(
            help="Guided and unguided passes batched into one (faster) or sequential (less memory); auto chooses."
        ),
    ] = "auto"
    guidance_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A setting of the rule, may be repeated: eta, momentum, norm_limit, zero_init_steps, zero_from, "
            "image_scale, perturbed_scale, blocks=3,4 or weaker=MODEL.",
        ),
    ] = None

    def read(self, device: str, dtype: torch.dtype) -> Guidance:
        """Return the guidance; loads the weaker model where one is named. Raises VidgenError for what is none."""
        from vidgen.samplers.guidance import Guidance
        from vidgen.samplers.guidance.rules import ALWAYS

        return Guidance(
            name=self.guidance,
            interval=self.interval() or ALWAYS,
            rescale=self.guidance_rescale,
            passes=self.guidance_passes,
            options=dict(read_setting(text, device, dtype) for text in self.guidance_option or []),
        )

    def interval(self) -> tuple[float, ...] | None:
        """Return the interval at which guidance acts; None is always. Raises VidgenError for what are no numbers."""
        if self.guidance_interval is None:
            return None
        return tuple(parse_numbers(self.guidance_interval, "--guidance-interval"))

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain data, for a report."""
        return {
            "name": self.guidance,
            "interval": self.guidance_interval,
            "rescale": self.guidance_rescale,
            "options": list(self.guidance_option or []),
        }


def read_setting(text: str, device: str, dtype: torch.dtype) -> tuple[str, Any]:
    """Return "NAME=VALUE" as the name and the value; `weaker` is a model's denoiser. VidgenError for anything else."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not name or not equals or not value:
        raise VidgenError(f"--guidance-option {text!r} is no NAME=VALUE; give one such as norm_limit=2.5")
    if name == "weaker":
        from vidgen.pipelines.loading import load_pipeline

        return name, load_pipeline(value, device=device, dtype=dtype).transformer
    numbers = parse_numbers(value, f"--guidance-option {name}")
    return name, [int(number) for number in numbers] if name == "blocks" else numbers[0]
