"""Keys of LoRA files in the forms that are published: which part of a pipeline, which layer, and what of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from vidgen.errors import VidgenError

# How the end of a key says what it holds; `lora_A.default.weight` has the name of an adapter in it.
KINDS = {
    "down": r"lora_A(\..+?)?\.weight|lora_down\.weight|lora\.down\.weight",
    "up": r"lora_B(\..+?)?\.weight|lora_up\.weight|lora\.up\.weight",
    "up_bias": r"lora_B(\..+?)?\.bias|lora_up\.bias",
    # of factors in fp8: what their numbers are multiplied by
    "down_scale": r"lora_(A|down)(\..+?)?\.(scale_weight|weight_scale)",
    "up_scale": r"lora_(B|up)(\..+?)?\.(scale_weight|weight_scale)",
    "magnitude": r"lora_magnitude_vector(\..+?)?(\.weight)?|dora_scale",
    "alpha": r"alpha",
    "weight": r"diff",
    "bias": r"diff_b",
    "modulation": r"diff_m",
}
WORDS = {"down": "lora_A (lora_down)", "up": "lora_B (lora_up)"}
ENDINGS = {kind: re.compile(rf"(?P<layer>.+?)\.(?:{ending})") for kind, ending in KINDS.items()}
# Changes that are no product of two factors, by how the end of their keys begins.
OTHER_KINDS = {"hada_": "LoHa", "lokr_": "LoKr", "oft_": "OFT", "boft_": "BOFT", "glora_": "GLoRA", "a1.": "GLoRA"}
# How the start of a key says which part of a pipeline it is about; longer ones first where one begins another.
PREFIXES = {
    "model.diffusion_model.": "transformer",
    "diffusion_model.model.": "transformer",
    "diffusion_model.": "transformer",
    "pipe.dit.": "transformer",
    "transformer.": "transformer",
    "transformer_2.": "transformer_2",
    "text_encoder.": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
    "lora_unet_": "transformer",
    "lora_transformer_": "transformer",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
}
WRAPPER = "base_model.model."  # peft's own, around any network


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key of a file in its parts: the part of a pipeline, the layer, and the kind of tensor (of `KINDS`)."""

    name: str
    part: str | None
    layer: str
    kind: str


def parse_key(path: Path, name: str) -> Key:
    """Return a key in its parts. Raises VidgenError for one of no known kind."""
    rest = name.removeprefix(WRAPPER)
    prefix = next((prefix for prefix in PREFIXES if rest.startswith(prefix)), "")
    rest = rest.removeprefix(prefix)
    part = PREFIXES.get(prefix)
    for kind, ending in ENDINGS.items():
        if match := ending.fullmatch(rest):
            return Key(name=name, part=part, layer=match["layer"], kind=kind)
    for start, kind in OTHER_KINDS.items():
        if f".{start}" in rest:
            raise refuse_kind(path, kind, f"key {name!r}")
    raise VidgenError(
        f"{path}: key {name!r} is not supported; read are lora_A and lora_B, lora_down and lora_up, alpha, dora_scale, "
        "lora_magnitude_vector, diff, diff_b, diff_m"
    )


def refuse_kind(path: Path | str, kind: str, where: str) -> VidgenError:
    """Return the error of a file whose changes are no product of two factors."""
    return VidgenError(
        f"{path}: {where} is of a {kind}, which is not read; merge it into the model with the tool that made it "
        "(LyCORIS, peft's merge_and_unload) and load that, or extract a LoRA of the difference there"
    )
