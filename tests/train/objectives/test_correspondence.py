"""Walks over time: what is the same comes back to itself, what is alike is mistaken by the logarithm of how many."""

import math

import pytest
import torch
import torch.nn.functional as F

from vidgen.errors import VidgenError
from vidgen.train.objectives.correspondence import palindrome_walk, transition


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_same_frames_are_walked_through_on_the_spot():
    frames = draw(2, 1, 6, 16).expand(-1, 4, -1, -1)
    losses = [palindrome_walk(frames, temperature=t)[0].item() for t in (0.3, 0.1, 0.03, 0.01)]
    assert losses == sorted(losses, reverse=True) and 0.0 <= losses[-1] < 1e-6
    step = transition(frames[:, 0], frames[:, 1], temperature=0.01)
    assert torch.allclose(step, torch.eye(6).expand(2, -1, -1), atol=1e-6)


def test_places_that_move_about_are_followed():
    first = draw(1, 6, 16)
    orders = [torch.randperm(6, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    loss, parts = palindrome_walk(torch.stack([first, *(first[:, order] for order in orders)], dim=1), temperature=0.01)
    assert loss.item() < 1e-6 and parts["accuracy"] == 1.0


def test_places_that_are_alike_are_mistaken_for_each_other():
    assert palindrome_walk(draw(1, 3, 5, 8), temperature=1e6)[0].item() == pytest.approx(math.log(5), rel=1e-5)
    twins = draw(1, 1, 4, 64)[:, :, [0, 0, 1, 2]].expand(-1, 3, -1, -1)
    assert palindrome_walk(twins, temperature=0.01)[0].item() == pytest.approx(math.log(2) / 2, rel=1e-5)


def test_a_walk_is_a_product_of_steps():
    nodes = draw(1, 3, 4, 5)
    a, b, c = F.normalize(nodes[0], dim=-1)

    def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (x @ y.T / 0.2).softmax(1)

    short, long = step(a, b) @ step(b, a), step(a, b) @ step(b, c) @ step(c, b) @ step(b, a)
    expected = -(short.diagonal().log().mean() + long.diagonal().log().mean()) / 2
    loss, parts = palindrome_walk(nodes, temperature=0.2)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert parts["accuracy"] == (long.argmax(1) == torch.arange(4)).float().mean()


def test_edges_are_left_out_but_never_all_of_a_node():
    x, y = draw(2, 6, 8), draw(2, 7, 8, seed=1)
    whole = transition(x, y)
    for share in (0.3, 0.98):
        step = transition(x, y, dropout=share, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(step.sum(-1), torch.ones(2, 6)) and bool((step == 0).any())
        left = step > 0
        kept = torch.where(left, whole, 0.0)
        assert torch.allclose(step, kept / kept.sum(-1, keepdim=True), atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 1, 4, 8), (2, 3, 1, 8)])
def test_a_walk_needs_somewhere_to_go(shape):
    with pytest.raises(VidgenError, match="needs two or more of each"):
        palindrome_walk(draw(*shape))
