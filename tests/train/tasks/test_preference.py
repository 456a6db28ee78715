"""Post-training: a model's own clips, judged once, move it towards those that are preferred."""

from copy import deepcopy

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.pipelines.loading import load_pipeline
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.train.config.files import load_recipe
from vidgen.train.data import judged_clips
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.preference import PreferenceTask

SMALL = [
    "cached_clips=12", "clips_per_prompt=3", "steps=2", "batch_size=2", "log_every=1", "validate_every=2",
    "checkpoint_every=1", "data.validation_clips=2", "data.num_frames=5", "data.size=[16,16]", "autocast=float32",
    "optimizer={kind: adamw, lr: 0.003, warmup: 0}", "task=preference", "drop_text=0",
]  # fmt: skip


@pytest.fixture
def make(tiny_base, monkeypatch):
    """Return the recipe of a method on a tiny model, of whose clips the checker likes every second one."""
    base = tiny_base(SchedulerConfig(num_inference_steps=2, num_frames=5, height=16, width=16))
    seen = []

    def check(frames, labels):
        seen.append(frames)
        liked = len(seen) % 2 == 0
        return type("Result", (), {"colour": True, "shape": liked, "motion": liked, "all": liked})()

    monkeypatch.setattr(judged_clips, "check", check)
    return lambda method, *more: load_recipe("diffusion_default", [*SMALL, *base, f"method={method}", *more])


def batch_of(task: PreferenceTask):
    return task.gather([task.dataset[(0, slot)] for slot in range(2)])


@pytest.mark.parametrize("method", ["weighted", "preference"])
def test_a_run_moves_the_denoiser_and_nothing_else(make, method):
    recipe = make(method)
    task = PreferenceTask(recipe)
    assert task.dataset.latents.shape == (4, 3, 4, 2, 2, 2)
    text, before = deepcopy(task.text_encoder.state_dict()), deepcopy(task.before.state_dict())
    pipe = load_pipeline(str(Trainer(task, recipe).fit()))
    assert pipe.scheduler == task.networks.schedule
    moved = pipe.transformer.state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in moved.items())
    assert all(torch.equal(value, text[name]) for name, value in pipe.text_encoder.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in task.before.state_dict().items())


def test_steps_on_one_pair_raise_the_chance_of_the_better_clip(make):
    task = PreferenceTask(make("preference", "beta=50"))
    batch = batch_of(task)
    optimizer = torch.optim.Adam(task.model.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss, _ = task.loss(batch, torch.Generator().manual_seed(0))
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[0] == pytest.approx(0.6931, abs=1e-3) and losses[-1] < 0.65
    assert task.loss(batch, torch.Generator().manual_seed(0))[1]["preferred"] == 1.0


def test_equal_rewards_leave_the_plain_denoising_loss(make):
    task = PreferenceTask(make("weighted", "rewarded=[colour]"))
    batch = batch_of(task)
    assert batch["rewards"].unique().tolist() == [1.0]
    loss = task.loss(batch, torch.Generator().manual_seed(0))[0]
    latents = batch["latents"].flatten(0, 1)
    draw = task.draw(latents, torch.Generator().manual_seed(0))
    captions = [caption for caption in batch["captions"] for _ in range(3)]
    torch.testing.assert_close(loss, task.denoising_loss(latents, captions, draw.t, draw.eps).mean())


def test_clips_are_made_once(make, monkeypatch):
    first = PreferenceTask(make("weighted"))
    monkeypatch.setattr(judged_clips, "make_groups", lambda *_: pytest.fail("made again"))
    again = PreferenceTask(make("preference"))
    assert torch.equal(first.dataset.latents, again.dataset.latents)
    assert torch.equal(first.dataset.rewards, again.dataset.rewards)


def test_prompts_are_of_the_clips_that_the_model_makes(make):
    """Its own length, whatever the recipe says of data: latents of five frames, and none of nine."""
    task = PreferenceTask(make("weighted", "data.num_frames=9"))
    assert task.dataset.latents.shape[3] == 2


def test_what_cannot_be_is_named(make):
    with pytest.raises(VidgenError, match="of each all have the same reward"):
        PreferenceTask(make("preference", "rewarded=[colour]"))
    with pytest.raises(VidgenError, match="needs a trained model"):
        make("weighted", "init_from=''")
    with pytest.raises(VidgenError, match="only the synthetic world's prompts"):
        make("weighted", "data.sources=[{kind: clips, path: x}]")
    with pytest.raises(VidgenError, match="leave out reference, tasks, given_frames"):
        make("weighted", "per_frame_noise=0.5")
    with pytest.raises(VidgenError, match="set drop_text=0 for method=preference"):
        make("preference", "drop_text=0.1")
    with pytest.raises(VidgenError, match="cached_clips=2 are no group of 3 clips"):
        make("weighted", "cached_clips=2")
