"""A model's hash: of what it is, not of how the code that describes it grew."""

from dataclasses import dataclass, field, make_dataclass

import pytest
import torch
from torch import nn

from vidgen.checkpoints.config_fields import renamed_field
from vidgen.checkpoints.hashing import model_hash


@dataclass(frozen=True)
class Config:
    width: int
    kind: str = "plain"


def make_model(config: object) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    model.config = config
    return model


def test_a_new_field_at_its_default_keeps_the_hash():
    grown = make_dataclass("Grown", [("levels", tuple, field(default=()))], bases=(Config,), frozen=True)
    before = model_hash(make_model(Config(3)))
    assert model_hash(make_model(grown(3))) == before
    assert model_hash(make_model(grown(3, levels=(8,)))) != before


@pytest.mark.parametrize("other", [Config(4), Config(3, "full"), None])
def test_another_config_is_another_hash(other):
    assert model_hash(make_model(other)) != model_hash(make_model(Config(3)))


def test_former_names_and_values_keep_the_hash():
    # nested ones too: what was {"kind": "x0", "inner": {"kind": "eps"}} is hashed as it was
    values = {"x0": "sample", "eps": "epsilon"}
    renamed = [("prediction_type", str, renamed_field("kind", former_values=values, default="sample"))]
    inner = make_dataclass("Inner", renamed, frozen=True)
    outer = make_dataclass("Outer", [("inner", inner, field(default_factory=inner)), *renamed], frozen=True)
    before = make_dataclass("Before", [("inner", dict, None), ("kind", str, "x0")], frozen=True)
    for former, now in values.items():
        hashed = model_hash(make_model(outer(inner(now), now)))
        assert hashed == model_hash(make_model(before({"kind": former}, former)))
