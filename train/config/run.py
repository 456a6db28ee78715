"""What every recipe says of its run: its steps, optimizer and data, and when it goes back to a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING

from vidgen.errors import VidgenError
from vidgen.train.config.data import DataConfig


@dataclass
class OptimizerConfig:
    """`kind` "adamw", or "muon" for the matrices of transformer blocks (see train/runtime/optimizers.py).

    Linear warm-up over `warmup` steps, then cosine decay to `final_lr` of the peak at the last step.
    The weights' exponential moving average decays by `ema_decay` a step.
    """

    kind: str = "adamw"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    warmup: int = 200
    final_lr: float = 0.05
    grad_clip: float = 1.0
    ema_decay: float = 0.999

    def check(self, path: Path) -> None:
        """Raise VidgenError for an optimizer that is not there."""
        if self.kind not in ("adamw", "muon"):
            raise VidgenError(f"{path}: optimizer.kind {self.kind!r}: choose 'adamw' or 'muon'")


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

    def check(self, path: Path) -> None:
        """Raise VidgenError for values by which no run, or every run, would go back."""
        if self.rollbacks < 0 or self.patience < 1 or self.window < 1 or not 0 < self.lr_factor <= 1:
            raise VidgenError(
                f"{path}: guard needs rollbacks >= 0, patience >= 1, window >= 1 and lr_factor in (0, 1], got "
                f"rollbacks={self.rollbacks}, patience={self.patience}, window={self.window}, "
                f"lr_factor={self.lr_factor}"
            )


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

    def check(self, path: Path) -> None:
        """Raise VidgenError for values that no run can use, though their types are right; `path` is what it names."""
        if self.steps < 1 or self.batch_size < 1:
            raise VidgenError(f"{path}: steps={self.steps} and batch_size={self.batch_size} must be 1 or more")
        if self.autocast not in ("bfloat16", "float32"):
            raise VidgenError(f"{path}: autocast {self.autocast!r}: choose bfloat16, or float32 for none")
        self.optimizer.check(path)
        self.guard.check(path)
        self.data.check(path)
