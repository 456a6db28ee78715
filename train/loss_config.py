"""What a tokenizer is trained on: weights of its losses, and the game against discriminators."""

from __future__ import annotations

from dataclasses import dataclass, field

# Bottleneck -> weights of its losses where a recipe does not say. Commitment is that of van den Oord et al. 2017
# (section 3.2); the papers of fsq and bsq do without what is 0 here; the entropy's 0.1 is what public recipes have.
QUANTIZER_WEIGHTS: dict[str, dict[str, float]] = {
    "vq": {"commitment": 0.25},
    "residual": {"commitment": 0.25, "entropy": 0.0},
    "fsq": {"entropy": 0.0},
    "lfq": {"commitment": 0.25, "entropy": 0.1},
    "bsq": {"commitment": 0.0, "entropy": 0.1},
}


@dataclass
class TokenizerLossConfig:
    """Weights of the losses: pixel L1, squared error, L1 of space and time differences, LPIPS, the bottleneck's own,
    Charbonnier, one minus multi-scale SSIM, L1 of Haar subbands.

    `lpips_weights` is a file of torchvision's VGG-16 (empty: the one in torchvision's cache). `bottleneck` weighs the
    KL divergence; quantizers' losses have the weights of QUANTIZER_WEIGHTS. `bottleneck_parts` says otherwise by name:
    bottleneck_parts={commitment: 1.0}.
    """

    l1: float = 1.0
    l2: float = 0.0
    gradient: float = 0.5
    lpips: float = 0.0
    bottleneck: float = 3e-4
    charbonnier: float = 0.0
    ms_ssim: float = 0.0
    wavelet: float = 0.0
    lpips_weights: str = ""
    bottleneck_parts: dict[str, float] = field(default_factory=dict)


@dataclass
class AdversarialConfig:
    """Discriminators; `weight` 0 means none. `kinds` "2d" judge patches of frames, "3d" patches of space and time.

    They start at `start_step`, or, where that is -1, once reconstruction has settled: when its mean over a block of
    `settle_steps` steps is less than the fraction `settle_gain` below that of the block before. (The rule reads the
    running loss and not the validation PSNR, whose steps may change when a run goes on.) From there the generator's
    weight rises linearly over `ramp` steps; `adaptive` multiplies it by a ratio of gradients (Esser et al. 2021).
    `lecam` and `r1` weigh the discriminators' regularisers (Tseng et al. 2021; Mescheder et al. 2018), R1 at every
    `r1_every`-th step with as many times the weight. Their learning rate is `lr_ratio` of the generator's at each step.
    `init_from` is a `discriminators.safetensors` of an earlier stage, which lies beside the tokenizer in its `final/`.
    """

    weight: float = 0.0
    kinds: list[str] = field(default_factory=lambda: ["3d"])
    width: int = 64
    depth: int = 3
    start_step: int = -1
    settle_steps: int = 500
    settle_gain: float = 0.02
    ramp: int = 1000
    adaptive: bool = True
    lecam: float = 0.0
    lecam_decay: float = 0.99
    r1: float = 0.0
    r1_every: int = 16
    lr_ratio: float = 1.0
    betas: tuple[float, float] = (0.5, 0.9)
    init_from: str = ""
