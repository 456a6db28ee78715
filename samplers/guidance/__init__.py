from vidgen.samplers.guidance.catalogue import GUIDANCE, Guidance
from vidgen.samplers.guidance.passes import batched, sequential
from vidgen.samplers.guidance.rules import apg, away_from, cfg, cfg_zero, text_image_cfg
from vidgen.samplers.guidance.weakening import perturbed_attention

__all__ = [
    "GUIDANCE",
    "Guidance",
    "apg",
    "away_from",
    "batched",
    "cfg",
    "cfg_zero",
    "perturbed_attention",
    "sequential",
    "text_image_cfg",
]
