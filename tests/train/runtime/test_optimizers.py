"""Muon on hidden matrices: which those are, the step it takes, and its state in a checkpoint."""

import copy

import pytest
import torch
from torch import nn

from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig
from vidgen.train.config import OptimizerConfig
from vidgen.train.runtime.optimizers import MuonAndAdamW, build_optimizer, hidden_matrices

CONFIG = OptimizerConfig(kind="muon", lr=0.01, weight_decay=0.0)


@pytest.fixture
def model() -> nn.ModuleDict:
    torch.manual_seed(0)
    layers = {"embed": nn.Linear(4, 12), "blocks": nn.ModuleList([nn.Linear(12, 6)])}
    return nn.ModuleDict(layers).double()


def some_loss(model: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    return model["blocks"][0](model["embed"](x)).square().sum()


def test_hidden_matrices_are_those_of_the_blocks():
    names = hidden_matrices(VideoDiT(VideoDiTConfig(width=16, head_dim=8, depth=2, text_width=8)))
    assert {"blocks.0.attention.to_q.weight", "blocks.1.mlp.down.weight"} <= names
    assert not [n for n in names if n.startswith(("patch_", "level", "modulation", "pooled_text")) or "table" in n]


def test_a_step_of_muon_is_orthogonal_and_of_adamw_size(model):
    weight, before = model["blocks"][0].weight, model["blocks"][0].weight.detach().clone()
    optimizer = build_optimizer(model, CONFIG)
    some_loss(model, torch.randn(30, 4, dtype=torch.float64)).backward()
    optimizer.step()
    step = (before - weight.detach()) / CONFIG.lr
    sizes = torch.linalg.svdvals(step) / (0.2 * 12**0.5)  # of a 6x12 matrix
    assert (sizes[:5] > 0.6).all() and (sizes < 1.3).all()  # Newton-Schulz is near one; the gradient has rank 5
    _, _, right = torch.linalg.svd(weight.grad)
    assert (step @ right[5:].T).abs().max() < 0.1  # nothing outside of the gradient's rows


def test_state_goes_on(model):
    x = torch.randn(30, 4, dtype=torch.float64)
    other = copy.deepcopy(model)
    one, two = build_optimizer(model, CONFIG), build_optimizer(other, CONFIG)
    for network, optimizer, steps in ((model, one, 2), (other, two, 1)):
        for _ in range(steps):
            optimizer.zero_grad()
            some_loss(network, x).backward()
            optimizer.step()
    resumed = MuonAndAdamW(other, CONFIG)
    resumed.load_state_dict(two.state_dict())
    resumed.zero_grad()
    some_loss(other, x).backward()
    resumed.step()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
