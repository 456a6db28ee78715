"""Training of probes that are torch modules: all members of a grid of settings at once, each as it would be alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.diffusion.noise import sample_generator

EPOCHS, LEAST_STEPS, BATCH = 20, 200, 64
Setting = tuple[float, float]  # learning rate and weight decay


class Grid(Protocol):
    """g probes in one module: x (b, l, c) to (g, b, outputs), and the parameters of each."""

    def __call__(self, x: Float[Tensor, "b l c"]) -> Float[Tensor, "g b o"]: ...

    def member(self, g: int) -> list[nn.Parameter]: ...


def by_grid(make: Callable[..., Grid]) -> Callable[..., list[np.ndarray]]:
    """`Probe.predict` of a grid make(members, length, width, outputs, seed, dtype), with `Setting`s for choices."""

    def predict(
        choices: Sequence[Setting],
        X: Float[np.ndarray, "n l c"],
        y: np.ndarray,
        others: Float[np.ndarray, "m l c"],
        target_type: str,
        seed: int,
    ) -> list[np.ndarray]:
        x, x_others = standardize(X, others)
        target, names = encode_target(y, target_type)
        target = target if target_type == "class" else target.to(x.dtype)
        outputs = len(names) if target_type == "class" else target.shape[1]
        grid = make(len(choices), x.shape[1], x.shape[2], outputs, seed, x.dtype)
        with torch.enable_grad():
            train_members(grid, choices, x, target, target_type, seed)
        with torch.no_grad():
            said = torch.cat([grid(part) for part in x_others.split(BATCH)], dim=1)
        return list(decode_target(said, y, names, target_type))

    return predict


def train_members(
    grid: Grid,
    choices: Sequence[Setting],
    x: Float[Tensor, "n l c"],
    target: Tensor,
    target_type: str,
    seed: int,
) -> None:
    """AdamW (Loshchilov & Hutter 2019), each member at its own rate and decay, cosine to zero, the same batches for
    all: 20 epochs, or 200 steps where that is more."""
    groups = [{"params": grid.member(g), "lr": lr, "weight_decay": wd} for g, (lr, wd) in enumerate(choices)]
    optimizer = torch.optim.AdamW(groups, foreach=True)
    per_epoch = -(-len(x) // BATCH)
    steps = max(EPOCHS * per_epoch, LEAST_STEPS)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    for rows in draw_batches(len(x), steps, seed):
        said = grid(x[rows])
        # the sum over members of their mean losses: each gets the gradient it would have alone
        loss = losses(said, target[rows], target_type).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def losses(said: Float[Tensor, "g b o"], target: Tensor, target_type: str) -> Float[Tensor, " g"]:
    """Every member's mean loss."""
    if target_type == "class":
        wanted = repeat(target, "b -> (g b)", g=len(said))
        each = F.cross_entropy(rearrange(said, "g b o -> (g b) o"), wanted, reduction="none")
        return rearrange(each, "(g b) -> g b", g=len(said)).mean(1)
    measure = F.binary_cross_entropy_with_logits if target_type == "multilabel" else F.mse_loss
    return measure(said, target.expand_as(said), reduction="none").mean((1, 2))


def draw_batches(n: int, steps: int, seed: int, size: int = BATCH) -> Iterator[Int[Tensor, " b"]]:
    """Row numbers of `steps` batches, epoch by epoch in an order of its own."""
    generator, left = sample_generator(seed, "batches of a probe"), []
    for _ in range(steps):
        if not left:
            left = list(torch.randperm(n, generator=generator).split(size))
        yield left.pop(0)


def standardize(X: Float[np.ndarray, "n l c"], others: Float[np.ndarray, "m l c"]) -> tuple[Tensor, Tensor]:
    """Both, every channel less its mean and over its standard deviation in X."""
    x, y = torch.from_numpy(np.ascontiguousarray(X)), torch.from_numpy(np.ascontiguousarray(others))
    mean, std = x.mean((0, 1)), x.std((0, 1))
    std = torch.where(std > 1e-6, std, 1.0)
    return (x - mean) / std, (y - mean) / std


def encode_target(y: np.ndarray, target_type: str) -> tuple[Tensor, np.ndarray]:
    """What is trained on, and the classes that its numbers stand for."""
    if target_type == "class":
        names, numbers = np.unique(y, return_inverse=True)
        return torch.from_numpy(numbers), names
    if target_type == "multilabel":
        return torch.from_numpy(y.astype(np.float64)), np.empty(0)
    mean, std = scale_of(y)
    return torch.from_numpy((y - mean) / std), np.empty(0)


def decode_target(said: Float[Tensor, "g m o"], y: np.ndarray, names: np.ndarray, target_type: str) -> np.ndarray:
    """Outputs in the form of y."""
    if target_type == "class":
        return names[said.argmax(-1).numpy()]
    if target_type == "multilabel":
        return (said > 0).long().numpy()
    mean, std = scale_of(y)
    return said.numpy() * std + mean


def scale_of(y: Float[np.ndarray, "n k"]) -> tuple[np.ndarray, np.ndarray]:
    std = y.std(0)
    return y.mean(0), np.where(std > 0, std, 1.0)
