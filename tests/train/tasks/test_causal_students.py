"""Causal students: trained after what they see in generation, by distribution matching after chunks of their own."""

import pytest
import torch

from vidgen.diffusion.noise import TimeDistribution
from vidgen.errors import VidgenError
from vidgen.models.causal_attention import iter_chunks
from vidgen.models.dit.config import VideoDiTConfig
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.pipelines.loading import load_pipeline
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.train.config.distillation import METHODS
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.distillation import DistillationTask

SMALL = [
    "cached_clips=4", "steps=2", "batch_size=2", "log_every=1", "validate_every=2", "checkpoint_every=2",
    "data.validation_clips=2", "data.num_frames=9", "data.size=[16,16]", "autocast=float32", "drop_text=0",
    "optimizer={kind: adamw, lr: 0.01, warmup: 0}", "task=distill", "student_steps=1", "teacher_steps=2",
    "critic={lr: 0.01, warmup: 0, ema_decay: 0}", "critic_updates=1",
]  # fmt: skip
CAUSAL = "model={causal_chunks: [1, 1]}"


@pytest.fixture
def make(tiny_base):
    """Return the recipe of a method on a tiny teacher, whose student is causal."""
    base = tiny_base(SchedulerConfig(guidance_scale=3.0, time_distribution=TimeDistribution(shift=2.5)))

    def recipe(method: str, *more: str):
        return load_recipe("diffusion_default", [*SMALL, *base, f"method={method}", CAUSAL, *more])

    return recipe


def lesson_of(task: DistillationTask, seed: int = 0):
    batch = task.gather([task.dataset[(0, slot)] for slot in range(2)])
    return task.lesson(batch, torch.Generator().manual_seed(seed))


def causal_teacher(make, tmp_path) -> str:
    """A folder of the tiny pipeline whose denoiser is causal."""
    pipe = load_pipeline(make("guidance").init_from)
    causal = VideoDiT(VideoDiTConfig(**{**vars(pipe.transformer.config), "causal_chunks": (1, 1)}))
    causal.load_state_dict(pipe.transformer.state_dict())
    pipe.transformer = causal
    pipe.save_pretrained(tmp_path / "causal")
    return str(tmp_path / "causal")


@pytest.mark.parametrize("method", [pytest.param(name, marks=pytest.mark.slow) for name in METHODS])
def test_a_causal_student_of_a_teacher_that_sees_all_frames_is_trained_and_streams(make, method):
    recipe = make(method)
    task = DistillationTask(recipe)
    assert task.teacher.config.causal_chunks == (0, 0)
    final = Trainer(task, recipe).fit()
    pipe = load_pipeline(str(final))
    assert pipe.transformer.config.causal_chunks == (1, 1)
    chunks = list(pipe.stream("a star", num_frames=9, height=16, width=16))
    assert [len(chunk.frames) for chunk in chunks] == [1, 4, 4]


def test_a_copy_of_a_causal_teacher_without_guidance_has_nothing_to_learn(make, tmp_path):
    """Each chunk after the same clean chunks: the student says what the teacher says, and so does the critic."""
    teacher = f"init_from={causal_teacher(make, tmp_path)}"
    task = DistillationTask(make("guidance", teacher, "guidance_scale=1"))
    assert task.method(task, lesson_of(task)).max().item() == pytest.approx(0.0, abs=1e-12)
    task = DistillationTask(make("distribution_matching", teacher, "guidance_scale=1"))
    task.method(task, lesson_of(task)).mean().backward()
    assert not any(p.grad.any() for p in task.model.parameters() if p.grad is not None)
    guided = DistillationTask(make("guidance", teacher))
    assert guided.method(guided, lesson_of(guided)).min() > 1e-6


def test_a_rollout_in_training_is_what_the_student_generates(make, tmp_path):
    """Cache for cache: of the same noise the pipeline makes the same latents, chunk by chunk."""
    task = DistillationTask(make("distribution_matching"))
    lesson = lesson_of(task)
    rolled = task.rolled_out(lesson).detach()
    task.export(tmp_path / "student")
    pipe = load_pipeline(str(tmp_path / "student"), dtype=torch.float32)
    captions = task.gather([task.dataset[(0, slot)] for slot in range(2)])["captions"]
    settings = {"num_frames": 9, "height": 16, "width": 16, "output_type": "latent"}
    whole = pipe(captions, latents=lesson.eps, **settings).latents
    torch.testing.assert_close(whole, rolled, atol=1e-5, rtol=1e-5)


def test_gradients_stay_within_a_chunk_though_later_ones_depend_on_it(make):
    task = DistillationTask(make("distribution_matching"))
    lesson = lesson_of(task)
    noise = lesson.eps.clone().requires_grad_(True)
    rolled = task.rolled_out(type(lesson)(x0=lesson.x0, text=lesson.text, eps=noise, generator=lesson.generator))
    rolled[:, :, 1].sum().backward()
    reached = noise.grad.abs().amax(dim=(0, 1, 3, 4)) > 0
    assert reached.tolist() == [False, True, False]
    changed = lesson.eps.clone()
    changed[:, :, 0] += 1.0
    other = task.rolled_out(type(lesson)(x0=lesson.x0, text=lesson.text, eps=changed, generator=lesson.generator))
    assert list(iter_chunks((1, 1), 3)) == [(0, 1), (1, 2), (2, 3)]
    assert (other - rolled)[:, :, 1].abs().max() > 1e-6


def test_a_student_begins_as_the_model_of_student_from(make, tmp_path):
    start = make("guidance", f"out={tmp_path / 'first'}")
    first = Trainer(DistillationTask(start), start).fit()
    task = DistillationTask(make("distribution_matching", f"student_from={first}"))
    expected = load_pipeline(str(first), dtype=torch.float32).transformer.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in task.transformer.state_dict().items())
    assert not all(torch.equal(value, expected[name]) for name, value in task.teacher.state_dict().items())


def test_a_student_of_other_latents_is_refused(make):
    with pytest.raises(VidgenError, match="student_from=default: its latent_channels is 16, and the teacher's 4"):
        DistillationTask(make("guidance", "student_from=default"))


def test_a_student_of_another_text_encoder_is_refused(make, tmp_path):
    pipe = load_pipeline(make("guidance").init_from)
    for parameter in pipe.text_encoder.parameters():
        torch.nn.init.normal_(parameter)
    pipe.save_pretrained(tmp_path / "other")
    with pytest.raises(VidgenError, match="its text encoder is .*train_text=false keeps it"):
        DistillationTask(make("guidance", f"student_from={tmp_path / 'other'}"))


def test_gradient_checkpointing_changes_no_gradient(make):
    """A block that is computed again sees the cache as it was, though later chunks are in it by then."""
    gradients = []
    for flag in ("false", "true"):
        recipe = make("distribution_matching", "guidance_scale=1", f"gradient_checkpointing={flag}")
        task = DistillationTask(recipe)
        torch.manual_seed(0)
        for parameter in task.transformer.parameters():  # as made, its blocks are shut
            torch.nn.init.normal_(parameter, std=0.2)
        assert task.transformer.gradient_checkpointing == (flag == "true")
        task.model.train()
        task.rolled_out(lesson_of(task)).square().sum().backward()
        gradients.append([p.grad.clone() for p in task.transformer.parameters() if p.grad is not None])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain, atol=1e-5, rtol=1e-4)
