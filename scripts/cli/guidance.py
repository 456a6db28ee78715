"""How sampling is guided: options that verbs share, and the choice that they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.options import parse_numbers

if TYPE_CHECKING:
    import torch

    from vidgen.samplers.guidance import Guidance

GuidanceScaleOption = Annotated[
    float | None, typer.Option("--guidance-scale", help="How strictly to follow the prompt; 1: no guidance.")
]
GuidanceOption = Annotated[
    str,
    typer.Option("--guidance", help="cfg, rescale, apg, cfg_zero, autoguidance, perturbed_attention or text_image."),
]
GuidanceIntervalOption = Annotated[
    str | None, typer.Option("--guidance-interval", metavar="LOW,HIGH", help="Noise levels that are guided.")
]
GuidanceRescaleOption = Annotated[
    float | None, typer.Option("--guidance-rescale", help="Share of the unguided contrast that is kept, 0 to 1.")
]
GuidancePassesOption = Annotated[
    str,
    typer.Option("--guidance-passes", help="auto, batched (fewer, larger passes) or sequential (less memory)."),
]
GuidanceSettingOption = Annotated[
    list[str] | None,
    typer.Option(
        "--guidance-option",
        metavar="NAME=VALUE",
        help="Of one kind: eta, momentum, norm_limit, zero_from, image_scale, blocks=3,4, weaker=MODEL.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class GuidanceWords:
    """The options of the same names, as they were typed."""

    guidance: str = "cfg"
    guidance_interval: str | None = None
    guidance_rescale: float | None = None
    guidance_passes: str = "auto"
    guidance_option: list[str] | None = None

    def read(self, device: str, dtype: torch.dtype) -> Guidance:
        """The choice; loads the weaker model where one is named. VidgenError for what is none."""
        from vidgen.samplers.guidance import Guidance
        from vidgen.samplers.guidance.rules import ALWAYS

        interval = ALWAYS
        if self.guidance_interval is not None:
            interval = tuple(parse_numbers(self.guidance_interval, "--guidance-interval"))
        return Guidance(
            name=self.guidance,
            interval=interval,
            rescale=self.guidance_rescale,
            passes=self.guidance_passes,
            options=dict(self.read_setting(text, device, dtype) for text in self.guidance_option or []),
        )

    def to_dict(self) -> dict[str, Any]:
        """What was said, for a report."""
        names = {"name": "guidance", "interval": "guidance_interval", "rescale": "guidance_rescale"}
        said = {key: getattr(self, name) for key, name in names.items()}
        return said | {"options": list(self.guidance_option or [])}

    def read_setting(self, text: str, device: str, dtype: torch.dtype) -> tuple[str, Any]:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not name or not equals or not value:
            raise VidgenError(f"--guidance-option {text!r} is no NAME=VALUE; give one such as norm_limit=2.5")
        if name == "weaker":
            from vidgen.pipelines.loading import load_pipeline

            return name, load_pipeline(value, device=device, dtype=dtype).transformer
        numbers = parse_numbers(value, f"--guidance-option {name}")
        return name, [int(number) for number in numbers] if name == "blocks" else numbers[0]
