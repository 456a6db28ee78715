"""Adversarial training of a decoder: when it starts, and what generator and discriminators lose."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.train.config import AdversarialConfig, OptimizerConfig
from vidgen.train.losses.discriminators import (
    DISCRIMINATORS,
    LeCam,
    adaptive_weight,
    hinge_discriminator,
    hinge_generator,
    r1_penalty,
)
from vidgen.train.runtime.distributed import all_reduce_mean
from vidgen.train.tasks.task import Metrics, autocast


class Plateau:
    """When a loss has settled: its mean over `steps` values is not below (1 - gain) times that of the block before."""

    def __init__(self, steps: int, gain: float) -> None:
        self.steps, self.gain = steps, gain
        self.total, self.count, self.before = 0.0, 0, math.inf

    def update(self, value: float) -> bool:
        """Take the next value; return True at the end of a block that gained too little on the one before."""
        self.total, self.count = self.total + value, self.count + 1
        if self.count < self.steps:
            return False
        mean, before = self.total / self.count, self.before
        self.total, self.count, self.before = 0.0, 0, mean
        return math.isfinite(before) and mean >= (1.0 - self.gain) * before

    def state_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"total": self.total, "count": self.count, "before": self.before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self.total, self.count, self.before = state["total"], state["count"], state["before"]


class Adversary(nn.Module):
    """Discriminators, and the share that they have in the generator's loss. The loop trains them as a role.

    `precision` is the recipe's autocast, "bfloat16" or "float32"; regularizers that differentiate run in float32. With
    a `text_width` clips are judged beside a text, one vector a clip.
    """

    def __init__(
        self, config: AdversarialConfig, *, seed: int, device: str, precision: str, text_width: int = 0
    ) -> None:
        super().__init__()
        self.config = config
        self.device = device
        self.precision = precision
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            built = {kind: DISCRIMINATORS[kind](config.width, config.depth, text_width) for kind in config.kinds}
        self.discriminators = nn.ModuleDict(built).to(device)
        self.anchors = nn.ModuleDict({kind: LeCam(config.lecam_decay) for kind in config.kinds}).to(device)
        self.plateau = Plateau(config.settle_steps, config.settle_gain)
        self.started = config.start_step == 0
        self.age = 0  # steps that the discriminators have made

    def optimizer_config(self, generator: OptimizerConfig) -> OptimizerConfig:
        """Return the discriminators' optimizer: AdamW on the generator's schedule, at `lr_ratio` of its rate."""
        return replace(
            generator,
            kind="adamw",
            lr=generator.lr * self.config.lr_ratio,
            betas=tuple(self.config.betas),
            weight_decay=0.0,
            ema_decay=0.0,
        )

    def begin_step(self, step: int) -> None:
        """Start the discriminators at the step that the config names, if it names one."""
        if self.config.start_step >= 0:
            self.started = step >= self.config.start_step

    @property
    def ramp(self) -> float:
        """The share of the full weight that the generator's loss has now."""
        return min(1.0, (self.age + 1) / max(1, self.config.ramp))

    def hinge(self, video: Float[Tensor, "b c t h w"], text: Float[Tensor, "b d"] | None = None) -> Float[Tensor, ""]:
        """Return a generator's hinge loss of its clips, the mean over the discriminators."""
        losses = [hinge_generator(discriminator(video, text)) for discriminator in self.discriminators.values()]
        return torch.stack(losses).mean()

    def generator_loss(
        self, decoded: Float[Tensor, "b c t h w"], reconstruction: Float[Tensor, ""], layer: list[nn.Parameter]
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """Return what to add to the `reconstruction` loss of `decoded`, balanced on `layer`, the decoder's last."""
        if not self.started:
            return reconstruction.new_zeros(()), {}
        loss = self.hinge(decoded)
        balance = adaptive_weight(reconstruction, loss, layer)
        weight = self.config.weight * self.ramp * (balance.weight if self.config.adaptive else 1.0)
        return weight * loss, {"g_loss": loss.item(), "g_weight": weight, "gradient_ratio": balance.ratio}

    def discriminator_loss(
        self,
        real: Float[Tensor, "b c t h w"],
        fake: Float[Tensor, "f c t h w"],
        reconstruction: float,
        real_text: Float[Tensor, "b d"] | None = None,
        fake_text: Float[Tensor, "f d"] | None = None,
    ) -> tuple[Float[Tensor, ""] | None, Metrics]:
        """Return the hinge loss with its regularizers, mean over the discriminators; move LeCAM's anchors.

        `fake` is what the generator made of `real`, with the `reconstruction` loss; each beside its text, where the
        discriminators read one. Before the discriminators start
        there is no loss (None): the reconstruction is watched for a plateau, at which they do.
        """
        if not self.started:
            if self.config.start_step < 0:
                mean = all_reduce_mean({"reconstruction": reconstruction})["reconstruction"]
                self.started = self.plateau.update(mean)
            return None, {}
        config, parts = self.config, []
        lazy = config.r1 > 0 and self.age % config.r1_every == 0
        for kind, discriminator in self.discriminators.items():
            anchors = self.anchors[kind]
            with autocast(self.device, self.precision):
                real_logits = discriminator(real, real_text)
                fake_logits = discriminator(fake.detach(), fake_text)
            part = {"d_loss": hinge_discriminator(real_logits, fake_logits)}
            part |= {"logit_real": real_logits.mean(), "logit_fake": fake_logits.mean()}
            total = part["d_loss"]
            if config.lecam > 0:
                part["lecam"] = anchors(real_logits, fake_logits)
                total = total + config.lecam * part["lecam"]
            if lazy:
                part["r1"] = r1_penalty(partial(discriminator, text=real_text), real)
                total = total + 0.5 * config.r1 * config.r1_every * part["r1"]
            anchors.follow(real_logits, fake_logits)
            parts.append({"total": total, **part})
        self.age += 1
        means = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
        return means.pop("total"), {name: value.item() for name, value in means.items()}

    def progress(self) -> dict[str, Any]:
        """Return where the game stands, for checkpoints: all but the weights, which the role has."""
        return {"plateau": self.plateau.state_dict(), "started": self.started, "age": self.age}

    def load_progress(self, state: dict[str, Any]) -> None:
        """Restore `progress`. Raises KeyError where it is of something else."""
        self.plateau.load_state_dict(state["plateau"])
        self.started = state["started"]
        self.age = state["age"]
