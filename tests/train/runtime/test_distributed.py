"""Two processes make the steps of one: gradients, codebooks, judgements and files. On the CPU, over gloo."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.tokenizers.bottlenecks.vector_quantizer import Codebook
from vidgen.train.config import AdversarialConfig, GuardConfig, LoopConfig, OptimizerConfig
from vidgen.train.losses.adversarial import Adversary
from vidgen.train.runtime import distributed
from vidgen.train.runtime.loop import Trainer
from vidgen.train.runtime.roles import RunningRole
from vidgen.train.tasks.task import Role, Task

pytestmark = pytest.mark.slow
WIDTH, BATCH = 6, 4


class Points:
    """Item (step, slot) is a point that depends on nothing else."""

    def __getitem__(self, key: tuple[int, int]) -> torch.Tensor:
        return torch.randn(WIDTH, generator=sample_generator(0, str(key)), dtype=torch.float64)


class Mirror(Task):
    """Learns the identity in float64. `spoil(step, point)` may multiply the loss of a point of a step."""

    def __init__(self, spoil: Callable[[int, torch.Tensor], float] = lambda step, point: 1.0) -> None:
        torch.manual_seed(0)
        self.model = nn.ModuleDict({"used": nn.Linear(WIDTH, WIDTH), "never": nn.Linear(WIDTH, 1)}).double()
        self.dataset, self.gather, self.spoil, self.calls = Points(), torch.stack, spoil, 0

    def loss(self, batch, generator):
        self.calls += 1
        factors = torch.tensor([self.spoil(self.calls, point) for point in batch], dtype=torch.float64)
        loss = ((self.model["used"](batch) - batch).square().mean(dim=1) * factors).mean()
        return loss, {"reconstruction": loss.item(), "drawn": torch.rand((), generator=generator).item()}

    def validate(self):
        return {"calls": float(self.calls)}

    def export(self, folder):
        folder.mkdir()


def config_of(out: Path) -> LoopConfig:
    optimizer = OptimizerConfig(lr=0.05, warmup=1, ema_decay=0.9, grad_clip=0.1)
    each = {"log_every": 1, "validate_every": 4, "checkpoint_every": 2, "autocast": "float32"}
    return LoopConfig(
        task="mirror", out=str(out), steps=8, batch_size=BATCH, optimizer=optimizer, guard=GuardConfig(), **each
    )


def rows(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def spoil_one_point(step: int, point: torch.Tensor) -> float:
    """NaN for the last slot of step 5, which the second process has."""
    return math.nan if step == 6 and torch.equal(point, Points()[(5, BATCH - 1)]) else 1.0


def fit(out: Path) -> list:
    trainer = Trainer(Mirror(spoil_one_point), config_of(out))
    trainer.fit()
    ema = [p.tolist() for p in trainer.main.ema.shadow_params]
    return [[p.tolist() for p in trainer.main.parameters], ema, trainer.monitor.rollbacks, trainer.monitor.history[-1]]


def test_two_processes_train_as_one_go_back_as_one_and_write_once(in_two: Callable[..., list], tmp_path: Path) -> None:
    alone = fit(tmp_path / "alone")
    first, second = in_two(fit, tmp_path / "two")
    assert first == second  # to the bit
    for ours, theirs in zip(first[0] + first[1], alone[0] + alone[1], strict=True):
        assert torch.allclose(torch.tensor(ours), torch.tensor(theirs), rtol=0, atol=1e-12)
    assert first[2] == alone[2] == 1 and first[3] == pytest.approx(alone[3], abs=1e-12)
    one, two = rows(tmp_path / "alone"), rows(tmp_path / "two")
    assert [(row["step"], row.get("event"), *sorted(row)) for row in one] == [
        (row["step"], row.get("event"), *sorted(row)) for row in two
    ]
    for a, b in zip(one, two, strict=True):
        assert "loss" not in a or a["loss"] == pytest.approx(b["loss"], abs=1e-12)
        assert "drawn" not in a or a["drawn"] != b["drawn"]  # each process has noise of its own
    found = [{str(p.relative_to(tmp_path / out)) for p in (tmp_path / out).rglob("*")} for out in ("alone", "two")]
    assert found[0] == found[1]


def learn(parts: int) -> list:
    """A codebook after six batches of which this process sees its share; every code but a few is soon dead."""
    torch.manual_seed(0)
    codebook = Codebook(8, 3).double()
    for step in range(6):
        x = torch.randn(24, 3, generator=sample_generator(1, str(step)), dtype=torch.float64)
        codebook.counts[step % 8] = 0.0
        part = x.chunk(parts)[distributed.rank()]
        codebook(part, True, sample_generator(0, f"{distributed.rank()}") if parts > 1 else None)
    return [value.tolist() for value in codebook.state_dict().values()]


def test_a_codebook_learns_of_the_vectors_of_all_processes(in_two: Callable[..., list]) -> None:
    first, second = in_two(learn, 2)
    assert first == second
    for ours, alone in zip(first, learn(1), strict=True):
        assert torch.allclose(torch.tensor(ours).double(), torch.tensor(alone).double(), rtol=0, atol=1e-12)


def play(parts: int) -> list:
    """Discriminators and anchors after three steps of the game, of which the first looks whether it starts."""
    config = AdversarialConfig(weight=0.1, width=4, depth=2, lecam=0.1, settle_steps=1, settle_gain=0.5)
    game = Adversary(config, seed=0, device="cpu", precision="float32")
    game.discriminators.double()
    optimizer = game.optimizer_config(OptimizerConfig(lr=1e-3, grad_clip=1.0))
    role = RunningRole("discriminator", Role(module=game, loss=game.discriminator_loss, optimizer=optimizer), 4)
    for step in range(4):
        clips = torch.rand(2, 2, 3, 5, 16, 16, generator=sample_generator(2, str(step)), dtype=torch.float64) * 2 - 1
        real, fake = (x.chunk(parts)[distributed.rank()] for x in clips)
        game.begin_step(step)
        role.update(lambda real=real, fake=fake: game.discriminator_loss(real, fake, 1.0 + distributed.rank()), 1e-3)
    state = [*game.discriminators.state_dict().values(), *game.anchors.state_dict().values()]
    return [game.age, *(value.tolist() for value in state)]


def test_discriminators_play_the_same_game_everywhere(in_two: Callable[..., list]) -> None:
    first, second = in_two(play, 2)
    alone = play(1)
    assert first == second and first[0] == alone[0] > 0
    for ours, theirs in zip(first[1:], alone[1:], strict=True):
        assert torch.allclose(torch.tensor(ours), torch.tensor(theirs), atol=1e-5)


def refuse() -> list:
    with pytest.raises(VidgenError, match="batch_size=3 cannot be shared by 2 processes"):
        distributed.ShardedDataset(Points(), 3)
    flags = distributed.any_of(distributed.rank() == 1, False)
    return [flags, distributed.all_reduce_mean({"b": 1.0 + distributed.rank(), "a": math.inf})["b"]]


def test_processes_agree(in_two: Callable[..., list], monkeypatch: pytest.MonkeyPatch) -> None:
    assert in_two(refuse) == [[[True, False], 1.5]] * 2
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(VidgenError, match="device=cuda:1 is one for all processes; give device=cuda"):
        distributed.init_distributed("cuda:1").__enter__()
