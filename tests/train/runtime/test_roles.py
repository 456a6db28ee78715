"""Several models in a run: optimizers, schedules and turns of their own, teachers that follow, all of it resumed."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.train.config import LoopConfig, OptimizerConfig
from vidgen.train.runtime.loop import Trainer
from vidgen.train.runtime.optimizers import warmup_cosine
from vidgen.train.tasks.task import Follow, Role, Task

STUDENT = OptimizerConfig(lr=0.02, warmup=2, ema_decay=0.9, weight_decay=0.0)
CRITIC = OptimizerConfig(lr=0.1, warmup=0, final_lr=1.0, betas=(0.5, 0.9), ema_decay=0.5, grad_clip=0.25)
FILES = ("model.safetensors", "ema.safetensors")


class Points:
    """Item (step, slot) is a point that depends on nothing else."""

    def __getitem__(self, key: tuple[int, int]) -> torch.Tensor:
        return torch.randn(6, generator=sample_generator(0, str(key)))


class Distillation(Task):
    """A student learns what a frozen model and its own teacher say, and a critic what the student is wrong by."""

    def __init__(self, **critic) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))
        self.teacher = copy.deepcopy(self.model)
        self.critic, self.frozen = nn.Linear(6, 1), nn.Linear(6, 6)
        self.dataset, self.gather = Points(), torch.stack
        self.settings = {"every": 2, "updates": 3, "before_main": True, **critic}
        self.turns: list[str] = []
        self.steps: list[int] = []
        self.draws: list[float] = []

    def begin_step(self, step):
        self.steps.append(step)

    def loss(self, batch, generator):
        self.turns.append("student")
        assert not self.critic.weight.requires_grad and self.model[0].weight.requires_grad
        out = self.model(batch + 0.1 * torch.randn(batch.shape, generator=generator))
        with torch.no_grad():
            target = self.frozen(batch) + 0.1 * self.teacher(batch)
        return (out - target).square().mean() + 0.01 * self.critic(out).mean(), {}

    def critic_loss(self, batch, generator):
        self.turns.append("critic")
        assert self.critic.weight.requires_grad and not self.model[0].weight.requires_grad
        noise = torch.randn(batch.shape, generator=generator)
        self.draws.append(noise[0, 0].item())
        with torch.no_grad():
            error = (self.model(batch) - self.frozen(batch)).square().mean(1, keepdim=True)
        return (self.critic(batch + 0.1 * noise) - error).square().mean(), {"critic_draw": noise.mean().item()}

    def roles(self):
        return {
            "critic": Role(module=self.critic, loss=self.critic_loss, optimizer=CRITIC, **self.settings),
            "teacher": Role(module=self.teacher, follow=Follow(source=self.model, decay=0.5, final_decay=1.0)),
            "frozen": Role(module=self.frozen),
        }

    def validate(self):
        return {"training": float(self.model.training or self.critic.training)}

    def export(self, folder):
        folder.mkdir()


def config(out: Path, **settings) -> LoopConfig:
    values = {"steps": 8, "batch_size": 4, "autocast": "float32", "log_every": 1, "validate_every": 4} | settings
    every = {"checkpoint_every": 1, "keep_checkpoints": 9}
    return LoopConfig(task="toy", out=str(out), optimizer=STUDENT, **{**every, **values})


def test_roles_have_optimizers_schedules_and_turns_of_their_own(tmp_path):
    task = Distillation()
    start = {name: copy.deepcopy(getattr(task, name).state_dict()) for name in ("model", "critic", "frozen")}
    trainer = Trainer(task, config(tmp_path))
    rates = []
    critic = next(role for role in trainer.roles if role.name == "critic")
    step = critic.optimizer.step
    critic.optimizer.step = lambda: (rates.append(critic.optimizer.param_groups[0]["lr"]), step())
    trainer.fit()
    assert task.turns == [*["critic"] * 3, "student", "student"] * 4 and task.steps == list(range(8))
    assert len(set(task.draws)) == 12  # every update has noise of its own
    assert rates == [0.1] * 12  # no warm-up, and a floor at the peak
    assert trainer.main.optimizer.param_groups[0]["lr"] == warmup_cosine(7, peak=0.02, warmup=2, steps=8, final=0.05)
    assert critic.optimizer.param_groups[0]["betas"] == (0.5, 0.9)
    assert not torch.equal(start["model"]["0.weight"], task.model[0].weight)
    assert not torch.equal(start["critic"]["weight"], task.critic.weight)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rows, validations = [r for r in rows if "loss" in r], [r for r in rows if "validation_training" in r]
    assert ["critic_loss" in row for row in rows] == [True, False] * 4
    assert all("critic_grad_norm" in row and "critic_draw" in row for row in rows[::2])
    assert [row["validation_training"] for row in validations] == [0.0, 0.0] and task.critic.training


def test_after_the_main_model_is_the_usual_turn(tmp_path):
    task = Distillation(every=1, updates=1, before_main=False)
    Trainer(task, config(tmp_path)).fit()
    assert task.turns == ["student", "critic"] * 8


def test_a_teacher_is_the_average_that_its_decay_says(tmp_path):
    task = Distillation()
    trainer = Trainer(task, config(tmp_path))
    expected = task.teacher[0].weight.detach().clone()
    batch = torch.stack([task.dataset[(0, slot)] for slot in range(4)])
    for step, decay in enumerate([0.5, 0.5625, 0.625]):  # from 0.5 to 1 in eight steps
        trainer.step = step
        trainer.train_step(batch)
        expected = decay * expected + (1 - decay) * task.model[0].weight.detach()
        torch.testing.assert_close(task.teacher[0].weight, expected)
        assert torch.equal(task.teacher[1].running_mean, task.model[1].running_mean)
    assert not any(p.requires_grad for p in task.teacher.parameters())


def test_a_frozen_role_is_neither_trained_nor_saved(tmp_path):
    task = Distillation()
    start = copy.deepcopy(task.frozen.state_dict())
    Trainer(task, config(tmp_path)).fit()
    assert all(torch.equal(value, start[name]) for name, value in task.frozen.state_dict().items())
    assert not any(p.requires_grad for p in task.frozen.parameters()) and not task.frozen.training
    saved = {str(p.relative_to(tmp_path / "checkpoint-8")) for p in (tmp_path / "checkpoint-8").rglob("*.*")}
    names = {"model.safetensors", "ema.safetensors", "optimizer.pt"}
    critic = {f"critic/{name}" for name in names}
    assert saved == names | critic | {"teacher/model.safetensors", "progress.json"}


@pytest.mark.slow
@pytest.mark.parametrize("step", range(1, 8))
def test_a_run_stopped_at_any_step_goes_on_bit_for_bit(tmp_path, step):
    Trainer(Distillation(), config(tmp_path / "whole")).fit()
    stopped = tmp_path / "stopped"
    shutil.copytree(tmp_path / "whole", stopped)
    shutil.rmtree(stopped / "final")
    for later in range(step + 1, 9):
        shutil.rmtree(stopped / f"checkpoint-{later}")
    resumed = Trainer(Distillation(), config(stopped))
    assert resumed.step == step
    resumed.fit()
    for name in ("", "critic", "teacher"):
        one, two = (tmp_path / out / "checkpoint-8" / name for out in ("whole", "stopped"))
        for file in [file for file in FILES if (one / file).is_file()]:
            a, b = load_file(one / file), load_file(two / file)
            assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a), (name, file)
        if name != "teacher":
            a, b = (torch.load(folder / "optimizer.pt")["state"] for folder in (one, two))
            assert all(torch.equal(a[i][key], b[i][key]) for i in a for key in a[i])


def test_a_role_that_diverges_takes_all_roles_back(tmp_path):
    task = Distillation()
    loss, calls = task.critic_loss, []

    def spoil(batch, generator):
        calls.append(copy.deepcopy(task.model.state_dict()))
        value, metrics = loss(batch, generator)
        return value * (float("nan") if len(calls) == 8 else 1.0), metrics

    task.critic_loss = spoil
    trainer = Trainer(task, config(tmp_path, checkpoint_every=2))
    trainer.fit()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    (event,) = [row for row in rows if "event" in row]
    assert event["reason"] == "critic loss nan is not finite" and (event["step"], event["to_step"]) == (4, 4)
    assert all(torch.equal(value, calls[6][name]) for name, value in calls[8].items())  # step 4 begins again


def test_before_the_first_checkpoint_all_roles_start_again(tmp_path):
    task = Distillation()
    trainer = Trainer(task, config(tmp_path, checkpoint_every=100))
    start = copy.deepcopy(trainer.weights())
    batch = torch.stack([task.dataset[(0, slot)] for slot in range(4)])
    trainer.train_step(batch)
    trainer.restore()
    for name, state in trainer.weights().items():
        assert all(torch.equal(value, start[name][key]) for key, value in state.items()), name


def test_a_checkpoint_without_a_role_is_refused_in_one_line(tmp_path):
    Trainer(Distillation(), config(tmp_path)).fit()
    for other in set(tmp_path.glob("checkpoint-*")) - {tmp_path / "checkpoint-8"}:
        shutil.rmtree(other)
    shutil.rmtree(tmp_path / "checkpoint-8" / "critic")
    with pytest.raises(VidgenError, match="checkpoint-8 .*is damaged") as caught:
        Trainer(Distillation(), config(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"optimizer": STUDENT}, "both a loss and an optimizer"),
        ({"loss": lambda *_: None}, "both a loss and an optimizer"),
        ({"every": 0}, "every >= 1 and updates >= 1"),
        ({"loss": lambda *_: None, "optimizer": STUDENT, "follow": Follow(source=nn.Linear(1, 1))}, "either follows"),
        ({"every": 2}, "not trained has no turns: leave every, updates and before_main out"),
        ({"before_main": True}, "not trained has no turns"),
        ({"updates": 2, "follow": Follow(source=nn.Linear(1, 1))}, "not trained has no turns"),
    ],
)
def test_roles_that_cannot_be(settings, says):
    with pytest.raises(ValueError, match=says):
        Role(module=nn.Linear(1, 1), **settings)


@pytest.mark.parametrize("follow", [None, Follow(source=nn.Linear(6, 6))])
def test_the_main_role_must_be_trained(tmp_path, follow):
    task = Distillation()
    task.roles = lambda: {"model": Role(module=nn.Linear(6, 6), follow=follow)}
    with pytest.raises(ValueError, match="the role 'model' must be trained"):
        Trainer(task, config(tmp_path))
