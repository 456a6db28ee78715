"""The one training loop: EMA, clipping, bf16 autocast, JSONL metrics, checkpoints; killed and resumed, bit for bit.

Nothing in a run depends on hidden generator state: data and noise of step s are functions of (seed, s, rollbacks), so
a checkpoint needs weights, EMA, optimizer, what the task and the guard remember, and the step number. Under `torchrun`
every process has all of these, the same ones, and its own part of each batch; the first one writes.
"""

from __future__ import annotations

import copy
import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import nn
from tqdm import tqdm

from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.profiling.mfu import Utilisation
from vidgen.train.config import LoopConfig
from vidgen.train.data.sources import batches
from vidgen.train.runtime import distributed
from vidgen.train.runtime.checkpoints import (
    RunState,
    checkpoint_steps,
    drop_checkpoint,
    load_checkpoint,
    misfit,
    record_guard,
    save_checkpoint,
)
from vidgen.train.runtime.divergence import DivergenceMonitor, TrainingDiverged
from vidgen.train.runtime.optimizers import build_optimizer, learning_rate
from vidgen.train.runtime.runs import interruptible, open_run
from vidgen.train.tasks.task import Metrics, Task, autocast


class Trainer:
    """A task, its optimizer and EMA, the guard over them, and the run folder they live in."""

    def __init__(self, task: Task, config: LoopConfig) -> None:
        with distributed.rank_zero_first():
            self.task, self.config, self.run = task, config, open_run(config)
        self.utilisation = Utilisation(config.device, config.autocast)
        task.model.to(config.device).train()
        self.parameters = [p for p in task.model.parameters() if p.requires_grad]
        self.guard = DivergenceMonitor(config.guard)
        # What to go back to before the first checkpoint; copied, since training writes over the tensors.
        self.start = copy.deepcopy((task.model.state_dict(), task.state_dict()))
        self.step = 0
        self.renew()
        if checkpoint_steps(self.run):
            self.guard.load_state_dict(self.restore())

    def renew(self) -> None:
        """A fresh optimizer, and averages that start from the weights as they are."""
        self.optimizer = build_optimizer(self.task.model, self.config.optimizer)
        self.ema = EMAModel(self.parameters, decay=self.config.optimizer.ema_decay)

    def restore(self) -> dict[str, Any]:
        """All but the guard as it was at the last checkpoint, or at the start; returns the guard's state then."""
        steps = checkpoint_steps(self.run)
        if not steps:
            model, task = self.start
            self.task.model.load_state_dict(model)
            self.task.load_state_dict(copy.deepcopy(task))
            self.step = 0
            self.renew()
            return {}
        folder, self.start = self.run / f"checkpoint-{steps[-1]}", ({}, {})
        state = load_checkpoint(folder, self.task.model, self.ema, self.optimizer)
        try:
            self.task.load_state_dict(state.task)
        except (RuntimeError, KeyError, ValueError) as error:
            raise misfit(folder, error) from None
        self.step = state.step
        return state.guard

    def fit(self) -> Path:
        """Trains to the last step and returns `final/`. On Ctrl-C saves a checkpoint first, then KeyboardInterrupt.

        The bar is the first process's. Raises VidgenError where steps derail and the guard has no rollbacks left.
        """
        config, late = self.config, False
        end = time.monotonic() + 60 * config.max_minutes if config.max_minutes > 0 else math.inf
        quiet = True if distributed.rank() else None  # None: where stderr is no terminal
        with interruptible() as asked, tqdm(total=config.steps, initial=self.step, disable=quiet, unit="step") as bar:
            while self.step < config.steps and not late:
                try:
                    late = self.advance(end, asked, bar)
                except TrainingDiverged as trouble:
                    self.rollback(trouble)
                    bar.n = self.step
        return self.export()

    def advance(self, end: float, asked: list[bool], bar: tqdm) -> bool:
        """Steps, logs and saves to the last step or the time `end`; returns whether that came first."""
        config, due = self.config, False
        data = distributed.ShardedDataset(self.task.dataset, config.batch_size)
        first, stop = self.guard.data_step(self.step), self.guard.data_step(config.steps)
        stream = iter(batches(data, first, stop, data.size, config.data.workers, self.task.gather))
        while self.step < config.steps:
            tick = time.perf_counter()
            batch = next(stream)
            wait = time.perf_counter() - tick
            metrics = self.train_step(batch)
            self.step += 1
            seconds = time.perf_counter() - tick
            bar.update()
            late, stopped = distributed.any_of(time.monotonic() > end, bool(asked))
            last = self.step == config.steps
            if self.step % config.log_every == 0:
                rates = {"clips_per_s": config.batch_size / seconds, "mfu": self.utilisation.of(batch, seconds)}
                self.log({**metrics, "lr": self.rate(self.step - 1), **rates, "data_s": wait})
                bar.set_postfix(loss=f"{metrics['loss']:.4f}")
            if self.step % config.validate_every == 0 or last or late:
                self.log({f"validation_{k}": v for k, v in self.validate().items()})
                self.utilisation.forget()
            due = due or self.step % config.checkpoint_every == 0 or stopped or late
            if last or due and self.guard.healthy:  # while in doubt it waits: every checkpoint is one to come back to
                self.save()
                due = False
            if stopped:
                raise KeyboardInterrupt
            if late:
                return True
        return False

    def rate(self, step: int) -> float:
        """The learning rate of a step: the schedule's, lowered by every rollback so far."""
        return learning_rate(step, self.config) * self.guard.lr_scale

    def train_step(self, batch: Any) -> Metrics:
        """One optimizer step; raises Derailment, before it is made, where the guard finds that it cannot stand."""
        config, own = self.config, f"-process-{distributed.rank()}" if distributed.rank() else ""
        generator = sample_generator(config.seed, f"step-{self.guard.data_step(self.step)}{own}")
        lr = self.rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        with self.utilisation.counted(batch), autocast(config.device, config.autocast):
            loss, metrics = self.task.loss(batch, generator)
        loss.backward()
        distributed.average_gradients(self.parameters)
        metrics = distributed.all_reduce_mean({"loss": loss.item(), **metrics})
        norm = nn.utils.clip_grad_norm_(self.parameters, config.optimizer.grad_clip).item()
        self.guard.check(metrics["loss"], norm, metrics)
        self.optimizer.step()
        self.ema.step(self.parameters)
        more = distributed.all_reduce_mean(self.task.after_step(self.step, lr))
        return {**metrics, "grad_norm": norm, **more}

    def rollback(self, trouble: TrainingDiverged) -> None:
        """Back to the last checkpoint, or the start, at a lower rate and on to other data; said in the log and on
        stderr. From a checkpoint that did not help, to the one before. VidgenError where it was done often enough."""
        guard, step = self.guard, self.step
        if guard.rollbacks >= self.config.guard.rollbacks:
            raise VidgenError(
                f"{self.run}: step {step}: {trouble}, after {guard.rollbacks} rollbacks; go on from its checkpoint "
                f"with more guard.rollbacks, or start again with a lower optimizer.lr and another out=FOLDER"
            )
        before = checkpoint_steps(self.run)
        in_vain = len(before) > 1 and before[-1] == guard.returned_to  # it did not help: it is not good
        distributed.barrier()
        if in_vain and distributed.rank() == 0:
            drop_checkpoint(self.run, before[-1])
        distributed.barrier()
        state = self.restore()
        guard.rollback(state, self.step)
        distributed.barrier()
        if before and distributed.rank() == 0:
            record_guard(self.run / f"checkpoint-{self.step}", guard.state_dict())
        row = {"event": "rollback", "reason": str(trouble), "to_step": self.step}
        self.log({**row, "rollbacks": guard.rollbacks, "lr_scale": guard.lr_scale}, step)
        line = (
            f"{self.run}: step {step}: {trouble}; back to step {self.step} at {guard.lr_scale:g} of the learning rate, "
            f"with other data (rollback {guard.rollbacks} of {self.config.guard.rollbacks})"
        )
        if distributed.rank() == 0:
            tqdm.write(line, file=sys.stderr)

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
        """The task's metrics; of the first process alone, since all have the same weights."""
        if distributed.rank():
            return {}
        with self.averaged(), torch.no_grad(), autocast(self.config.device, self.config.autocast):
            return self.task.validate()

    def save(self) -> Path:
        state = RunState(
            model=self.task.model,
            ema=self.ema,
            optimizer=self.optimizer,
            step=self.step,
            task=self.task.state_dict(),
            guard=self.guard.state_dict(),
        )
        self.start = ({}, {})
        with distributed.rank_zero_first():
            if distributed.rank() == 0:
                save_checkpoint(self.run, state, self.config.keep_checkpoints)
        return self.run / f"checkpoint-{self.step}"

    def export(self) -> Path:
        with distributed.rank_zero_first(), self.averaged(), torch.no_grad():
            if distributed.rank() == 0:
                self.task.export(self.run / "final")
        return self.run / "final"

    def log(self, row: dict[str, Any], step: int | None = None) -> None:
        """Appends one line of JSON to metrics.jsonl, for `step` or the one that the run is at."""
        if distributed.rank():
            return
        with (self.run / "metrics.jsonl").open("a", encoding="utf-8") as file:
            head = {"step": self.step if step is None else step, "time": round(time.time(), 1)}
            file.write(json.dumps({**head, **row}) + "\n")


def train(config: LoopConfig) -> Path:
    """Runs the recipe, from its last checkpoint if there is one, and returns the folder of the final model.

    Under `torchrun` this is one of its processes, and returns when all are done.
    """
    from vidgen.train.tasks.diffusion import DiffusionTask
    from vidgen.train.tasks.diffusion_decoder import DiffusionTokenizerTask
    from vidgen.train.tasks.keyframes import KeyframeTask
    from vidgen.train.tasks.tokenizer import TokenizerTask

    tasks = {
        "tokenizer": TokenizerTask,
        "diffusion": DiffusionTask,
        "diffusion_tokenizer": DiffusionTokenizerTask,
        "keyframes": KeyframeTask,
    }
    with distributed.init_distributed(config.device):
        with distributed.rank_zero_first():  # a cache is filled once
            task = tasks[config.task](config)
        return Trainer(task, config).fit()
