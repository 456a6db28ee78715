"""Muon on hidden matrices: which those are, the step it takes, and its state in a checkpoint."""

import copy

import pytest
import torch
from torch import nn

from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig
from vidgen.train.config import OptimizerConfig
from vidgen.train.runtime.optimizers import MuonAndAdamW, WideMuon, build_optimizer, hidden_matrices, orthogonalize

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


@pytest.mark.parametrize("shape", [(6, 12), (12, 6), (5, 5)])
def test_orthogonalizing_is_torchs_in_another_precision(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    options = ((3.4445, -4.775, 2.0315), 5, 1e-7)
    theirs = torch.optim._muon._zeropower_via_newtonschulz(matrix, *options).float()
    ours = orthogonalize(matrix, *options)
    assert torch.allclose(ours, theirs, atol=0.05)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    turned = left.T @ ours @ right.T  # diagonal: only the singular values have changed
    assert torch.allclose(turned, torch.diag(turned.diagonal()), atol=1e-4)
    assert ((torch.linalg.svdvals(ours) - 1).abs() < 0.4).all()


def test_muon_in_float32_steps_as_torchs():
    weight = torch.randn(6, 12, generator=torch.Generator().manual_seed(0))
    gradients = torch.randn(3, 6, 12, generator=torch.Generator().manual_seed(1))
    ends = []
    for kind in (torch.optim.Muon, WideMuon):
        parameter = nn.Parameter(weight.clone())
        optimizer = kind([parameter], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimizer.step()
        ends.append((parameter.detach(), optimizer.state_dict()["state"][0]["momentum_buffer"]))
    assert torch.allclose(ends[0][0], ends[1][0], atol=5e-4) and torch.equal(ends[0][1], ends[1][1])
    assert (ends[0][0] - weight).abs().max() > 0.01
