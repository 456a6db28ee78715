"""Mixers: the parallel scan is the recurrence step by step, and convolutions see their neighbourhood alone."""

import pytest
import torch

from vidgen.models.encoders.mixers import KERNEL, LocalBlock, ScanBlock, SelectiveScan, scan


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("length", [1, 2, 7, 64, 100])
def test_the_scan_is_the_recurrence(length):
    decay, inputs = draw(2, length, 3).sigmoid(), draw(2, length, 3, seed=1)
    state, expected = torch.zeros(2, 3, dtype=torch.float64), []
    for t in range(length):
        state = decay[:, t] * state + inputs[:, t]
        expected.append(state)
    assert torch.allclose(scan(decay, inputs), torch.stack(expected, 1), atol=1e-12)


def test_decays_that_vanish_do_not_overflow():
    decay, inputs = torch.full((1, 200, 1), 1e-12), torch.ones(1, 200, 1)
    states = scan(decay, inputs)
    assert states.isfinite().all() and states[:, -1].item() == pytest.approx(1.0)


def test_the_selective_scan_is_its_equations():
    torch.manual_seed(0)
    layer = SelectiveScan(16).double()
    x = draw(2, 9, 16)
    decay, inputs, outward = layer.terms(x)
    state, rows = torch.zeros(2, 16, 8, dtype=torch.float64), []
    for t in range(9):
        state = decay[:, t] * state + inputs[:, t]
        rows.append((state * outward[:, t, None]).sum(-1) + layer.skip * x[:, t])
    assert torch.allclose(layer(x), torch.stack(rows, 1), atol=1e-9)
    assert (decay > 0).all() and (decay < 1).all()
    changed = x.clone()
    changed[:, 5:] = 0.0
    assert torch.allclose(layer(changed)[:, :5], layer(x)[:, :5], atol=1e-9)  # it is causal


def test_a_scan_block_sees_both_ways():
    torch.manual_seed(0)
    block, x = ScanBlock(16).double(), draw(1, 6, 16)
    changed = x.clone()
    changed[:, 5] = draw(1, 16, seed=3)
    assert not torch.allclose(block(changed)[:, 0], block(x)[:, 0], atol=1e-6)


def test_a_local_block_sees_its_neighbourhood_alone():
    torch.manual_seed(0)
    grid = (5, 11, 11)
    block, x = LocalBlock(8, 2).double(), draw(1, 605, 8)
    changed = x.clone()
    changed[:, 0] += 1.0
    moved = (block(changed, grid) - block(x, grid)).abs().amax((0, 2)).reshape(grid) > 1e-12
    reach = [1 + k // 2 for k in KERNEL]  # and what the positional convolution adds
    assert moved[0, 0, 0] and moved[: reach[0] + 1, : reach[1] + 1, : reach[2] + 1].sum() == moved.sum()
