"""Training on stories: earlier scenes are context without loss, and a student's own scenes are what it streams."""

from functools import partial

import pytest
import torch

from vidgen.data.shapes import COLOURS
from vidgen.diffusion.noise import TimeDistribution
from vidgen.errors import VidgenError
from vidgen.pipelines.loading import load_pipeline
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.pipelines.streaming.chunk_sampler import CausalNetwork
from vidgen.samplers.few_step.distribution_matching import draw_steps, roll_out
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.denoising_draws import context_frames
from vidgen.train.tasks.diffusion import DiffusionTask
from vidgen.train.tasks.distillation import DistillationTask
from vidgen.train.tasks.story_rollouts import code_last_frame

# Scenes of 9 frames, so of 3 latent frames of which the first is shared: 3 scenes are 25 frames, 7 latent ones.
SMALL = [
    "cached_clips=6", "steps=1", "batch_size=2", "log_every=1", "validate_every=1", "checkpoint_every=1",
    "data.validation_clips=2", "data.num_frames=9", "data.size=[16,16]", "autocast=float32", "drop_text=0",
    "data.sources=[{kind: shapes, share: 0.01}, {kind: shapes, scenes: 3, num_frames: 25}]",
    "model.causal_chunks=[1,2]", "optimizer={kind: adamw, lr: 0.01, warmup: 0}",
]  # fmt: skip
STUDENT = [
    "task=distill", "method=distribution_matching", "student_steps=2", "window_frames=17",
    "critic={lr: 0.01, warmup: 0, ema_decay: 0}", "critic_updates=1",
]  # fmt: skip


@pytest.fixture
def make(tiny_base):
    """Return a recipe on a tiny model."""
    base = tiny_base(SchedulerConfig(guidance_scale=3.0, time_distribution=TimeDistribution(shift=2.5)))
    return lambda *more: load_recipe("diffusion_default", [*SMALL, *base, *more])


def batch_of(task):
    cache = task.dataset.caches[1]
    return task.gather([cache[(0, slot)] for slot in range(2)])


def test_the_caption_is_that_of_the_last_scene_and_the_others_stand_before_it(make):
    batch = batch_of(DiffusionTask(make()))
    assert batch["latents"].shape[2] == 7 and [len(row) for row in batch["earlier"]] == [2, 2]
    assert context_frames(batch) == 5 and context_frames({"latents": batch["latents"]}) == 0
    for earlier, last in zip(batch["earlier"], batch["captions"], strict=True):
        assert len({colour for text in (*earlier, last) for colour in COLOURS if colour in text}) == 1


def test_earlier_scenes_are_clean_and_have_no_loss(make):
    task = DiffusionTask(make("teacher_forcing=1"))
    batch = batch_of(task)
    draw = task.draw(batch["latents"], torch.Generator().manual_seed(0), context=5)
    assert not draw.t[:, :5].any() and draw.t[:, 5:].all()
    text = task.encode(batch["captions"])
    other = draw.eps.clone()
    other[:, :, :5] += 1.0
    losses = [task.denoising_loss(batch["latents"], text, draw.t, eps, after_clean=True) for eps in (draw.eps, other)]
    assert torch.equal(*losses)


def test_a_students_story_is_what_it_streams(make):
    recipe = make(*STUDENT)
    task = DistillationTask(recipe)
    lesson = task.lesson(batch_of(task), torch.Generator().manual_seed(0))
    assert lesson.x0.shape[2] == 3 and len(lesson.story.texts) == 2 and lesson.eps.shape[2] == 7
    torch.manual_seed(1)
    rolled = task.rolled_out(lesson)
    assert rolled.shape == lesson.x0.shape and rolled.requires_grad

    # The same by hand, from a cache that is filled anew under each text.
    lesson = task.lesson(batch_of(task), torch.Generator().manual_seed(0))
    times = task.time_of(lesson.x0).steps(2)

    run = partial(
        roll_out, times=times, path=task.path, steps=draw_steps(2, lesson.generator), generator=lesson.generator
    )
    latents = lesson.x0
    with torch.no_grad():
        for text, noise in zip(lesson.story.texts, lesson.eps[:, :, 3:].split(2, dim=2), strict=True):
            past = CausalNetwork(task.transformer, task.path, window=5, sinks=1)
            for part in (latents[:, :, :1], *latents[:, :, 1:].split(2, dim=2)):
                past.extend(part)
            before, latents = latents, torch.cat([latents, run(task.plain(past, text), noise)], dim=2)
    assert torch.allclose(rolled[:, :, 1:], latents[:, :, -2:], atol=1e-5)
    assert torch.allclose(rolled[:, :, :1], code_last_frame(task.tokenizer, before), atol=1e-4)


def test_a_run_ends_with_a_student_that_says_what_it_sees_at_once(make):
    recipe = make(*STUDENT)
    pipe = load_pipeline(str(Trainer(DistillationTask(recipe), recipe).fit()))
    assert pipe.scheduler.num_frames == 9 and pipe.scheduler.window_frames == 17
    chunks = list(pipe.stream("a red circle moves right", 41))
    assert sum(len(chunk.frames) for chunk in chunks) == 41


def test_a_causal_model_of_stories_sees_as_much_as_its_longest_clips(make):
    recipe = make("teacher_forcing=1")
    pipe = load_pipeline(str(Trainer(DiffusionTask(recipe), recipe).fit()))
    assert pipe.scheduler.window_frames == 25


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.sources=[{kind: shapes, scenes: 3}]"], "3 scenes do not share 9 frames equally: give num_frames=7"),
        (["data.sources=[{kind: shapes, scenes: 2, max_objects: 2}]"], "scenes=2 is for kind=shapes with max_obj"),
        (["data.sources=[{kind: shapes}, {kind: shapes, scenes: 2}]"], "clips of 9 frames have 1 and 2 scenes"),
        (["given_frames=0.1"], "of clips of 3 scenes the earlier ones are known"),
        ([*STUDENT, "method=consistency"], "3 scenes are for method=distribution_matching without adversarial"),
    ],
)  # fmt: skip
def test_stories_that_cannot_be(make, overrides, message):
    with pytest.raises(VidgenError, match=message):
        make(*overrides)


def test_a_student_of_stories_is_causal(make):
    with pytest.raises(VidgenError, match="a student of clips of several scenes is causal"):
        DistillationTask(make(*STUDENT, "model.causal_chunks=[0,0]"))
