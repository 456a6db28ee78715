"""What every recipe says of its run: its steps, optimizer and data, and when it goes back to a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from omegaconf import MISSING

from vidgen.bounds import Choice, Count, NoOrCount, Positive, Range, Rate, Seed, Share, Weight, check_fields
from vidgen.train.config.data import DataConfig

PRECISIONS = ("bfloat16", "float32")
Decay = Annotated[float, Range(0.0, 1.0, below=True)]


@dataclass
class OptimizerConfig:
    """`kind` "adamw", or "muon" for the matrices of transformer blocks (see train/runtime/optimizers.py).

    Linear warm-up over `warmup` steps, then cosine decay to `final_lr` of the peak at the last step.
    The weights' exponential moving average decays by `ema_decay` a step.
    """

    kind: Annotated[str, Choice(("adamw", "muon"))] = "adamw"
    lr: Rate = 1e-3
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    weight_decay: Weight = 0.01
    warmup: NoOrCount = 200
    final_lr: Share = 0.05
    grad_clip: Positive = 1.0
    ema_decay: Decay = 0.999


@dataclass
class GuardConfig:
    """When a run goes back to its last good checkpoint, and on from there with other data at `lr_factor` of the rate.

    It does so at a loss or gradient that is not finite, and at a collapse: `patience` steps in a row with a
    reconstruction loss over `jump` times its running median of `window` steps (0: never), or with codebook usage under
    `min_usage`: of the codes that a batch could show beside its first, the share that it does (0: never). After
    `rollbacks` of them the next one ends the run.
    """

    rollbacks: NoOrCount = 3
    lr_factor: Annotated[float, Range(0.0, 1.0, above=True)] = 0.5
    patience: Count = 3
    jump: Weight = 10.0
    window: Count = 100
    min_usage: Share = 0.01


@dataclass
class LoopConfig:
    """One training run: every random number in it is a function of `seed` and the step.

    `autocast` "auto" is bfloat16 where the device multiplies in it, and float32 where it would emulate it.
    """

    task: str = MISSING
    out: str = MISSING
    seed: Seed = 0
    steps: Count = 1000
    batch_size: Count = 8
    autocast: Annotated[str, Choice(("auto", *PRECISIONS))] = "auto"
    device: str = "cpu"
    log_every: Count = 10
    validate_every: Count = 250
    checkpoint_every: Count = 250
    keep_checkpoints: Count = 2
    init_from: str = ""
    max_minutes: Weight = 0.0
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    data: DataConfig = field(default_factory=DataConfig)

    def check(self, path: Path) -> None:
        """Raise VidgenError for values that no run can use, though their types are right; `path` is what it names."""
        check_fields(self, f"{path}: ")
        self.data.check(path)
