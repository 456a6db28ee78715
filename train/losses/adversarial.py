"""The game of a decoder against discriminators: when it starts, what each side loses, all in one state to be saved."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.train.loss_config import AdversarialConfig
from vidgen.train.losses.discriminators import (
    DISCRIMINATORS,
    LeCam,
    adaptive_weight,
    hinge_discriminator,
    hinge_generator,
    r1_penalty,
)
from vidgen.train.runtime.distributed import all_reduce_mean, average_gradients
from vidgen.train.runtime.divergence import check_finite
from vidgen.train.tasks.task import Metrics, autocast


class Plateau:
    """Says when a loss has settled: its mean over `steps` values is not below (1 - gain) times that of those before."""

    def __init__(self, steps: int, gain: float) -> None:
        self.steps, self.gain = steps, gain
        self.total, self.count, self.before = 0.0, 0, math.inf

    def update(self, value: float) -> bool:
        """Takes the next value; True at the end of a block that gained too little on the one before."""
        self.total, self.count = self.total + value, self.count + 1
        if self.count < self.steps:
            return False
        mean, before = self.total / self.count, self.before
        self.total, self.count, self.before = 0.0, 0, mean
        return math.isfinite(before) and mean >= (1.0 - self.gain) * before

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total, "count": self.count, "before": self.before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.total, self.count, self.before = state["total"], state["count"], state["before"]


class Adversary:
    """Discriminators with their optimizer, and the share that they have in the generator's loss.

    `precision` is the recipe's autocast, "bfloat16" or "float32"; regularisers that differentiate run in float32.
    """

    def __init__(self, config: AdversarialConfig, *, seed: int, device: str, precision: str, grad_clip: float) -> None:
        self.config, self.device, self.precision, self.grad_clip = config, device, precision, grad_clip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            built = {kind: DISCRIMINATORS[kind](config.width, config.depth) for kind in config.kinds}
        self.discriminators = nn.ModuleDict(built).to(device)
        self.anchors = nn.ModuleDict({kind: LeCam(config.lecam_decay) for kind in config.kinds}).to(device)
        self.parameters = list(self.discriminators.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, betas=tuple(config.betas), weight_decay=0.0, fused=True)
        self.plateau = Plateau(config.settle_steps, config.settle_gain)
        self.started = config.start_step == 0
        self.age = 0  # steps that the discriminators have made

    @property
    def ramp(self) -> float:
        """The share of the full weight that the generator's loss has now."""
        return min(1.0, (self.age + 1) / max(1, self.config.ramp))

    def generator_loss(
        self, decoded: Float[Tensor, "b c t h w"], reconstruction: Float[Tensor, ""], layer: list[nn.Parameter]
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """What to add to the `reconstruction` loss of `decoded`, balanced on `layer`, the decoder's last."""
        if not self.started:
            return reconstruction.new_zeros(()), {}
        self.discriminators.requires_grad_(False)
        losses = [hinge_generator(judge(decoded)) for judge in self.discriminators.values()]
        loss = torch.stack(losses).mean()
        balance = adaptive_weight(reconstruction, loss, layer)
        weight = self.config.weight * self.ramp * (balance.weight if self.config.adaptive else 1.0)
        return weight * loss, {"g_loss": loss.item(), "g_weight": weight, "gradient_ratio": balance.ratio}

    def discriminator_loss(
        self, real: Float[Tensor, "b c t h w"], fake: Float[Tensor, "b c t h w"]
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """Hinge loss with what regularises it, mean over the discriminators; moves LeCAM's anchors."""
        config, parts = self.config, []
        lazy = config.r1 > 0 and self.age % config.r1_every == 0
        for kind, judge in self.discriminators.items():
            anchors = self.anchors[kind]
            with autocast(self.device, self.precision):
                on_real, on_fake = judge(real), judge(fake)
            part = {"d_loss": hinge_discriminator(on_real, on_fake)}
            part |= {"logit_real": on_real.mean(), "logit_fake": on_fake.mean()}
            total = part["d_loss"]
            if config.lecam > 0:
                part["lecam"] = anchors(on_real, on_fake)
                total = total + config.lecam * part["lecam"]
            if lazy:
                part["r1"] = r1_penalty(judge, real)
                total = total + 0.5 * config.r1 * config.r1_every * part["r1"]
            anchors.follow(on_real, on_fake)
            parts.append({"total": total, **part})
        means = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
        return means.pop("total"), {name: value.item() for name, value in means.items()}

    def step(self, real: Tensor, fake: Tensor, reconstruction: float, step: int, lr: float) -> Metrics:
        """After the generator's step: one of the discriminators, or, before the game, a look at whether it starts.

        `fake` is what the generator made of `real` (b, c, t, h, w); `lr` the generator's learning rate at this step.
        Raises Derailment where a loss or gradient is not finite.
        """
        config, reconstruction = self.config, all_reduce_mean({"reconstruction": reconstruction})["reconstruction"]
        if not self.started:
            timed = config.start_step >= 0
            self.started = step + 1 >= config.start_step if timed else self.plateau.update(reconstruction)
            return {}
        self.discriminators.requires_grad_(True)
        loss, metrics = self.discriminator_loss(real, fake.detach())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(self.parameters)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.grad_clip).item()
        check_finite(
            {**all_reduce_mean({"discriminator loss": loss.item()}), "gradient norm of the discriminators": norm}
        )
        for group in self.optimizer.param_groups:
            group["lr"] = lr * config.lr_ratio
        self.optimizer.step()
        self.age += 1
        return {**metrics, "d_grad_norm": norm}

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to go on as if it had not stopped."""
        parts = ("discriminators", "anchors", "optimizer", "plateau")
        state = {name: getattr(self, name).state_dict() for name in parts}
        return {**state, "started": self.started, "age": self.age}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`. Raises KeyError, RuntimeError or ValueError where it is of other discriminators."""
        for name in ("discriminators", "anchors", "optimizer", "plateau"):
            getattr(self, name).load_state_dict(state[name])
        self.started, self.age = state["started"], state["age"]
