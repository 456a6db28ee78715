"""Roles in a run: each trained model with its optimizer and averaged weights, and teachers that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vidgen.train.runtime.distributed import all_reduce_mean, average_gradients
from vidgen.train.runtime.divergence import check_finite
from vidgen.train.runtime.optimizers import build_optimizer, learning_rate
from vidgen.train.tasks.task import Metrics, Role

MAIN = "model"  # the name of a task's main role

Check = Callable[[float, float, Metrics], None]


class RunningRole:
    """A role, with the optimizer and the averaged weights that a run of `steps` keeps for it."""

    def __init__(self, name: str, role: Role, steps: int) -> None:
        self.name, self.role, self.steps = name, role, steps
        self.module = role.module
        self.parameters: list[nn.Parameter] = []
        if self.is_trained:
            self.module.train()
            self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        else:
            self.module.requires_grad_(False).eval()
        self.renew()

    @property
    def is_trained(self) -> bool:
        """Whether the role has an optimizer of its own."""
        return self.role.optimizer is not None

    @property
    def is_saved(self) -> bool:
        """Whether the module's weights change in a run, so that checkpoints hold them."""
        return self.is_trained or self.role.follow is not None

    def renew(self) -> None:
        """Start with a fresh optimizer, and with averages of the weights as they are."""
        from diffusers.training_utils import EMAModel  # takes seconds, and only a run needs it

        config = self.role.optimizer
        self.optimizer = build_optimizer(self.module, config) if config else None
        averages = config is not None and (config.ema_decay > 0 or self.name == MAIN)
        self.ema = EMAModel(self.parameters, decay=config.ema_decay) if averages else None

    def rate(self, step: int, scale: float = 1.0) -> float:
        """Return the learning rate at a step of the run: the schedule's, times `scale`."""
        return learning_rate(step, self.role.optimizer, self.steps) * scale

    def update(
        self, loss: Callable[[], tuple[Tensor | None, Metrics]], lr: float, check: Check | None = None
    ) -> Metrics:
        """Make one optimizer step at the rate `lr`, and return metrics that are means over all processes.

        `check` judges loss, gradient norm and metrics before the weights change; by default they must be finite.
        Raises TrainingDiverged where the step cannot stand.
        """
        prefix = "" if self.name == MAIN else f"{self.name}_"
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        value, metrics = loss()
        if value is None:
            return all_reduce_mean(metrics)
        value.backward()
        average_gradients(self.parameters)
        metrics = all_reduce_mean({f"{prefix}loss": value.item(), **metrics})
        norm = nn.utils.clip_grad_norm_(self.parameters, self.role.optimizer.grad_clip).item()
        (check or self.check_finite)(metrics[f"{prefix}loss"], norm, metrics)
        self.optimizer.step()
        if self.ema is not None:
            self.ema.step(self.parameters)
        return {**metrics, f"{prefix}grad_norm": norm}

    def check_finite(self, loss: float, grad_norm: float, metrics: Metrics) -> None:
        """Raise TrainingDiverged for a loss or gradient norm that is not finite."""
        check_finite({f"{self.name} loss": loss, f"gradient norm of the {self.name}": grad_norm})

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move a teacher's weights towards those that it follows; its buffers become the source's."""
        follow = self.role.follow
        weight = 1.0 - follow.decay_at(step, self.steps)
        for own, source in zip(self.module.parameters(), follow.source.parameters(), strict=True):
            own.lerp_(source.to(own), weight)
        for own, source in zip(self.module.buffers(), follow.source.buffers(), strict=True):
            own.copy_(source)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the module evaluates, with averaged weights where it has them."""
        if not self.is_trained:
            yield
            return
        if self.ema is not None:
            self.ema.store(self.parameters)
            self.ema.copy_to(self.parameters)
        self.module.eval()
        try:
            yield
        finally:
            if self.ema is not None:
                self.ema.restore(self.parameters)
            self.module.train()


@contextmanager
def only_trained(role: RunningRole, roles: Iterable[RunningRole]) -> Iterator[None]:
    """Within the block, no parameters but those of `role` ask for gradients."""
    others = [other for other in roles if other is not role]
    for other in others:
        set_gradients(other.parameters, False)
    set_gradients(role.parameters, True)  # last: roles may share parameters
    try:
        yield
    finally:
        for other in others:
            set_gradients(other.parameters, True)


def set_gradients(parameters: Iterable[nn.Parameter], flag: bool) -> None:
    """Set whether parameters ask for gradients."""
    for parameter in parameters:
        parameter.requires_grad_(flag)
