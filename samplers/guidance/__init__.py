from vidgen.samplers.guidance.batched_guidance import batched, sequential
from vidgen.samplers.guidance.perturbed_attention import perturbed_attention
from vidgen.samplers.guidance.registry import GUIDANCE, Guidance
from vidgen.samplers.guidance.rules import apg, away_from, cfg, cfg_zero, text_image_cfg

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
