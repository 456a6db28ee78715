"""Terms at several layers: the last one alone is a joint term, several are the mean of each, none reaches behind."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.train.config.files import load_recipe
from vidgen.train.tasks.ssl.task import SSLTask

SMALL = ["batch_size=4", "data.validation_clips=4", "data.num_frames=8", "data.size=[16,16]", "autocast=float32"]
ENCODERS = {
    "vit": "encoder={patch: [2, 8, 8], width: 32, depth: 2, head_dim: 16}",
    "resnet": "encoder={kind: resnet, width: 32, depth: 3}",
}
VIEWS = "views: [{frames: 4}, {frames: 4, max_stride: 2}], projector: {hidden: 16, channels: 8}"
QUEUE = "agreement: info_nce, queue: 8, negatives: [{frames: 4, order: shuffled}]"


def make(term: str, encoder: str = "vit") -> SSLTask:
    task = SSLTask(load_recipe("ssl", [*SMALL, ENCODERS[encoder], f"terms={{it: {{{term}, {VIEWS}}}}}"]))
    task.model.train()
    return task


def loss_of(task: SSLTask, step: int = 0) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """The loss of a batch, and the gradients of the encoder's parameters but for the norm after the last block."""
    batch = task.gather([task.dataset[(step, slot)] for slot in range(4)])
    loss, _ = task.loss(batch, torch.Generator().manual_seed(step))
    parameters = [p for name, p in task.encoder.named_parameters() if not name.startswith("norm_out")]
    return loss, list(torch.autograd.grad(loss, parameters, allow_unused=True))


@pytest.mark.parametrize(("encoder", "last"), [("vit", "blocks.1"), ("resnet", "blocks.2")])
@pytest.mark.parametrize("agreement", [QUEUE, "agreement: vicreg", "agreement: swav, prototypes: 5"])
def test_the_last_layer_alone_is_a_joint_term(encoder, last, agreement):
    one = make(f"kind: hierarchical, layers: [{last}], {agreement}", encoder)
    other = make(f"kind: joint, {agreement}", encoder)
    for step in range(2):  # the second one with what the queue took in
        (ours, grads), (theirs, their_grads) = loss_of(one, step), loss_of(other, step)
        assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(grads, their_grads, strict=True))
    kept = other.terms["it"].state_dict_of_term()
    for name, value in one.terms["it"].state_dict_of_term().items():
        assert torch.allclose(value, kept[name.removeprefix(f"{last}:")], atol=1e-6)


def test_several_layers_are_the_mean_of_each():
    both = make(f"kind: hierarchical, layers: [blocks.0, blocks.1], {QUEUE}")
    total, _ = loss_of(both)
    losses = []
    for i in range(2):
        one = make(f"kind: hierarchical, layers: [blocks.{i}], {QUEUE}")
        one.encoder.load_state_dict(both.encoder.state_dict())
        one.terms["it"].levels[0].load_state_dict(both.terms["it"].levels[i].state_dict())
        start = make(f"kind: hierarchical, layers: [blocks.0, blocks.1], {QUEUE}")  # queues as they were at first
        one.terms["it"].levels[0].queue = start.terms["it"].levels[i].queue
        losses.append(loss_of(one)[0].item())
    assert losses[0] != losses[1]
    assert total.item() == pytest.approx(sum(losses) / 2, rel=1e-6)


def test_an_early_layer_does_not_train_those_after_it():
    task = make("kind: hierarchical, layers: [blocks.0], agreement: vicreg")
    batch = task.gather([task.dataset[(0, slot)] for slot in range(4)])
    task.loss(batch, torch.Generator().manual_seed(0))[0].backward()
    names = {name for name, p in task.encoder.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(name.startswith("blocks.0.") for name in names)
    assert not any(name.startswith(("blocks.1.", "norm_out")) for name in names)


def test_queues_of_all_layers_are_kept():
    first, second = (make(f"kind: hierarchical, layers: [blocks.0, blocks.1], {QUEUE}") for _ in range(2))
    loss_of(first)
    second.load_state_dict(first.state_dict())
    for ours, theirs in zip(first.terms["it"].levels, second.terms["it"].levels, strict=True):
        assert torch.equal(ours.queue, theirs.queue)
    assert not torch.equal(first.terms["it"].levels[0].queue, first.terms["it"].levels[1].queue)


@pytest.mark.parametrize(
    ("term", "words"),
    [
        ("layers: [blocks.7], agreement: vicreg", "layer 'blocks.7' is not one of the encoder's: blocks.0, blocks.1"),
        ("layers: [], agreement: vicreg", "give one or more, as"),
        ("layers: [blocks.0, blocks.0], agreement: vicreg", "each once"),
        ("layers: [blocks.0], agreement: info_nce, teacher: {decay: 0.9}", "layers have no teacher"),
        ("layers: [blocks.0], agreement: barlow, settings: {heat: 1}", "are not ones of barlow"),
    ],
)
def test_what_layers_cannot_have_is_refused(term, words):
    with pytest.raises(VidgenError, match=words):
        make(f"kind: hierarchical, {term}")
