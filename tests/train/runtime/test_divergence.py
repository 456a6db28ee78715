"""Runs that go wrong: a NaN and a collapse are provoked, and the run goes back, says so, and comes to its end."""

import json
import math

import pytest
import torch
from torch import nn

from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.train.config import GuardConfig, LoopConfig, OptimizerConfig
from vidgen.train.runtime.checkpoints import checkpoint_steps
from vidgen.train.runtime.divergence import DATA_SHIFT, DivergenceMonitor, TrainingDiverged
from vidgen.train.runtime.loop import Trainer
from vidgen.train.runtime.optimizers import learning_rate
from vidgen.train.tasks.task import Task
from vidgen.train.tasks.tokenizer import codebook_usage

CODES = 16


class Points:
    """Item (step, slot) is a point that depends on nothing else; remembers which were asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __getitem__(self, key: tuple[int, int]) -> torch.Tensor:
        self.asked.append(key[0])
        return torch.randn(8, generator=sample_generator(0, str(key)))


class Toy(Task):
    """Learns the identity; its `indices` are the largest of its outputs. `trouble(task, call)` may spoil a step."""

    def __init__(self, trouble=lambda task, call: 1.0) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(8, CODES, bias=False)
        self.dataset, self.gather = Points(), torch.stack
        self.trouble, self.calls = trouble, 0

    def loss(self, batch, generator):
        self.calls += 1
        factor = self.trouble(self, self.calls)
        out = self.model(batch)
        loss = (out[:, :8] - batch).square().mean() * factor
        usage = codebook_usage(out.argmax(1)[:, None, None, None], CODES)
        return loss, {"reconstruction": loss.item(), "codebook_usage": usage}

    def validate(self):
        return {}

    def export(self, folder):
        folder.mkdir()


def recipe(tmp_path, **settings) -> LoopConfig:
    guard = GuardConfig(**settings.pop("guard", {}))
    optimizer = OptimizerConfig(lr=0.02, warmup=1, ema_decay=0.9)
    values = {"steps": 12, "batch_size": 32, "autocast": "float32", "log_every": 1, "checkpoint_every": 4, **settings}
    return LoopConfig(task="toy", out=str(tmp_path / "run"), guard=guard, optimizer=optimizer, **values)


def rows(config: LoopConfig) -> list[dict]:
    with open(f"{config.out}/metrics.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def nan_at(*calls: int):
    return lambda task, call: math.nan if call in calls else 1.0


def test_a_nan_goes_back_says_so_and_goes_on_with_other_data_at_a_lower_rate(tmp_path, capsys):
    config, task = recipe(tmp_path), Toy(nan_at(7))
    Trainer(task, config).fit()
    (event,) = [row for row in rows(config) if "event" in row]
    assert (event["event"], event["step"], event["to_step"], event["lr_scale"]) == ("rollback", 6, 4, 0.5)
    assert "loss nan is not finite" in event["reason"]
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "rollback" in line]
    assert "step 6: loss nan is not finite; back to step 4 at 0.5 of the learning rate" in line
    asked = task.dataset.asked[::32]
    assert asked == [*range(7), *(DATA_SHIFT + step for step in range(4, 12))]
    after = rows(config)[rows(config).index(event) + 1 :]
    assert [row["step"] for row in after if "loss" in row] == list(range(5, 13))
    rates = {step: learning_rate(step - 1, config.optimizer, config.steps) for step in range(5, 13)}
    assert all(row["lr"] == 0.5 * rates[row["step"]] for row in after if "lr" in row)
    progress = json.loads((tmp_path / "run" / "checkpoint-12" / "progress.json").read_text())
    assert (progress["guard"]["rollbacks"], progress["guard"]["lr_scale"]) == (1, 0.5)
    assert (tmp_path / "run" / "final").is_dir()


def test_a_run_killed_after_a_rollback_goes_on_as_if_it_had_not_been(tmp_path):
    whole = Trainer(Toy(nan_at(7)), recipe(tmp_path / "whole"))
    whole.fit()

    def killed(task, call):
        if call == 9:
            raise KeyboardInterrupt
        return math.nan if call == 7 else 1.0

    with pytest.raises(KeyboardInterrupt):
        Trainer(Toy(killed), recipe(tmp_path / "killed")).fit()
    resumed = Trainer(Toy(), recipe(tmp_path / "killed"))
    assert (resumed.step, resumed.monitor.rollbacks, resumed.monitor.lr_scale) == (4, 1, 0.5)
    resumed.fit()
    assert torch.equal(resumed.task.model.weight, whole.task.model.weight)
    assert resumed.monitor.state_dict() == whole.monitor.state_dict()


def test_before_the_first_checkpoint_a_run_goes_back_to_its_start(tmp_path):
    config, task = recipe(tmp_path, checkpoint_every=100), Toy(nan_at(4))
    trainer, start = Trainer(task, config), task.model.weight.detach().clone()
    task.trouble = lambda task, call: weights.append(task.model.weight.detach().clone()) or nan_at(4)(task, call)
    weights: list[torch.Tensor] = []
    trainer.fit()
    assert torch.equal(weights[0], start) and torch.equal(weights[4], start)
    assert not torch.equal(weights[3], start) and len(weights) == 4 + 12
    assert checkpoint_steps(tmp_path / "run") == [12]


def test_a_jump_of_the_loss_is_a_collapse(tmp_path):
    def spoil(task, call):
        if call == 7:
            with torch.no_grad():
                task.model.weight.mul_(1000.0)
        return 1.0

    config = recipe(tmp_path, guard={"window": 5, "jump": 10.0, "patience": 2})
    Trainer(Toy(spoil), config).fit()
    (event,) = [row for row in rows(config) if "event" in row]
    assert "more than 10 times its median" in event["reason"] and event["to_step"] == 4
    losses = [row["loss"] for row in rows(config) if "loss" in row]
    assert max(losses) > 1e4 and losses[-1] < losses[0]


def test_a_codebook_that_collapses_is_noticed(tmp_path):
    def spoil(task, call):
        if call == 8:
            with torch.no_grad():
                task.model.weight.zero_()  # every output is largest at the same place
        return 1.0

    config = recipe(tmp_path, guard={"jump": 0.0, "patience": 1, "min_usage": 0.05})
    task = Toy(spoil)
    Trainer(task, config).fit()
    (event,) = [row for row in rows(config) if "event" in row]
    assert event["reason"] == "codebook usage 0 is below guard.min_usage=0.05"
    last = [row["codebook_usage"] for row in rows(config) if "codebook_usage" in row][-1]
    assert last > 0.05 and task.model.weight.any()


def test_a_run_that_keeps_going_wrong_gives_up_in_one_line(tmp_path):
    config = recipe(tmp_path, guard={"rollbacks": 2})
    with pytest.raises(VidgenError, match="step 4: loss nan .* after 2 rollbacks; .*lower optimizer.lr") as caught:
        Trainer(Toy(lambda task, call: math.nan if call > 5 else 1.0), config).fit()
    assert "\n" not in str(caught.value) and not (tmp_path / "run" / "final").exists()
    assert [row["to_step"] for row in rows(config) if "event" in row] == [4, 4]
    healed = Trainer(Toy(), recipe(tmp_path, guard={"rollbacks": 5}))  # as the message says
    assert (healed.monitor.rollbacks, healed.monitor.lr_scale) == (2, 0.25)
    healed.fit()


def test_a_checkpoint_that_it_came_back_to_in_vain_is_left_for_the_one_before(tmp_path):
    def spoil(task, call):
        if call == 8:  # with the guard's eyes shut, so that checkpoint-8 is bad
            with torch.no_grad():
                task.model.weight.mul_(1000.0)
            return 1.0
        return math.nan if task.model.weight.abs().max() > 100 else 1.0

    config = recipe(tmp_path, guard={"jump": 0.0})
    Trainer(Toy(spoil), config).fit()
    assert [row["to_step"] for row in rows(config) if "event" in row] == [8, 4]
    assert rows(config)[-2]["loss"] < 10


def test_no_checkpoint_is_taken_while_in_doubt(tmp_path):
    def outlier(task, call):
        return 1e6 if call in (8, 9) else 1.0

    config = recipe(tmp_path, keep_checkpoints=9, guard={"window": 5, "patience": 3})
    Trainer(Toy(outlier), config).fit()
    assert checkpoint_steps(tmp_path / "run") == [4, 10, 12]  # 8 waited for the first good step
    assert not [row for row in rows(config) if "event" in row]


def test_gradients_are_watched_too():
    with pytest.raises(TrainingDiverged, match="gradient norm inf is not finite"):
        DivergenceMonitor(GuardConfig()).check(1.0, math.inf, {})


def test_usage_counts_only_once_it_has_been_there():
    monitor = DivergenceMonitor(GuardConfig(patience=1, min_usage=0.5))
    monitor.check(1.0, 1.0, {"codebook_usage": 0.1})
    monitor.check(1.0, 1.0, {"codebook_usage": 0.6})
    with pytest.raises(TrainingDiverged, match="usage 0.1"):
        monitor.check(1.0, 1.0, {"codebook_usage": 0.1})


def test_a_monitor_goes_on_from_its_state():
    one = DivergenceMonitor(GuardConfig(window=10, patience=2))
    for value in (1.0, 2.0, 3.0, 100.0):
        one.check(value, 1.0, {})
    two = DivergenceMonitor(GuardConfig(window=10, patience=2))
    two.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert two.state_dict() == one.state_dict() and not two.healthy
    for monitor in (one, two):
        with pytest.raises(TrainingDiverged, match="100 is more than 10 times its median 2"):
            monitor.check(100.0, 1.0, {})


@pytest.mark.parametrize(
    ("indices", "size", "share"),
    [([3, 3, 3, 3], 16, 0.0), ([0, 1, 2, 3], 4, 1.0), ([0, 1, 2, 2], 2**18, 2 / 3), ([5, 5, 1, 1], 16, 1 / 3)],
)
def test_usage_is_the_share_of_codes_that_a_batch_could_show(indices, size, share):
    one = torch.tensor(indices)[:, None, None, None]
    assert codebook_usage(one, size) == pytest.approx(share)
    full = torch.arange(4)[:, None, None, None]
    worse = min(share, codebook_usage(full, size))
    assert codebook_usage(torch.stack([full, one], dim=-1), size) == pytest.approx(worse)
