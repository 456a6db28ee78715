from vidgen.samplers.guidance.batched_guidance import batched, sequential
from vidgen.samplers.guidance.perturbed_attention import perturbed_attention
from vidgen.samplers.guidance.registry import GUIDANCE, Guidance
from vidgen.samplers.guidance.rules import Rescale, apg, away_from, cfg, cfg_zero, pag, text_image_cfg

__all__ = [
    "GUIDANCE",
    "Guidance",
    "Rescale",
    "apg",
    "away_from",
    "batched",
    "cfg",
    "cfg_zero",
    "pag",
    "perturbed_attention",
    "sequential",
    "text_image_cfg",
]
