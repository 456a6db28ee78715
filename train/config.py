"""What a recipe can say: the dataclasses that its YAML is checked against, one of them for each task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from vidgen.train.keyframe_config import KeyframeLossConfig
from vidgen.train.loss_config import AdversarialConfig, TokenizerLossConfig


@dataclass
class OptimizerConfig:
    """`kind` "adamw", or "muon" for the matrices of transformer blocks (see train/runtime/optimizers.py).

    Linear warm-up over `warmup` steps, then cosine decay to `final_lr` of the peak at the last step.
    """

    kind: str = "adamw"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    warmup: int = 200
    final_lr: float = 0.05
    grad_clip: float = 1.0
    ema_decay: float = 0.999


@dataclass
class SourceConfig:
    """Where clips come from: `kind` "shapes" (the synthetic world) or "clips" (files under `path`, see the data docs).

    `share` is this source's part of every batch. `include` names files to take (empty: all). Clips from files
    are held in memory at `short_side` pixels, at most `max_frames` each. `world_size` (height, width) renders shapes
    larger than the samples, which are then crops that hold an object: more of the object for the same work.
    `weights` draws colours, shapes, sizes and motions that are hard to learn more often: {star: 2} makes a clip of a
    star twice as likely as else; of several words the weights multiply (`circle` counts for the shape and the motion,
    `motion circle` for the motion alone). Validation keeps the world's own frequencies. Every `hold_out`-th file is
    kept for validation (0: none, and validation draws other windows of the same files).
    `num_frames` is this source's own clip length, 1 for images (0: that of the data); every batch is of one length, by
    the shares, and validation of the longest. Frames of files are taken up to `max_stride` apart, at random.
    """

    kind: str = "shapes"
    share: float = 1.0
    path: str = ""
    include: list[str] = field(default_factory=list)
    short_side: int = 128
    max_frames: int = 150
    max_objects: int = 1
    world_size: list[int] = field(default_factory=list)
    weights: dict[str, float] = field(default_factory=dict)
    hold_out: int = 6
    seed: int = 0
    num_frames: int = 0
    max_stride: int = 4


@dataclass
class DataConfig:
    """Clips of `num_frames` frames of `size` (height, width); `fps` is what a generated clip plays at."""

    sources: list[SourceConfig] = field(default_factory=lambda: [SourceConfig()])
    num_frames: int = 17
    size: tuple[int, int] = (64, 64)
    fps: float = 8.0
    workers: int = 0
    validation_clips: int = 64


@dataclass
class GuardConfig:
    """When a run goes back to its last good checkpoint, and on from there with other data at `lr_factor` of the rate.

    It does so at a loss or gradient that is not finite, and at a collapse: `patience` steps in a row with a
    reconstruction loss over `jump` times its running median of `window` steps (0: never), or with codebook usage under
    `min_usage`: of the codes that a batch could show beside its first, the share that it does (0: never). After
    `rollbacks` of them the next one ends the run.
    """

    rollbacks: int = 3
    lr_factor: float = 0.5
    patience: int = 3
    jump: float = 10.0
    window: int = 100
    min_usage: float = 0.01


@dataclass
class LoopConfig:
    """One training run: every random number in it is a function of `seed` and the step."""

    task: str = MISSING
    out: str = MISSING
    seed: int = 0
    steps: int = 1000
    batch_size: int = 8
    autocast: str = "bfloat16"
    device: str = "cpu"
    log_every: int = 10
    validate_every: int = 250
    checkpoint_every: int = 250
    keep_checkpoints: int = 2
    init_from: str = ""
    max_minutes: float = 0.0
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    data: DataConfig = field(default_factory=DataConfig)


@dataclass
class TokenizerRecipe(LoopConfig):
    """Task `tokenizer`: `preset` names a tokenizer, `model` overrides fields of its config.

    `part` "decoder" keeps the encoder of `init_from`, and so every latent and each denoiser trained on them.
    `latent_noise` is the spread, in normalized latents, of the noise levels that the decoder learns to see through:
    a denoiser's latents are never quite those of a clip (Zheng et al. 2025, "Diffusion transformers with
    representation autoencoders", section 4.3: z + sigma n, sigma drawn from |N(0, latent_noise^2)| for each clip).
    `gradient_checkpointing` makes activations again in the backward pass: less memory, about a third more work.
    """

    preset: str = "kl_causal_4x8x8_16ch"
    part: str = "all"
    latent_noise: float = 0.0
    model: dict[str, Any] = field(default_factory=dict)
    gradient_checkpointing: bool = False
    loss: TokenizerLossConfig = field(default_factory=TokenizerLossConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)


@dataclass
class DiffusionRecipe(LoopConfig):
    """Task `diffusion`: a VideoDiT and, where `text_model` is set, a text encoder trained with it.

    `preset` names a size of VideoDiT (vidgen.models.dit.presets; empty: the defaults), `model` overrides fields
    of its config. Latents of `cached_clips` clips are encoded once by `tokenizer` and kept in `cache`, keyed by the
    tokenizer's hash and the data. `time` is the TimeDistribution that the checkpoint carries to the sampler, path
    included; `weighting` is one of vidgen.diffusion.loss_weighting, "none" for the plain error of
    what is predicted. `train_text` false keeps the text encoder as it is.

    Shares of the clips: `drop_text` without their caption, `per_frame_noise` with a noise level of its own for each
    latent frame, `given_frames` with some latent frames clean, from which the others are made (images to video,
    continuation, frames between), `reference` with a picture of what they show beside their caption, by an image prompt
    encoder of shape `image_model`. What the picture makes unnecessary is left out of the captions of those clips, but
    for `whole_captions` of them. `part` "image_prompt" trains that encoder alone, by what the denoiser of `init_from`,
    kept as it is with its text encoder, says to the whole caption; `match_weight` weighs beside it how well pictures
    are told apart by what they show in words.

    `lora_rank` above 0 trains a LoRA of that rank on the denoiser of `init_from`, and nothing else; `final` is then its
    file, for `vidgen sample --lora`. `lora_alpha` scales it by alpha / rank; 0 is the rank.
    """

    tokenizer: str = "default"
    cache: str = ""
    cached_clips: int = 20000
    preset: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    text_model: dict[str, Any] = field(default_factory=dict)
    prediction_type: str = "flow_prediction"
    weighting: str = "none"
    time: dict[str, Any] = field(default_factory=dict)
    train_text: bool = True
    drop_text: float = 0.1
    per_frame_noise: float = 0.0
    given_frames: float = 0.0
    part: str = "all"
    reference: float = 0.0
    whole_captions: float = 0.2
    match_weight: float = 0.1
    image_model: dict[str, Any] = field(default_factory=dict)
    lora_rank: int = 0
    lora_alpha: float = 0.0
    validation_levels: int = 8


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
    objective: str = "denoising"
    bottleneck: float = 1e-4
    validation_levels: int = 8


@dataclass
class KeyframeRecipe(LoopConfig):
    """Task `keyframes`: key frames by the tokenizer `key` (empty: a new one, `model.key`), the motion between learned.

    `part` "motion" keeps the tokenizer of key frames as it is, "all" trains it too. `model` sets fields of
    KeyframeConfig.
    """

    key: str = "default"
    part: str = "motion"
    model: dict[str, Any] = field(default_factory=dict)
    loss: TokenizerLossConfig = field(default_factory=TokenizerLossConfig)
    motion_loss: KeyframeLossConfig = field(default_factory=KeyframeLossConfig)


TASKS: dict[str, type[LoopConfig]] = {
    "tokenizer": TokenizerRecipe,
    "diffusion": DiffusionRecipe,
    "diffusion_tokenizer": DiffusionTokenizerRecipe,
    "keyframes": KeyframeRecipe,
}
