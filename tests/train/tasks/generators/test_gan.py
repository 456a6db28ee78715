"""Task gan: each side of the game moves alone and the right way; runs go on bit for bit; a Gaussian is matched."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vidgen.errors import VidgenError
from vidgen.pipelines.gan.pipeline import GANPipeline
from vidgen.train.config.files import load_recipe
from vidgen.train.losses.discriminators import hinge_discriminator, hinge_generator, r1_penalty
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.generators.gan import GANTask

SMALL = [
    "steps=3", "batch_size=2", "log_every=1", "validate_every=3", "checkpoint_every=1", "data.validation_clips=2",
    "data.num_frames=4", "data.size=[16,16]", "autocast=float32", "model={channels: 8, noise_channels: 5}",
    "text_model={width: 16, depth: 1, head_dim: 16}", "adversarial.width=8", "adversarial.depth=2",
]  # fmt: skip


@pytest.fixture
def make(tmp_path):
    """Return a recipe of a tiny generator."""
    return lambda *more: load_recipe("gan", [*SMALL, f"out={tmp_path / 'run'}", *more])


def batch_of(task: GANTask) -> dict:
    return task.gather([task.dataset[(0, slot)] for slot in range(2)])


@pytest.mark.parametrize("text", [True, False])
def test_gradients_reach_one_side_alone(make, text):
    recipe = make("adversarial.kinds=[2d,3d]")
    task = GANTask(recipe if text else replace(recipe, text_model={}))
    batch, generator = batch_of(task), torch.Generator().manual_seed(0)
    task.adversary.requires_grad_(False)
    task.loss(batch, generator)[0].backward()
    assert all(p.grad is not None for p in task.generator.parameters())
    assert all(p.grad is None for p in task.adversary.parameters())
    assert text == (task.text_encoder is not None)
    if text:
        assert task.text_encoder.embed.weight.grad.any()
    task.model.zero_grad()
    task.adversary.requires_grad_(True)
    task.discriminator_loss(batch, generator)[0].backward()
    assert all(p.grad is not None for p in task.adversary.discriminators.parameters())
    assert all(p.grad is None for p in task.model.parameters())


def test_a_turn_of_each_side_lowers_its_own_loss(make):
    task = GANTask(make("adversarial.r1=0", "mask_sparsity=0"))
    batch = batch_of(task)

    def losses() -> tuple[torch.Tensor, torch.Tensor]:
        first, _ = task.loss(batch, torch.Generator().manual_seed(0))
        return first, task.discriminator_loss(batch, torch.Generator())[0]

    sides = {"generator": list(task.model.parameters()), "discriminator": list(task.adversary.parameters())}
    for number, (name, parameters) in enumerate(sides.items()):
        before = losses()
        optimizer = torch.optim.SGD(parameters, lr=1e-3)
        for _ in range(3):
            optimizer.zero_grad()
            losses()[number].backward()
            optimizer.step()
        after = losses()
        assert after[number] < before[number], name
        assert after[1 - number] > before[1 - number], name  # what one gains the other loses


def test_another_clips_caption_makes_a_fake_of_a_real_clip(make):
    task = GANTask(make())
    batch = batch_of(task)
    task.loss(batch, torch.Generator().manual_seed(0))
    real, fake, text = task.last
    loss, metrics = task.discriminator_loss(batch, torch.Generator())
    judge = task.adversary.discriminators["3d"]
    clips, captions = torch.cat([fake, real]), torch.cat([text, text.flip(0)])
    expected = hinge_discriminator(judge(real, text), judge(clips, captions))
    assert metrics["d_loss"] == pytest.approx(expected.item(), rel=1e-5) and loss > expected  # and R1
    assert not torch.allclose(judge(real, text), judge(real, text.flip(0)))


def test_a_run_that_was_cut_goes_on_bit_for_bit_and_ends_with_a_pipeline(make, tmp_path):
    for name, calls in (("whole", 9), ("cut", 1)):
        recipe = make(f"out={tmp_path / name}")
        task = GANTask(recipe)
        losses = iter([task.loss] * calls)
        task.loss = lambda *args, losses=losses: next(losses)(*args)
        try:
            Trainer(task, recipe).fit()
        except StopIteration:
            Trainer(GANTask(recipe), recipe).fit()
    for part in ("generator/diffusion_pytorch_model", "text_encoder/diffusion_pytorch_model", "discriminators"):
        one, other = (load_file(tmp_path / name / "final" / f"{part}.safetensors") for name in ("whole", "cut"))
        assert one and all(torch.equal(value, other[key]) for key, value in one.items())
    assert GANPipeline.from_pretrained(tmp_path / "whole" / "final")("a red circle").frames[0].shape == (4, 16, 16, 3)
    assert set(task.validate()) == {"margin", "mask"}


def test_the_losses_pull_a_generator_to_a_gaussian():
    """x = a z + b from N(0, 1) against N(2, 0.5^2), by the losses and the penalty that the task has."""
    torch.manual_seed(0)
    generator, judge = nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))
    sides = [
        torch.optim.Adam(net.parameters(), lr=rate, betas=(0.0, 0.9))
        for net, rate in ((generator, 5e-3), (judge, 1e-2))
    ]
    stream, tail = torch.Generator().manual_seed(0), []
    for step in range(800):
        real, z = 2.0 + 0.5 * torch.randn(128, 1, generator=stream), torch.randn(128, 1, generator=stream)
        sides[1].zero_grad()
        loss = hinge_discriminator(judge(real), judge(generator(z).detach())) + 0.05 * r1_penalty(judge, real)
        loss.backward()
        sides[1].step()
        sides[0].zero_grad()
        hinge_generator(judge(generator(z))).backward()
        sides[0].step()
        if step >= 600:
            tail.append([abs(generator.weight.item()), generator.bias.item()])
    spread, mean = torch.tensor(tail).mean(0).tolist()
    assert mean == pytest.approx(2.0, abs=0.1) and spread == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.num_frames=8"], "model.num_frames is not for recipes"),
        (["adversarial.start_step=5"], "learns from its discriminators alone"),
        (["adversarial.depth=5"], "halves frames of 16 pixels too often"),
    ],
)
def test_recipes_that_cannot_be(make, overrides, message):
    with pytest.raises(VidgenError, match=message):
        make(*overrides)


def test_sizes_that_do_not_fit(make, tmp_path):
    with pytest.raises(VidgenError, match="must be multiples of 4"):
        GANTask(make("data.num_frames=5"))
    task = GANTask(make())
    task.pipe.save_pretrained(tmp_path / "other")
    with pytest.raises(VidgenError, match="makes clips of num_frames 4, and data has 8"):
        GANTask(make("data.num_frames=8", f"init_from={tmp_path / 'other'}"))
