"""The one training loop: roles, bf16 autocast, JSONL metrics, checkpoints; killed and resumed, bit for bit.

Nothing in a run depends on hidden generator state: data and noise of step s are functions of (seed, s, rollbacks), so
a checkpoint needs each role's weights, averages and optimizer, what the task and the divergence monitor remember, and
the step number. Under `torchrun` every process has all of these, the same ones, and its own part of each batch; the
first one writes.
"""

from __future__ import annotations

import copy
import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from vidgen.diffusion.noise import sample_generator
from vidgen.errors import Interrupted, VidgenError
from vidgen.files.json_lines import json_line
from vidgen.files.locks import exclusive
from vidgen.profiling.mfu import Utilization
from vidgen.train.config import LoopConfig
from vidgen.train.data.sources import batches
from vidgen.train.runtime import distributed
from vidgen.train.runtime.checkpoints import (
    RunState,
    checkpoint_steps,
    drop_checkpoint,
    load_checkpoint,
    misfit,
    record_monitor,
    save_checkpoint,
)
from vidgen.train.runtime.divergence import DivergenceMonitor, TrainingDiverged
from vidgen.train.runtime.roles import MAIN, RunningRole, only_trained
from vidgen.train.runtime.runs import interruptible, open_run
from vidgen.train.tasks.registry import TASKS
from vidgen.train.tasks.task import Metrics, Role, Task, autocast


