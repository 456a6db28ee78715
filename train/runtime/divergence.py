"""Divergence of a run: what is not finite, or has collapsed, ends the step; the loop goes back and on from there."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any

from vidgen.errors import VidgenError
from vidgen.train.config import GuardConfig

DATA_SHIFT = 2**24  # steps; more than any run has, so no step meets the data of another


class TrainingDiverged(VidgenError):
    """Why a step cannot stand: a number that is not finite, or a collapse."""


def check_finite(values: Mapping[str, float]) -> None:
    """Raise TrainingDiverged that names the first of `values` that is infinite or not a number."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise TrainingDiverged(f"{name} {value} is not finite")


class DivergenceMonitor:
    """Watches the numbers of every step and counts rollbacks; its whole state is in `state_dict`.

    A collapse is `patience` bad steps in a row. A step is bad where the reconstruction loss is more than `jump` times
    its running median, or where codebook usage, once it has been above, is below `min_usage`.
    """

    def __init__(self, config: GuardConfig) -> None:
        self.config = config
        self.rollbacks, self.lr_scale = 0, 1.0
        self.bad_steps, self.was_used = 0, False
        self.returned_to = -1  # the step that the last rollback went to
        self.history: deque[float] = deque(maxlen=config.window)

    @property
    def healthy(self) -> bool:
        """Whether a checkpoint of this step is one to come back to."""
        return self.bad_steps == 0

    def data_step(self, step: int) -> int:
        """Return the step whose data and noise step `step` uses: others after each rollback."""
        return step + DATA_SHIFT * self.rollbacks

    def check(self, loss: float, grad_norm: float, metrics: Mapping[str, float]) -> None:
        """Judge a step before it changes the weights.

        Raises TrainingDiverged for numbers that are not finite, and for a collapse.
        """
        check_finite({"loss": loss, "gradient norm": grad_norm})
        reason = self.suspicion(metrics.get("reconstruction", loss), metrics.get("codebook_usage"))
        self.bad_steps = self.bad_steps + 1 if reason else 0
        if self.bad_steps >= self.config.patience:
            raise TrainingDiverged(reason)

    def suspicion(self, value: float, usage: float | None) -> str:
        """Return what is wrong with a step, or "". Losses of good steps make the running median."""
        config, reason = self.config, ""
        if usage is not None:
            self.was_used = self.was_used or usage >= config.min_usage
            if self.was_used and usage < config.min_usage:
                reason = f"codebook usage {usage:.3g} is below guard.min_usage={config.min_usage:g}"
        if config.jump > 0 and 5 * len(self.history) >= config.window:
            usual = median(self.history)
            if value > config.jump * usual:
                reason = f"reconstruction loss {value:.3g} is more than {config.jump:g} times its median {usual:.3g}"
        if not reason:
            self.history.append(value)
        return reason

    def rollback(self, state: dict[str, Any], step: int) -> None:
        """Take the `state_dict` of the checkpoint at `step`, which the run is back at, and count a rollback more."""
        rollbacks, lr_scale = self.rollbacks + 1, self.lr_scale * self.config.lr_factor
        self.load_state_dict(state)
        self.rollbacks, self.lr_scale, self.returned_to = rollbacks, lr_scale, step

    def state_dict(self) -> dict[str, Any]:
        """Return plain values, which JSON keeps exactly."""
        return {
            "rollbacks": self.rollbacks,
            "lr_scale": self.lr_scale,
            "bad_steps": self.bad_steps,
            "was_used": self.was_used,
            "returned_to": self.returned_to,
            "history": list(self.history),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`; an empty one is a monitor that has seen nothing."""
        self.rollbacks, self.lr_scale = state.get("rollbacks", 0), state.get("lr_scale", 1.0)
        self.bad_steps, self.was_used = state.get("bad_steps", 0), state.get("was_used", False)
        self.returned_to = state.get("returned_to", -1)
        self.history = deque(state.get("history", []), maxlen=self.config.window)
