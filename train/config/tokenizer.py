"""What tasks `tokenizer` and `diffusion_tokenizer` are trained on: losses, discriminators, and their recipes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from vidgen.bounds import Choice, Count, Length, NoOrCount, Positive, Range, Share, Weight, Width
from vidgen.errors import VidgenError
from vidgen.train.config.run import Decay, LoopConfig

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
    Charbonnier, one minus multi-scale SSIM, L1 of Haar subbands, features of EfficientNet-lite0.

    `lpips_weights` is a file of torchvision's VGG-16 (empty: the one in torchvision's cache). `bottleneck` weighs the
    KL divergence; quantizers' losses have the weights of QUANTIZER_WEIGHTS. `bottleneck_parts` says otherwise by name:
    bottleneck_parts={commitment: 1.0}.
    """

    l1: Weight = 1.0
    l2: Weight = 0.0
    gradient: Weight = 0.5
    lpips: Weight = 0.0
    bottleneck: Weight = 3e-4
    charbonnier: Weight = 0.0
    ms_ssim: Weight = 0.0
    wavelet: Weight = 0.0
    features: Weight = 0.0
    lpips_weights: str = ""
    bottleneck_parts: dict[str, Weight] = field(default_factory=dict)


@dataclass
class AdversarialConfig:
    """Discriminators; `weight` 0 means none. `kinds` "2d" judge patches of frames, "3d" patches of space and time.

    They start at `start_step`, or, where that is -1, once reconstruction has settled: when its mean over a block of
    `settle_steps` steps is less than the fraction `settle_gain` below that of the block before. (The rule reads the
    running loss and not the validation PSNR, whose steps may change when a run goes on.) From there the generator's
    weight rises linearly over `ramp` steps; `adaptive` multiplies it by a ratio of gradients (Esser et al. 2021).
    `lecam` and `r1` weigh the discriminators' regularizers (Tseng et al. 2021; Mescheder et al. 2018), R1 at every
    `r1_every`-th step with as many times the weight. Their learning rate is `lr_ratio` of the generator's at each step.
    `init_from` is a `discriminators.safetensors` of an earlier stage, which lies beside the tokenizer in its `final/`.
    """

    weight: Weight = 0.0
    kinds: Annotated[list[Annotated[str, Choice(("2d", "3d"))]], Length(1, 2)] = field(default_factory=lambda: ["3d"])
    width: Width = 64
    depth: Annotated[int, Range(1, 16)] = 3
    start_step: Annotated[int, Range(-1, 10**9)] = -1
    settle_steps: Count = 500
    settle_gain: Share = 0.02
    ramp: NoOrCount = 1000
    adaptive: bool = True
    lecam: Weight = 0.0
    lecam_decay: Share = 0.99
    r1: Weight = 0.0
    r1_every: Count = 16
    lr_ratio: Positive = 1.0
    betas: tuple[Decay, Decay] = (0.5, 0.9)
    init_from: str = ""

    def check(self, path: Path, side: int) -> None:
        """Raise VidgenError for discriminators that cannot be built for frames whose shorter side is `side` pixels."""
        if self.weight <= 0:
            return
        if len(set(self.kinds)) < len(self.kinds):
            raise VidgenError(f"{path}: adversarial.kinds {self.kinds}: name each once")
        if side < 2**self.depth:
            raise VidgenError(
                f"{path}: adversarial.depth={self.depth} halves frames of {side} pixels too often; lower the depth"
            )


@dataclass
class TokenizerRecipe(LoopConfig):
    """Task `tokenizer`: `preset` names a tokenizer, `model` overrides fields of its config.

    `part` "decoder" keeps the encoder of `init_from`, and so every latent and each denoiser trained on them.
    `latent_noise` is the spread, in normalized latents, of the noise levels that the decoder learns to see through:
    a denoiser's latents are never quite those of a clip (Zheng et al. 2025, "Diffusion transformers with
    representation autoencoders", section 4.3: z + sigma n, sigma drawn from |N(0, latent_noise^2)| for each clip).
    `gradient_checkpointing` computes activations again in the backward pass: less memory, about a third more work.
    """

    preset: str = "kl_causal_4x8x8_16ch"
    part: Annotated[str, Choice(("all", "decoder"))] = "all"
    latent_noise: Weight = 0.0
    model: dict[str, Any] = field(default_factory=dict)
    gradient_checkpointing: bool = False
    loss: TokenizerLossConfig = field(default_factory=TokenizerLossConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)

    def check(self, path: Path) -> None:
        """Raise VidgenError for values that no training of a tokenizer can use."""
        super().check(path)
        if self.part == "decoder" and not self.init_from:
            raise VidgenError(f"{path}: part=decoder needs a trained encoder: set init_from=FOLDER")
        side = min(self.data.size)
        if self.loss.ms_ssim > 0 and side < 11:
            raise VidgenError(f"{path}: loss.ms_ssim needs frames of at least 11x11; data.size is {self.data.size}")
        self.adversarial.check(path, side)


@dataclass
class DiffusionTokenizerRecipe(LoopConfig):
    """Task `diffusion_tokenizer`: an encoder and the denoiser that its features condition, by one denoising loss.

    `preset` and `tokenizer` say the encoder as `preset` and `model` of task `tokenizer` do, `model` the rest of a
    DiffusionTokenizerConfig. `objective` "regression" trains at pure noise alone, where a clip is reconstructed from
    its features at once: the same networks by reconstruction. `bottleneck` weighs the KL divergence.
    """

    preset: str = "kl_causal_4x8x8_16ch"
    tokenizer: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    objective: Annotated[str, Choice(("denoising", "regression"))] = "denoising"
    bottleneck: Weight = 1e-4
    validation_levels: Count = 8