class Trainer:
    """A task, its roles with their optimizers and averages, the divergence monitor, and the run folder they live in."""

    def __init__(self, task: Task, config: LoopConfig) -> None:
        with distributed.rank_zero_first():
            self.task, self.config, self.run = task, config, open_run(config)
        self.utilization = Utilization(config.device, config.autocast)
        main = Role(module=task.model, loss=task.loss, optimizer=config.optimizer)
        roles = {MAIN: main, **task.roles()}
        if roles[MAIN].loss is None:
            raise ValueError(f"the role {MAIN!r} must be trained")
        for role in roles.values():
            role.module.to(config.device)
        self.roles = [RunningRole(name, role, config.steps) for name, role in roles.items()]
        self.trained = [role for role in self.roles if role.is_trained]
        self.trained.sort(key=lambda role: 0 if role.role.before_main else 1 if role.name == MAIN else 2)
        self.main = self.roles[0]
        self.monitor = DivergenceMonitor(config.guard)
        # What to go back to before the first checkpoint; copied, since training writes over the tensors.
        self.start = copy.deepcopy((self.weights(), task.state_dict()))
        self.step = 0
        if checkpoint_steps(self.run):
            self.monitor.load_state_dict(self.restore())

    def weights(self) -> dict[str, dict[str, Any]]:
        """Return the state of every role's module that changes in a run."""
        return {role.name: role.module.state_dict() for role in self.roles if role.is_saved}

    def restore(self) -> dict[str, Any]:
        """Restore all but the monitor from the last checkpoint, or from the start; return the monitor's state then."""
        steps = checkpoint_steps(self.run)
        if not steps:
            weights, task = self.start
            for role in self.roles:
                if role.is_saved:
                    role.module.load_state_dict(weights[role.name])
                role.renew()
            self.task.load_state_dict(copy.deepcopy(task))
            self.step = 0
            return {}
        folder = self.run / f"checkpoint-{steps[-1]}"
        self.start = ({}, {})
        state = load_checkpoint(folder, self.roles)
        try:
            self.task.load_state_dict(state.task)
        except (RuntimeError, KeyError, ValueError) as error:
            raise misfit(folder, error) from None
        self.step = state.step
        return state.monitor

    def fit(self) -> Path:
        """Train to the last step and return `final/`. On Ctrl-C, SIGTERM or SIGHUP save, and raise Interrupted.

        The progress bar is the first process's. Raises VidgenError where steps diverge and no rollbacks are left.
        """
        config, late = self.config, False
        end = time.monotonic() + 60 * config.max_minutes if config.max_minutes > 0 else math.inf
        quiet = True if distributed.rank() else None  # None: where stderr is no terminal
        with interruptible() as stops, tqdm(total=config.steps, initial=self.step, disable=quiet, unit="step") as bar:
            while self.step < config.steps and not late:
                try:
                    late = self.advance(end, stops, bar)
                except TrainingDiverged as error:
                    self.rollback(error)
                    bar.n = self.step
        return self.export()

    def advance(self, end: float, stops: list[int], bar: tqdm) -> bool:
        """Step, log and save to the last step or the time `end`; return whether that came first."""
        config, due = self.config, False
        data = distributed.ShardedDataset(self.task.dataset, config.batch_size)
        first, stop = self.monitor.data_step(self.step), self.monitor.data_step(config.steps)
        stream = iter(batches(data, first, stop, data.size, config.data.workers, self.task.gather))
        while self.step < config.steps:
            start = time.perf_counter()
            batch = next(stream)
            wait = time.perf_counter() - start
            metrics = self.train_step(batch)
            self.step += 1
            seconds = time.perf_counter() - start
            bar.update()
            late, stopped = distributed.any_of(time.monotonic() > end, bool(stops))
            last = self.step == config.steps
            if self.step % config.log_every == 0:
                share = self.utilization.of(batch, seconds)
                rates = {"clips_per_s": config.batch_size / seconds} | ({} if share is None else {"mfu": share})
                self.log({**metrics, "lr": self.rate(self.step - 1), **rates, "data_s": wait})
                bar.set_postfix({name: f"{metrics[name]:.4f}" for name in ("loss",) if name in metrics})
            if self.step % config.validate_every == 0 or last or late:
                self.log({f"validation_{k}": v for k, v in self.validate().items()})
                self.utilization.forget()
            due = due or self.step % config.checkpoint_every == 0 or stopped or late
            if last or due and self.monitor.healthy:  # while in doubt it waits: each checkpoint is one to come back to
                self.save()
                due = False
            if stopped:
                raise Interrupted(*(stops or [signal.SIGINT])[:1])
            if late:
                return True
        return False

    def rate(self, step: int) -> float:
        """Return the main model's learning rate at a step: the schedule's, lowered by every rollback so far."""
        return self.main.rate(step, self.monitor.lr_scale)

    def train_step(self, batch: Any) -> Metrics:
        """Give every role its turn at this step, and return the metrics of all.

        Raises TrainingDiverged where an optimizer step cannot stand, before it is made.
        """
        self.task.begin_step(self.step)
        metrics: Metrics = {}
        for role in self.trained:
            if self.step % role.role.every == 0:
                for number in range(role.role.updates):
                    metrics |= self.update(role, batch, number)
        for role in self.roles:
            if role.role.follow is not None:
                role.follow(self.step)
        return metrics

    def update(self, role: RunningRole, batch: Any, number: int) -> Metrics:
        """Make the `number`-th optimizer step of a role's turn; its noise is a function of seed, step, role, number."""
        config = self.config
        process = f"-process-{distributed.rank()}" if distributed.rank() else ""
        turn = "" if (role is self.main and number == 0) else f"-{role.name}-{number}"
        generator = sample_generator(config.seed, f"step-{self.monitor.data_step(self.step)}{process}{turn}")

        def loss() -> tuple[torch.Tensor | None, Metrics]:
            with self.utilization.counted(batch, turn), autocast(config.device, config.autocast):
                return role.role.loss(batch, generator)

        check = self.monitor.check if role is self.main else None
        with only_trained(role, self.trained):
            return role.update(loss, role.rate(self.step, self.monitor.lr_scale), check)

    def rollback(self, error: TrainingDiverged) -> None:
        """Go back to the last checkpoint, or the start, and on from there at a lower rate with other data.

        The log and stderr say so. From a checkpoint that did not help, the run goes back to the one before. Raises
        VidgenError where no rollbacks are left.
        """
        monitor, step = self.monitor, self.step
        if monitor.rollbacks >= self.config.guard.rollbacks:
            raise VidgenError(
                f"{self.run}: step {step}: {error}, after {monitor.rollbacks} rollbacks; go on from its checkpoint "
                f"with more guard.rollbacks, or start again with a lower optimizer.lr and another out=FOLDER"
            )
        steps = checkpoint_steps(self.run)
        in_vain = len(steps) > 1 and steps[-1] == monitor.returned_to  # it did not help: it is not good
        distributed.barrier()
        if in_vain and distributed.rank() == 0:
            drop_checkpoint(self.run, steps[-1])
        distributed.barrier()
        state = self.restore()
        monitor.rollback(state, self.step)
        distributed.barrier()
        if steps and distributed.rank() == 0:
            record_monitor(self.run / f"checkpoint-{self.step}", monitor.state_dict())
        row = {"event": "rollback", "reason": str(error), "to_step": self.step}
        self.log({**row, "rollbacks": monitor.rollbacks, "lr_scale": monitor.lr_scale}, step)
        line = (
            f"{self.run}: step {step}: {error}; back to step {self.step} at {monitor.lr_scale:g} of the learning rate, "
            f"with other data (rollback {monitor.rollbacks} of {self.config.guard.rollbacks})"
        )
        if distributed.rank() == 0:
            tqdm.write(line, file=sys.stderr)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block all roles evaluate, with averaged weights in place of their own."""
        with ExitStack() as stack:
            for role in self.roles:
                stack.enter_context(role.averaged())
            yield

    def validate(self) -> Metrics:
        """Return the task's metrics; those of the first process alone, since all have the same weights."""
        if distributed.rank():
            return {}
        with self.averaged(), torch.no_grad(), autocast(self.config.device, self.config.autocast):
            return self.task.validate()

    def save(self) -> Path:
        """Write a checkpoint of this step, and return its folder."""
        state = RunState(step=self.step, task=self.task.state_dict(), monitor=self.monitor.state_dict())
        self.start = ({}, {})
        with distributed.rank_zero_first():
            if distributed.rank() == 0:
                save_checkpoint(self.run, self.roles, state, self.config.keep_checkpoints)
        return self.run / f"checkpoint-{self.step}"

    def export(self) -> Path:
        """Write the trained model to `final/` of the run, and return that folder."""
        with distributed.rank_zero_first(), self.averaged(), torch.no_grad():
            if distributed.rank() == 0:
                self.task.export(self.run / "final")
        return self.run / "final"

    def log(self, row: dict[str, Any], step: int | None = None) -> None:
        """Append one line of JSON to metrics.jsonl, for `step` or the one that the run is at."""
        if distributed.rank():
            return
        with (self.run / "metrics.jsonl").open("a", encoding="utf-8") as file:
            head = {"step": self.step if step is None else step, "time": round(time.time(), 1)}
            file.write(json_line({**head, **row}))


def train(config: LoopConfig) -> Path:
    """Run the recipe, from its last checkpoint if there is one, and return the folder of the final model.

    Under `torchrun` this is one of its processes, and returns when all are done.
    """
    with distributed.init_distributed(config.device), ExitStack() as stack:
        if distributed.rank() == 0:
            stack.enter_context(exclusive(config.out, "run"))
        with distributed.rank_zero_first():  # a cache is filled once
            if checkpoint_steps(Path(config.out)):  # it may be another recipe's, and the task may take long
                step = checkpoint_steps(open_run(config))[-1]
                if distributed.rank() == 0:
                    tqdm.write(f"{config.out}: resuming from step {step} of {config.steps}", file=sys.stderr)
            task = TASKS[config.task].task(config)
        return Trainer(task, config).fit()
