"""The adversarial game: when it starts, what it weighs, that its discriminators learn, that it goes on from a state."""

import copy
import math

import pytest
import torch
from torch import nn

from vidgen.train.config import AdversarialConfig, OptimizerConfig
from vidgen.train.losses.adversarial import Adversary, Plateau
from vidgen.train.runtime.divergence import TrainingDiverged
from vidgen.train.runtime.roles import RunningRole, only_trained
from vidgen.train.tasks.task import Role


class Game:
    """An adversary as the loop trains it, one `step` at a time."""

    def __init__(self, **settings) -> None:
        values = {"weight": 0.5, "kinds": ["2d", "3d"], "width": 8, "depth": 2, "start_step": 0, "ramp": 1, **settings}
        self.adversary = Adversary(AdversarialConfig(**values), seed=0, device="cpu", precision="float32")
        optimizer = self.adversary.optimizer_config(OptimizerConfig(lr=1e-3, grad_clip=1.0))
        loss = self.adversary.discriminator_loss
        self.role = RunningRole("discriminator", Role(module=self.adversary, loss=loss, optimizer=optimizer), 100)

    def step(self, real, fake, reconstruction, step) -> dict[str, float]:
        self.adversary.begin_step(step)
        return self.role.update(lambda: self.adversary.discriminator_loss(real, fake, reconstruction), 1e-3)


REAL, FAKE = torch.full((2, 3, 5, 16, 16), 0.5), torch.full((2, 3, 5, 16, 16), -0.5)


def test_a_loss_has_settled_when_a_block_gains_little_on_the_one_before():
    plateau = Plateau(steps=2, gain=0.1)
    said = [plateau.update(value) for value in (8.0, 8.0, 4.0, 4.0, 3.0, 4.2, 3.4, 3.4)]
    # means 8, 4 (half as much), 3.6 (exactly a tenth less settles), 3.4 (less than a tenth)
    assert said == [False, False, False, False, False, True, False, True]


def test_a_plateau_goes_on_from_its_state():
    one, two = Plateau(3, 0.1), Plateau(3, 0.1)
    for value in (5.0, 4.0, 3.0, 3.9):
        one.update(value)
    two.load_state_dict(one.state_dict())
    assert [one.update(4.0), one.update(4.0)] == [two.update(4.0), two.update(4.0)] == [False, True]


def test_the_game_starts_at_its_step():
    game = Game(start_step=3)
    ages = []
    for step in range(5):
        game.step(REAL, FAKE, 1.0, step)
        ages.append(game.adversary.age)
    assert ages == [0, 0, 0, 1, 2]  # step 3 is the first that it trains in


def test_the_game_starts_when_reconstruction_has_settled():
    game = Game(start_step=-1, settle_steps=2, settle_gain=0.1)
    loss = torch.ones((), requires_grad=True)
    started = []
    for step, value in enumerate((2.0, 2.0, 1.0, 1.0, 1.0, 1.0)):
        started.append(game.adversary.started)
        assert game.adversary.started or game.adversary.generator_loss(FAKE, loss, [])[0].item() == 0.0
        game.step(REAL, FAKE, value, step)
    assert started == [False] * 6 and game.adversary.started and game.adversary.age == 0


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Conv3d(3, 3, 1)


@pytest.mark.parametrize("age", [0, 4, 30])
def test_the_weight_brings_gradients_to_a_ramped_share_of_the_reconstructions(age):
    game, decoder = Game(ramp=10), Decoder()
    game.adversary.age = age
    layer = [decoder.out.weight]
    decoded = decoder.out(REAL)
    reconstruction = (decoded - REAL).abs().mean()
    added, metrics = game.adversary.generator_loss(decoded, reconstruction, layer)
    (wanted,) = torch.autograd.grad(reconstruction, layer, retain_graph=True)
    (found,) = torch.autograd.grad(added, layer)
    share = 0.5 * min(1.0, (age + 1) / 10)
    assert (found.norm() / wanted.norm()).item() == pytest.approx(share, rel=1e-3)
    assert metrics["g_weight"] * metrics["gradient_ratio"] == pytest.approx(share, rel=1e-3)


def test_the_generator_does_not_train_its_judges():
    game, decoder = Game(adaptive=False), Decoder()
    generator = RunningRole("model", Role(module=decoder, loss=lambda *_: None, optimizer=OptimizerConfig()), 100)
    with only_trained(generator, [generator, game.role]):
        decoded = decoder.out(REAL)
        added, metrics = game.adversary.generator_loss(decoded, decoded.abs().mean(), [decoder.out.weight])
    added.backward()
    assert decoder.out.weight.grad.any() and all(p.grad is None for p in game.role.parameters)
    assert metrics["g_weight"] == 0.5


def test_discriminators_learn_to_tell_and_say_how_it_goes():
    game = Game(lecam=0.01, r1=0.01, r1_every=4)
    first = game.step(REAL, FAKE, 1.0, 0)
    for step in range(1, 30):
        last = game.step(REAL, FAKE, 1.0, step)
    assert first["d_loss"] > 0.7 and last["d_loss"] < 0.3 and last["logit_real"] > last["logit_fake"]
    assert "r1" in first and "r1" not in last and last["lecam"] > 0  # R1 is there at every fourth step


def test_a_game_goes_on_from_its_state():
    one, two = Game(lecam=0.1), Game(lecam=0.1)
    for step in range(3):
        one.step(REAL, FAKE, 1.0, step)
    for theirs, ours in ((one.adversary, two.adversary), (one.role.optimizer, two.role.optimizer)):
        ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    two.adversary.load_progress(copy.deepcopy(one.adversary.progress()))
    for game in (one, two):
        game.step(REAL, FAKE, 1.0, 3)
    states = (game.adversary.discriminators.state_dict().values() for game in (one, two))
    pairs = zip(*states, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert torch.equal(one.adversary.anchors["2d"].real, two.adversary.anchors["2d"].real)
    assert one.adversary.age == two.adversary.age == 4


def test_what_is_not_finite_derails_and_changes_nothing():
    game = Game()
    before = [p.detach().clone() for p in game.role.parameters]
    with pytest.raises(TrainingDiverged, match="discriminator loss nan"):
        game.step(REAL * math.nan, FAKE, 1.0, 0)
    assert all(torch.equal(a, b) for a, b in zip(before, game.role.parameters, strict=True))
