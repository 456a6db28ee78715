"""Task known_entropy: the loss is -log p, validation knows the floor, and what is a bound is refused."""

import math

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.generators.known_entropy import KnownEntropyTask

SMALL = [
    "steps=2", "batch_size=4", "log_every=1", "validate_every=2", "checkpoint_every=1", "autocast=float32",
    "data.validation_clips=6", "optimizer={kind: adamw, lr: 0.003, warmup: 0, ema_decay: 0}",
    "model={width: 32, depth: 1, head_dim: 16}",
]  # fmt: skip


@pytest.fixture
def make(tmp_path):
    sizes = "world_settings={frames: 2, side: 5, sprite: 2}"

    def load(*more):
        own = [] if any(word.startswith("world_settings") for word in more) else [sizes]
        return load_recipe("known_entropy", [*SMALL, *own, f"out={tmp_path / 'run'}", *more])

    return load


def test_a_prior_that_knows_nothing_takes_a_bit_a_token_and_the_floor_is_the_worlds(make):
    task = KnownEntropyTask(make())
    torch.nn.init.zeros_(task.model.head.weight), torch.nn.init.zeros_(task.model.head.bias)
    metrics = task.validate()
    assert metrics["nats_per_frame"] == pytest.approx(25 * math.log(2), rel=1e-5)
    floor = math.log(len(task.world.sprites) * 25 * 4)
    assert metrics["floor_per_frame"] == pytest.approx(floor / 2)
    assert metrics["excess"] == pytest.approx(50 * math.log(2) / floor - 1, rel=1e-5)
    assert metrics["excess_error"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("order", ["causal", "random"])
def test_a_run_ends_with_a_prior(make, order):
    recipe = make(f"model.order={order}", "world=coin")
    task = KnownEntropyTask(recipe)
    prior = TokenPrior.from_pretrained(Trainer(task, recipe).fit())
    assert prior.config.codebook_sizes == (2,) and prior.config.order == order


def test_only_frames_after_the_context_count(make):
    task = KnownEntropyTask(make("world=pictures", "world_settings={frames: 4, context: 3}"))
    batch = task.gather([task.dataset[(0, slot)] for slot in range(2)])
    seen = batch["tokens"].clone().requires_grad_(False)
    loss, _ = task.loss(batch, torch.Generator().manual_seed(0))
    logits = task.model(seen, task.world.grid)
    want = torch.nn.functional.cross_entropy(logits[:, 3 * 144 :].flatten(0, 1), seen[:, 3 * 144 :].flatten())
    assert loss.item() == pytest.approx(want.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.order=masked"], "its nats are a bound; give causal or random"),
        (["model.classes=3"], "model.classes is not for this task"),
        (["world=maze"], "world"),
        (["world_settings={speed: 2}"], "world_settings"),
    ],
)
def test_what_cannot_be_is_one_line(make, words, message):
    with pytest.raises(VidgenError, match=message):
        KnownEntropyTask(make(*words))
