"""Clips of several lengths in diffusion training: one length a batch, by the shares, from a cache for each length."""

import shutil

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.train.data.latent_cache import LatentCache
from vidgen.train.data.mixed_lengths import MixedLengths
from vidgen.train.data.sources import Mixture
from vidgen.train.runtime.loop import train
from vidgen.train.tasks.diffusion import DiffusionTask

SMALL = [
    "cached_clips=12", "steps=6", "batch_size=2", "log_every=1", "validate_every=3", "checkpoint_every=2",
    "data.validation_clips=2", "data.num_frames=9", "data.size=[16,16]", "model.width=32", "model.depth=1",
    "model.head_dim=32", "text_model.width=16", "text_model.depth=1", "text_model.head_dim=16", "autocast=float32",
]  # fmt: skip
LENGTHS = "data.sources=[{share: 0.5}, {share: 0.3, num_frames: 1}, {share: 0.2, num_frames: 5, seed: 1}]"


@pytest.fixture
def make(tiny_diffusion):
    """`make(override, ...)`: a recipe over a tiny tokenizer, whose latent frames hold 4 frames after the first."""
    return lambda *overrides: tiny_diffusion(*SMALL, *overrides)


def test_a_batch_is_of_one_length_drawn_by_the_shares(make):
    dataset = DiffusionTask(make(LENGTHS)).dataset
    assert isinstance(dataset, MixedLengths)
    assert [len(cache.rows) for cache in dataset.caches] == [6, 4, 2]  # of twelve, by the shares
    frames = []
    for step in range(400):
        sizes = {dataset[(step, slot)].latents.shape[1] for slot in range(3)}
        assert len(sizes) == 1
        frames += sizes
    shares = [frames.count(n) / 400 for n in (3, 1, 2)]  # latent frames of 9, 1 and 5 frames
    assert shares == pytest.approx([0.5, 0.3, 0.2], abs=0.08)  # three standard deviations


def test_lengths_come_at_the_steps_at_which_a_tokenizer_has_them(make):
    recipe = make(LENGTHS)
    dataset, mixture = DiffusionTask(recipe).dataset, Mixture(recipe.data, recipe.seed)
    for step in range(20):
        assert dataset[(step, 0)].latents.shape[1] == 1 + (mixture[(step, 0)].video.shape[1] - 1) // 4


def test_the_loss_is_that_of_a_run_of_this_length_alone(make):
    mixed = DiffusionTask(make(LENGTHS))
    step = next(step for step in range(99) if mixed.dataset[(step, 0)].latents.shape[1] == 2)
    alone = DiffusionTask(make("data.num_frames=5", "data.sources=[{share: 0.2, seed: 1}]", "cached_clips=2"))
    batches = [task.gather([task.dataset[(step, slot)] for slot in range(4)]) for task in (mixed, alone)]
    assert torch.equal(batches[0]["latents"], batches[1]["latents"])
    torch.manual_seed(0)
    for parameter in mixed.model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    alone.model.load_state_dict(mixed.model.state_dict())
    one = mixed.loss(batches[0], torch.Generator().manual_seed(3))[0]
    assert one > 0 and torch.equal(one, alone.loss(batches[1], torch.Generator().manual_seed(3))[0])


def test_held_out_clips_are_of_the_longest_length(make):
    assert DiffusionTask(make(LENGTHS)).held_out.latents.shape[2] == 3


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_bit_for_bit(make, tmp_path):
    whole = train(make(LENGTHS))
    parts = make(LENGTHS, f"out={tmp_path / 'parts'}", "keep_checkpoints=3")
    train(parts)
    for step in (4, 6):
        shutil.rmtree(tmp_path / "parts" / f"checkpoint-{step}")
    again = train(parts)
    weights = sorted(path.relative_to(whole) for path in whole.rglob("*.safetensors"))
    assert len(weights) == 3
    for path in weights:
        assert (whole / path).read_bytes() == (again / path).read_bytes()


def test_one_length_has_the_cache_that_it_always_had(make):
    recipe = make("data.sources=[{share: 1.0, num_frames: 9}]")
    assert isinstance(DiffusionTask(recipe).dataset, LatentCache)


def test_lengths_within_a_latent_frame_are_refused_when_the_recipe_is_read(make):
    with pytest.raises(VidgenError, match="clips of 4 frames end within a latent frame.*give num_frames 1 or 5"):
        make("data.sources=[{}, {num_frames: 4}]")


def test_a_source_without_a_folder_is_left_out_of_a_cache(make):
    with pytest.warns(UserWarning, match=r"data.sources.1 names no folder"):
        task = DiffusionTask(make("data.sources=[{}, {kind: clips}]", "cached_clips=3"))
    assert len(task.dataset.rows) == 3
