"""Labels of a clip: none matters to a fresh model, each to a trained one, and only those asked for are taken."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from vidgen.models.dit.label_embedding import LabelConditioning
from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig

PLAIN = VideoDiTConfig(latent_channels=4, width=32, depth=2, head_dim=16, text_width=0)
LABELLED = replace(PLAIN, classes=3, tasks=2, frame_rate=True, frame_size=True)
X, T = torch.randn(2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0.3, 0.8])


def labels(**changed: torch.Tensor) -> LabelConditioning:
    values = {
        "class_id": torch.tensor([0, 3]),  # the second has none
        "task_id": torch.tensor([1, 0]),
        "frame_rate": torch.tensor([8.0, 24.0]),
        "frame_size": torch.tensor([[64.0, 64.0], [480.0, 832.0]]),
    }
    return LabelConditioning(**{**values, **changed})


@pytest.fixture
def model() -> VideoDiT:
    torch.manual_seed(0)
    made = VideoDiT(LABELLED)
    for name, value in made.named_parameters():
        if not value.any() and not name.startswith("labels_in"):
            nn.init.normal_(value, std=0.1)
    return made


def test_a_model_that_is_given_labels_starts_where_it_was(model):
    before = VideoDiT(PLAIN)
    before.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("labels_in")})
    assert torch.equal(model(X, T, labels=labels()), before(X, T))


def test_every_label_has_a_say_in_its_own_clip_and_learns(model):
    for value in model.labels_in.parameters():
        nn.init.normal_(value, std=0.5)
    out = model(X, T, labels=labels())
    for name, value in vars(labels()).items():
        other = value.clone()
        other[1] = 1 if name.endswith("id") else other[1] / 2
        moved = (model(X, T, labels=labels(**{name: other})) - out).abs().amax(dim=(1, 2, 3, 4))
        assert moved[0] < 1e-5 and moved[1] > 1e-3, name
    levels = T[:, None].expand(2, 3)
    assert torch.allclose(model(X, levels, labels=labels()), out, atol=1e-5)
    out.square().sum().backward()
    assert all(value.grad.any() for value in model.labels_in.parameters())
    rows = model.labels_in.class_id.weight.grad.any(dim=1)
    assert rows.tolist() == [True, False, False, True]


def test_labels_are_given_where_the_config_has_them_and_there_are_so_many(model):
    assert LABELLED.labels == ("class_id", "task_id", "frame_rate", "frame_size") and PLAIN.labels == ()
    with pytest.raises(ValueError, match="takes the labels .*; it was given \\[\\]$"):
        model(X, T)
    with pytest.raises(ValueError, match="it was given .'class_id', 'frame_rate', 'frame_size'.$"):
        model(X, T, labels=labels(task_id=None))
    with pytest.raises(ValueError, match=r"takes the labels \[\]; it was given \['task_id'\]"):
        VideoDiT(PLAIN)(X, T, labels=LabelConditioning(task_id=torch.tensor([0, 0])))
    for name, wrong, last in (("class_id", 4, 3), ("task_id", 2, 1), ("task_id", -1, 1)):
        with pytest.raises(ValueError, match=rf"{name} \[0, {wrong}\] is not from 0 to {last}"):
            model(X, T, labels=labels(**{name: torch.tensor([0, wrong])}))
