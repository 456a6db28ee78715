"""Metrics of clips against clips, rates of symbols, and intervals of means."""

from vidgen.deprecation import renamed_attributes
from vidgen.metrics.clip_metrics import ClipMetrics, ClipScore
from vidgen.metrics.entropy_coding import adaptive_bits, entropy, interpolate_rate
from vidgen.metrics.fidelity import MS_SSIM_SMALLEST, PSNR_CEILING, SSIM_SMALLEST, ms_ssim, psnr, ssim
from vidgen.metrics.intervals import Mean, mean_interval
from vidgen.metrics.perceptual import LPIPS_SMALLEST, FrameFeatures, FrameLPIPS, find_lpips, find_perceptual

__all__ = [
    "LPIPS_SMALLEST",
    "MS_SSIM_SMALLEST",
    "PSNR_CEILING",
    "SSIM_SMALLEST",
    "ClipMetrics",
    "ClipScore",
    "FrameFeatures",
    "FrameLPIPS",
    "Mean",
    "adaptive_bits",
    "entropy",
    "find_lpips",
    "find_perceptual",
    "interpolate_rate",
    "mean_interval",
    "ms_ssim",
    "psnr",
    "ssim",
]
__getattr__ = renamed_attributes(__name__, {"ClipMeter": "ClipMetrics"})
