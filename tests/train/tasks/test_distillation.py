"""Distillation: each method begins where its equation says, moves the student alone, and goes on bit for bit."""

import warnings
from copy import deepcopy

import pytest
import torch

from vidgen.diffusion.noise import TimeDistribution
from vidgen.errors import VidgenError
from vidgen.pipelines.loading import load_pipeline
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.train.config.distillation import METHODS as NAMES
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.distillation import DistillationTask
from vidgen.train.tasks.distillation_methods import METHODS

SMALL = [
    "cached_clips=4", "steps=2", "batch_size=2", "log_every=1", "validate_every=2", "checkpoint_every=1",
    "data.validation_clips=2", "data.num_frames=5", "data.size=[16,16]", "autocast=float32", "drop_text=0",
    "optimizer={kind: adamw, lr: 0.01, warmup: 0}", "task=distill", "student_steps=2", "teacher_steps=4",
    "critic={lr: 0.01, warmup: 0, ema_decay: 0}", "critic_updates=2",
]  # fmt: skip


@pytest.fixture
def make(tiny_base):
    """Return the recipe of a method on a tiny teacher."""
    base = tiny_base(SchedulerConfig(guidance_scale=3.0, time_distribution=TimeDistribution(shift=2.5)))

    def recipe(method: str, *more: str):
        return load_recipe("diffusion_default", [*SMALL, *base, f"method={method}", *more])

    return recipe


def batch_of(task: DistillationTask):
    return task.gather([task.dataset[(0, slot)] for slot in range(2)])


def loss_of(task: DistillationTask, seed: int = 0) -> float:
    return task.loss(batch_of(task), torch.Generator().manual_seed(seed))[0].item()


def test_every_method_that_a_recipe_names_is_there():
    assert tuple(METHODS) == NAMES


@pytest.mark.parametrize("method", NAMES)
def test_a_run_moves_the_student_and_nothing_else(make, method, tmp_path):
    recipe = make(method)
    task = DistillationTask(recipe)
    before = deepcopy(task.teacher.state_dict())
    text = deepcopy(task.text_encoder.state_dict())
    final = Trainer(task, recipe).fit()
    assert all(torch.equal(task.teacher.state_dict()[name], value) for name, value in before.items())
    assert all(torch.equal(task.text_encoder.state_dict()[name], value) for name, value in text.items())
    student = load_pipeline(str(final))
    moved = [name for name, value in student.transformer.state_dict().items() if not torch.equal(value, before[name])]
    assert len(moved) > len(before) // 2
    s = student.scheduler
    assert s.guidance_scale == 1.0 and s.distilled_guidance == 3.0
    assert s.distilled_steps == (() if method == "guidance" else (2,))
    assert student("a star", num_frames=5, height=16, width=16).frames[0].shape == (5, 16, 16, 3)


def test_a_copy_of_an_unguided_teacher_has_nothing_to_learn(make):
    """Of its guidance, and of a critic that says what the teacher says."""
    assert loss_of(DistillationTask(make("guidance", "guidance_scale=1"))) == pytest.approx(0.0, abs=1e-12)
    task = DistillationTask(make("distribution_matching", "guidance_scale=1"))
    loss = task.loss(batch_of(task), torch.Generator().manual_seed(0))[0]
    loss.backward()
    assert not any(p.grad.any() for p in task.model.parameters() if p.grad is not None)
    assert loss_of(DistillationTask(make("guidance"))) > 1e-6  # guided, it has


def test_progressive_targets_are_two_of_the_teachers_steps(make):
    """At as many steps, the student's one step would have to end where two of its own do: the loss sees that."""
    task = DistillationTask(make("progressive", "guidance_scale=1"))
    lesson = task.lesson(batch_of(task), torch.Generator().manual_seed(0))
    t, middle, s = task.draw_step(lesson, 4, stride=2)
    times = task.time_of(lesson.x0).steps(4).float()
    for levels in zip(t.tolist(), middle.tolist(), s.tolist(), strict=True):
        assert list(levels) in ([times[0], times[1], times[2]], [times[2], times[3], times[4]])
    assert loss_of(task) > 0


@pytest.mark.slow
@pytest.mark.parametrize("method", ["consistency", "distribution_matching"])
def test_a_run_that_was_cut_goes_on_bit_for_bit(make, method, tmp_path):
    whole = make(method, "steps=4", f"out={tmp_path / 'whole'}")
    Trainer(DistillationTask(whole), whole).fit()
    cut = make(method, "steps=4", f"out={tmp_path / 'cut'}")
    task = DistillationTask(cut)
    losses = iter([task.loss] * 2)
    task.loss = lambda *args: next(losses)(*args)
    with pytest.raises(StopIteration):
        Trainer(task, cut).fit()
    Trainer(DistillationTask(cut), cut).fit()
    states = [load_pipeline(str(tmp_path / name / "final")).transformer.state_dict() for name in ("whole", "cut")]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_student_warns_at_other_steps_and_at_guidance(make):
    recipe = make("consistency")
    pipe = load_pipeline(str(Trainer(DistillationTask(recipe), recipe).fit()))
    size = dict(num_frames=5, height=16, width=16)
    with pytest.warns(UserWarning, match="student of 2 steps, and was not trained for 3"):
        pipe("a star", num_inference_steps=3, **size)
    with pytest.warns(UserWarning, match="guidance of 3 is distilled into this model"):
        pipe("a star", guidance_scale=2.0, **size)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe("a star", **size)


def test_recipes_that_cannot_be(make):
    with pytest.raises(VidgenError, match="needs a teacher"):
        make("consistency", "init_from=''")
    with pytest.raises(VidgenError, match="method"):
        make("magic")


def test_a_head_of_the_critic_tells_clips_apart_and_moves_the_student(make):
    """Its loss is half the sum of hinges; the student's gradient is that of the matching loss and of the head's."""
    task = DistillationTask(make("distribution_matching", "adversarial=0.5", "guidance_scale=1"))
    batch = batch_of(task)
    loss, metrics = task.critic_loss(batch, torch.Generator().manual_seed(0))
    assert metrics["critic_head_loss"] == pytest.approx(1.0, abs=0.5)  # two hinges of logits near 0
    plain = DistillationTask(make("distribution_matching", "guidance_scale=1"))
    without = plain.critic_loss(batch, torch.Generator().manual_seed(0))[0]
    assert loss.item() == pytest.approx(without.item() + 0.5 * metrics["critic_head_loss"], rel=1e-5)
    task.loss(batch, torch.Generator().manual_seed(0))[0].backward()
    assert any(p.grad.any() for p in task.model.parameters() if p.grad is not None)  # alone there would be none
    assert set(task.roles()["critic"].module) == {"network", "head"}


def test_only_a_critic_has_a_head(make):
    with pytest.raises(VidgenError, match="adversarial=0.5 is for method=distribution_matching"):
        make("consistency", "adversarial=0.5")
