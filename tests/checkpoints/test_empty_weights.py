"""Models made without weights: none of them takes memory or is initialised, and tables are there."""

import torch
from torch import nn

from vidgen.checkpoints.empty_weights import init_empty_weights


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.names = nn.Embedding(5, 3)
        nn.init.normal_(self.layer.weight, std=0.1)
        nn.init.zeros_(tensor=self.layer.bias)
        self.register_buffer("table", torch.arange(4).float().cos(), persistent=False)


def test_weights_take_no_memory_and_tables_are_there():
    with init_empty_weights():
        model = Small()
    assert all(parameter.is_meta for parameter in model.parameters())
    assert torch.equal(model.table, torch.arange(4).float().cos())
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == {
        "layer.weight": (2, 3), "layer.bias": (2,), "names.weight": (5, 3),
    }  # fmt: skip


def test_random_numbers_are_left_as_they_were():
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    with init_empty_weights():
        Small()
    assert torch.equal(torch.rand(3), wanted)


def test_outside_of_it_weights_are_drawn():
    with init_empty_weights():
        pass
    assert Small().layer.weight.std() > 0 and not Small().layer.bias.any()
