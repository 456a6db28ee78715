"""The one training loop: EMA, clipping, bf16 autocast, JSONL metrics, checkpoints; killed and resumed, bit for bit.

Nothing in a run depends on hidden generator state: data and noise of step s are functions of (seed, s), so a
checkpoint needs weights, EMA, optimizer and the step number, and no more.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers.training_utils import EMAModel
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from vidgen.errors import VidgenError
from vidgen.noise import sample_generator
from vidgen.train.checkpoints import checkpoint_steps, load_checkpoint, save_checkpoint
from vidgen.train.config import LoopConfig
from vidgen.train.optimizers import build_optimizer
from vidgen.train.sources import batches

Metrics = dict[str, float]


class Task(Protocol):
    """What the loop needs to know of a task."""

    model: nn.Module
    dataset: Dataset

    def gather(self, samples: list) -> Any:
        """Collates the dataset's items into a batch."""

    def loss(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """The loss of a batch, with every random number from `generator`, and named parts for the log."""

    def validate(self) -> Metrics:
        """Metrics on held-out data with fixed noise; the model is in evaluation mode with EMA weights."""

    def export(self, folder: Path) -> None:
        """Writes the model, with EMA weights in place, to `folder` in the pretrained layout."""


@contextmanager
def interruptible() -> Iterator[list[bool]]:
    """Turns the first Ctrl-C into a flag, so that a step is finished and saved; the second one interrupts at once."""
    asked: list[bool] = []

    def ask(*_: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(True)

    try:
        before = signal.signal(signal.SIGINT, ask)
    except ValueError:  # not in the main thread: Ctrl-C does not arrive here
        yield asked
        return
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def learning_rate(step: int, config: LoopConfig) -> float:
    """Linear warm-up, then cosine to `final_lr` of the peak (Loshchilov & Hutter 2017, eq. 5)."""
    o = config.optimizer
    if step < o.warmup:
        return o.lr * (step + 1) / o.warmup
    done = (step - o.warmup) / max(1, config.steps - o.warmup)
    return o.lr * (o.final_lr + (1.0 - o.final_lr) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done))))


# What may differ when a run goes on: where and how often it writes, not what it computes.
FREE_KEYS = ("out", "log_every", "validate_every", "checkpoint_every", "keep_checkpoints", "max_minutes")


def open_run(config: LoopConfig) -> Path:
    """The run's folder with its resolved recipe. A folder of another recipe is refused, so no run is overwritten."""
    run, text = Path(config.out), OmegaConf.to_yaml(OmegaConf.structured(config))
    recorded = run / "config.yaml"
    try:
        run.mkdir(parents=True, exist_ok=True)
        if recorded.exists() and checkpoint_steps(run):
            before, now = OmegaConf.load(recorded), OmegaConf.create(text)
            changed = [k for k in now if k not in FREE_KEYS and before.get(k) != now[k]]
            if changed:
                what = ", ".join(changed)
                raise VidgenError(f"{run} holds a run with another {what} (see {recorded}); choose another out=FOLDER")
        recorded.write_text(text, encoding="utf-8")
    except OSError as error:
        raise VidgenError(f"cannot write the run to {run}: {error.strerror}; choose another out=FOLDER") from None
    return run


class Trainer:
    """A task, its optimizer and EMA, and the run folder they live in."""

    def __init__(self, task: Task, config: LoopConfig) -> None:
        self.task, self.config, self.run = task, config, open_run(config)
        task.model.to(config.device).train()
        self.parameters = [p for p in task.model.parameters() if p.requires_grad]
        self.optimizer = build_optimizer(task.model, config.optimizer)
        self.ema = EMAModel(self.parameters, decay=config.optimizer.ema_decay)
        self.step = 0
        if steps := checkpoint_steps(self.run):
            folder = self.run / f"checkpoint-{steps[-1]}"
            self.step = load_checkpoint(folder, task.model, self.ema, self.optimizer)

    def fit(self) -> Path:
        """Trains to the last step and returns `final/`. On Ctrl-C saves a checkpoint first, then KeyboardInterrupt."""
        config, started = self.config, time.monotonic()
        loader = batches(
            self.task.dataset, self.step, config.steps, config.batch_size, config.data.workers, self.task.gather
        )
        stream = iter(loader)
        with interruptible() as asked, tqdm(total=config.steps, initial=self.step, disable=None, unit="step") as bar:
            while self.step < config.steps:
                tick = time.perf_counter()
                batch = next(stream)
                wait = time.perf_counter() - tick
                metrics = self.train_step(batch)
                self.step += 1
                seconds = time.perf_counter() - tick
                bar.update()
                late = config.max_minutes > 0 and time.monotonic() - started > 60 * config.max_minutes
                if self.step % config.log_every == 0:
                    rate = config.batch_size / seconds
                    self.log(
                        {**metrics, "lr": learning_rate(self.step - 1, config), "clips_per_s": rate, "data_s": wait}
                    )
                    bar.set_postfix(loss=f"{metrics['loss']:.4f}")
                if self.step % config.validate_every == 0 or self.step == config.steps or late:
                    self.log({f"validation_{k}": v for k, v in self.validate().items()})
                if self.step % config.checkpoint_every == 0 or self.step == config.steps or asked or late:
                    self.save()
                if asked:
                    raise KeyboardInterrupt
                if late:
                    break
        return self.export()

    def train_step(self, batch: Any) -> Metrics:
        """One optimizer step; raises VidgenError, with the last checkpoint untouched, if the loss is not finite."""
        config = self.config
        generator = sample_generator(config.seed, f"step-{self.step}")
        lr = learning_rate(self.step, config)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        device = torch.device(config.device).type
        with torch.autocast(device, torch.bfloat16, enabled=config.autocast == "bfloat16"):
            loss, metrics = self.task.loss(batch, generator)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, config.optimizer.grad_clip)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            raise VidgenError(
                f"loss {loss.item()} or gradient norm {norm.item()} is not finite at step {self.step}; the last "
                f"checkpoint in {self.run} is good: go on from it with a lower optimizer.lr"
            )
        self.optimizer.step()
        self.ema.step(self.parameters)
        return {"loss": loss.item(), "grad_norm": norm.item(), **metrics}

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Evaluation mode with the EMA's weights in place of the model's."""
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)
        self.task.model.eval()
        try:
            yield
        finally:
            self.ema.restore(self.parameters)
            self.task.model.train()

    def validate(self) -> Metrics:
        device = torch.device(self.config.device).type
        with self.averaged(), torch.no_grad():
            with torch.autocast(device, torch.bfloat16, enabled=self.config.autocast == "bfloat16"):
                return self.task.validate()

    def save(self) -> Path:
        return save_checkpoint(
            self.run, self.step, self.task.model, self.ema, self.optimizer, self.config.keep_checkpoints
        )

    def export(self) -> Path:
        with self.averaged(), torch.no_grad():
            self.task.export(self.run / "final")
        return self.run / "final"

    def log(self, row: Metrics) -> None:
        """Appends one line of JSON to metrics.jsonl."""
        with (self.run / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": self.step, "time": round(time.time(), 1), **row}) + "\n")


def train(config: LoopConfig) -> Path:
    """Runs the recipe, from its last checkpoint if there is one, and returns the folder of the final model."""
    from vidgen.train.diffusion_task import DiffusionTask
    from vidgen.train.tokenizer_task import TokenizerTask

    tasks = {"tokenizer": TokenizerTask, "diffusion": DiffusionTask}
    return Trainer(tasks[config.task](config), config).fit()
