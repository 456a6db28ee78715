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
CHOOSING_STEPS = 100  # at least so many where settings are compared, which are all cut alike
STACKED_BYTES = 2**28  # of features that are learned side by side
RateAndDecay = tuple[float, float]  # learning rate and weight decay
Part = tuple[Float[np.ndarray, "n l c"], np.ndarray, Float[np.ndarray, "m l c"]]  # to fit on, its labels, to predict


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


class Lesson:
    """What one probe of every setting is fitted on, X (n, l, c) with its labels y, and the X that it predicts then.

    It takes 20 epochs, or `least_steps` where that is more.
    """

    def __init__(self, X: np.ndarray, y: np.ndarray, others: np.ndarray, target_type: str, least_steps: int) -> None:
        x, x_others = (torch.from_numpy(np.ascontiguousarray(part)) for part in (X, others))
        scaler = Standardizer.fit(x, (0, 1), correction=1)
        self.x, self.others = scaler.transform(x), scaler.transform(x_others)
        self.target = Target(y, target_type)
        self.y = self.target.encode(x.dtype)
        self.steps = max(EPOCHS * -(-len(x) // BATCH), least_steps)

    @property
    def kind(self) -> tuple[int, int]:
        """Lessons of one kind may be learned side by side."""
        return self.target.outputs, self.steps


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
        lesson = Lesson(X, y, others, target_type, LEAST_STEPS)
        return list(lesson.target.decode(*learn([lesson], make, choices, target_type, seed)))

    return predict


def by_stacked_grid(make: Callable[..., ProbeGrid]) -> Callable[..., list[list[np.ndarray]]]:
    """Return `Probe.predict_folds` of a grid that also takes x (f, b, l, c), with g / f members for each of the f.

    Folds are learned side by side, as where clips are few their steps cost more than the arithmetic in them, and of
    few clips in half of the steps.
    """

    def predict_folds(
        choices: Sequence[RateAndDecay], parts: Sequence[Part], target_type: str, seed: int
    ) -> list[list[np.ndarray]]:
        lessons = [Lesson(*part, target_type, CHOOSING_STEPS) for part in parts]
        groups = [[k] for k in range(len(lessons))]
        if sum(lesson.x.nbytes for lesson in lessons) <= STACKED_BYTES:
            kinds = list(dict.fromkeys(lesson.kind for lesson in lessons))
            groups = [[k for k, lesson in enumerate(lessons) if lesson.kind == kind] for kind in kinds]
        predictions: dict[int, list[np.ndarray]] = {}
        for group in groups:
            logits = learn([lessons[k] for k in group], make, choices, target_type, seed)
            predictions |= {k: list(lessons[k].target.decode(one)) for k, one in zip(group, logits, strict=True)}
        return [predictions[k] for k in range(len(lessons))]

    return predict_folds


def learn(
    lessons: Sequence[Lesson],
    make: Callable[..., ProbeGrid],
    choices: Sequence[RateAndDecay],
    target_type: str,
    seed: int,
) -> list[Float[Tensor, "g m o"]]:
    """Return what the probes of each lesson say of its others, after training them side by side."""
    x, folds = lessons[0].x, len(lessons)
    grid = make(folds * len(choices), x.shape[1], x.shape[2], lessons[0].target.outputs, seed, x.dtype)
    with torch.enable_grad():
        train_members(grid, list(choices) * folds, lessons, target_type, seed)
    longest = max(len(lesson.others) for lesson in lessons)
    others = torch.stack([pad_rows(lesson.others, longest) for lesson in lessons])
    with torch.no_grad():
        parts = [grid(part if folds > 1 else part[0]) for part in others.split(BATCH, dim=1)]
    logits = rearrange(torch.cat(parts, dim=1), "(f g) m o -> f g m o", f=folds)
    return [one[:, : len(lesson.others)] for one, lesson in zip(logits, lessons, strict=True)]


def pad_rows(x: Float[Tensor, "n ..."], count: int) -> Float[Tensor, "m ..."]:
    """Return `count` rows: those of x, and then its first again."""
    return x if len(x) == count else torch.cat([x, x[:1].expand(count - len(x), *x.shape[1:])])


def train_members(
    grid: ProbeGrid,
    choices: Sequence[RateAndDecay],
    lessons: Sequence[Lesson],
    target_type: str,
    seed: int,
) -> None:
    """Train all probes of a grid by AdamW (Loshchilov & Hutter 2019), each at its own rate and decay, cosine to zero,
    with the same batches for all of a lesson.

    Args:
        grid: the probes, those of one lesson after those of the other.
        choices: learning rate and weight decay of each probe.
        lessons: features and labels, of one kind.
        target_type: one of `TARGET_TYPES`.
        seed: of the order of batches.
    """
    optimizer = grid.optimizer(choices)
    steps, folds = lessons[0].steps, len(lessons)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    for batches in zip(*(draw_batches(len(lesson.x), steps, seed) for lesson in lessons), strict=True):
        longest = max(len(rows) for rows in batches)
        rows = [pad_rows(rows, longest) for rows in batches]
        x = torch.stack([lesson.x[own] for lesson, own in zip(lessons, rows, strict=True)])
        y = torch.stack([lesson.y[own] for lesson, own in zip(lessons, rows, strict=True)])
        counted = torch.stack([torch.arange(longest) < len(own) for own in batches]).to(x.dtype)
        outputs = rearrange(grid(x if folds > 1 else x[0]), "(f g) b o -> f g b o", f=folds)
        # the sum over members of their mean losses: each gets the gradient it would have alone
        parts = zip(outputs, y, counted, strict=True)
        loss = sum(probe_losses(of_fold, labels, target_type, rows).sum() for of_fold, labels, rows in parts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def cross_entropies(logits: Float[Tensor, "g b o"], target: Int[Tensor, "g b"]) -> Float[Tensor, "g b"]:
    """Return the cross-entropy of every probe on every clip."""
    each = F.cross_entropy(rearrange(logits, "g b o -> (g b) o"), rearrange(target, "g b -> (g b)"), reduction="none")
    return rearrange(each, "(g b) -> g b", g=len(logits))


def probe_losses(
    outputs: Float[Tensor, "g b o"], target: Tensor, target_type: str, counted: Float[Tensor, " b"] | None = None
) -> Float[Tensor, " g"]:
    """Return every probe's mean loss over the clips, or over those that are `counted`, by 1 and not 0."""
    if target_type == "class":
        each = cross_entropies(outputs, repeat(target, "b -> g b", g=len(outputs)))
    else:
        measure = F.binary_cross_entropy_with_logits if target_type == "multilabel" else F.mse_loss
        each = measure(outputs, target.expand_as(outputs), reduction="none").mean(2)
    return each.mean(1) if counted is None else (each * counted).sum(1) / counted.sum()


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
