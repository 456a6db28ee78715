"""Training of probes that are torch modules: all members of a grid of settings at once, each as it would be alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.diffusion.noise import sample_generator
from vidgen.representations.probes.standardization import Standardizer

EPOCHS, LEAST_STEPS, BATCH = 20, 200, 64
RateAndDecay = tuple[float, float]  # learning rate and weight decay


class ProbeGrid(Protocol):
    """g probes in one module: x (b, l, c) to (g, b, outputs), and AdamW at a rate and a decay for each."""

    def __call__(self, x: Float[Tensor, "b l c"]) -> Float[Tensor, "g b o"]: ...

    def optimizer(self, choices: Sequence[RateAndDecay]) -> torch.optim.Optimizer: ...


class StackedAdamW(torch.optim.Optimizer):
    """AdamW (Loshchilov & Hutter 2019, algorithm 2) for parameters (g, ...) of g members, each at its own rate and
    decay; "lr" of its group, 1 at first, scales all rates."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        choices: Sequence[RateAndDecay],
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(parameters, {"lr": 1.0, "betas": betas, "eps": eps})
        self.rates, self.decays = torch.tensor(choices, dtype=torch.float64).unbind(1)
        self.count = 0

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Make a step of all members."""
        self.count += 1
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                rate = (group["lr"] * self.rates).reshape(-1, *[1] * (p.ndim - 1))
                kept = (1.0 - rate * self.decays.reshape(rate.shape)).to(p.dtype)
                state = self.state[p]
                if not state:
                    state |= {"mean": torch.zeros_like(p), "square": torch.zeros_like(p)}
                mean = state["mean"].lerp_(p.grad, 1.0 - b1)
                square = state["square"].mul_(b2).addcmul_(p.grad, p.grad, value=1.0 - b2)
                size = square.sqrt().div_(math.sqrt(1.0 - b2**self.count)).add_(group["eps"])
                p.mul_(kept).sub_((rate / (1.0 - b1**self.count)).to(p.dtype) * mean / size)


def by_grid(make: Callable[..., ProbeGrid]) -> Callable[..., list[np.ndarray]]:
    """Return `Probe.predict` of a grid make(members, length, width, outputs, seed, dtype), whose choices are
    `RateAndDecay`s."""

    def predict(
        choices: Sequence[RateAndDecay],
        X: Float[np.ndarray, "n l c"],
        y: np.ndarray,
        others: Float[np.ndarray, "m l c"],
        target_type: str,
        seed: int,
    ) -> list[np.ndarray]:
        x, x_others = (torch.from_numpy(np.ascontiguousarray(part)) for part in (X, others))
        scaler = Standardizer.fit(x, (0, 1), correction=1)
        x, x_others = scaler.transform(x), scaler.transform(x_others)
        target = Target(y, target_type)
        encoded = target.encode(x.dtype)
        grid = make(len(choices), x.shape[1], x.shape[2], target.outputs, seed, x.dtype)
        with torch.enable_grad():
            train_members(grid, choices, x, encoded, target_type, seed)
        with torch.no_grad():
            logits = torch.cat([grid(part) for part in x_others.split(BATCH)], dim=1)
        return list(target.decode(logits))

    return predict


def train_members(
    grid: ProbeGrid,
    choices: Sequence[RateAndDecay],
    x: Float[Tensor, "n l c"],
    target: Tensor,
    target_type: str,
    seed: int,
) -> None:
    """Train all probes of a grid by AdamW (Loshchilov & Hutter 2019), each at its own rate and decay, cosine to zero,
    with the same batches for all: 20 epochs, or 200 steps where that is more.

    Args:
        grid: the probes.
        choices: learning rate and weight decay of each probe.
        x: features of all clips.
        target: what `Target.encode` returns for them.
        target_type: one of `TARGET_TYPES`.
        seed: of the order of batches.
    """
    optimizer = grid.optimizer(choices)
    per_epoch = -(-len(x) // BATCH)
    steps = max(EPOCHS * per_epoch, LEAST_STEPS)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    for rows in draw_batches(len(x), steps, seed):
        # the sum over members of their mean losses: each gets the gradient it would have alone
        loss = probe_losses(grid(x[rows]), target[rows], target_type).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def cross_entropies(logits: Float[Tensor, "g b o"], target: Int[Tensor, "g b"]) -> Float[Tensor, "g b"]:
    """Return the cross-entropy of every probe on every clip."""
    each = F.cross_entropy(rearrange(logits, "g b o -> (g b) o"), rearrange(target, "g b -> (g b)"), reduction="none")
    return rearrange(each, "(g b) -> g b", g=len(logits))


def probe_losses(outputs: Float[Tensor, "g b o"], target: Tensor, target_type: str) -> Float[Tensor, " g"]:
    """Return every probe's mean loss."""
    if target_type == "class":
        return cross_entropies(outputs, repeat(target, "b -> g b", g=len(outputs))).mean(1)
    measure = F.binary_cross_entropy_with_logits if target_type == "multilabel" else F.mse_loss
    return measure(outputs, target.expand_as(outputs), reduction="none").mean((1, 2))


def draw_batches(n: int, steps: int, seed: int, size: int = BATCH) -> Iterator[Int[Tensor, " b"]]:
    """Yield the row numbers of `steps` batches, each epoch in an order of its own."""
    generator, left = sample_generator(seed, "batches of a probe"), []
    for _ in range(steps):
        if not left:
            left = list(torch.randperm(n, generator=generator).split(size))
        yield left.pop(0)


class Target:
    """Labels y as what a network of `outputs` numbers is trained on, and back: numbers of classes, 0 and 1 for words,
    standardized numbers."""

    def __init__(self, y: np.ndarray, target_type: str) -> None:
        self.y, self.target_type = y, target_type
        self.classes, self.numbers = np.unique(y, return_inverse=True) if target_type == "class" else (None, None)
        self.scaler = Standardizer.fit(y, least=0.0) if target_type == "regression" else None
        self.outputs = y.shape[1] if self.classes is None else len(self.classes)

    def encode(self, dtype: torch.dtype) -> Tensor:
        """Return what is trained on: int64 (n,) for classes, else (n, outputs) of `dtype`."""
        if self.target_type == "class":
            return torch.from_numpy(self.numbers)
        y = self.y if self.scaler is None else self.scaler.transform(self.y)
        return torch.from_numpy(y.astype(np.float64)).to(dtype)

    def decode(self, outputs: Float[Tensor, "g m o"]) -> np.ndarray:
        """Return the predictions of g probes, in the form of y."""
        if self.target_type == "class":
            return self.classes[outputs.argmax(-1).numpy()]
        if self.target_type == "multilabel":
            return (outputs > 0).long().numpy()
        return self.scaler.inverse_transform(outputs.numpy())
