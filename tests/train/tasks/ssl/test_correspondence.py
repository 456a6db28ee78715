"""Terms of what belongs together: streams mine for each other, squares are walked through, heads see segments alone."""

import math

import pytest
import torch
import torch.nn.functional as F

from vidgen.errors import VidgenError
from vidgen.train.config.files import load_recipe
from vidgen.train.objectives.contrastive import info_nce
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.ssl.cycles import cut_nodes
from vidgen.train.tasks.ssl.segments import PickHead
from vidgen.train.tasks.ssl.task import SSLTask
from vidgen.train.tasks.ssl.term import ClipBatch, cut_segments, embed_each
from vidgen.train.views.clips import draw_view, frame_differences
from vidgen.train.views.segment_pretexts import SEGMENT_PRETEXTS

TINY = [
    "steps=3", "batch_size=4", "log_every=1", "validate_every=3", "checkpoint_every=1", "data.validation_clips=4",
    "data.num_frames=16", "data.size=[16,16]", "autocast=float32", "probe_clips=8",
    "encoder={patch: [2, 4, 4], width: 32, depth: 1, head_dim: 16}",
]  # fmt: skip
PLAIN = "{crop: 1.0, colour: 0.0, gray: 0.0}"
HEADS = "projector: {hidden: 32, channels: 16}"
STREAMS = f"kind: co_training, queue: 8, positives: 2, mine_after: 2, teacher: {{decay: 0.9}}, {HEADS}"
PLAIN_STREAMS = f"{STREAMS}, views: [{PLAIN}, {PLAIN}]"


@pytest.fixture
def make(tmp_path):
    """Return a task of a tiny encoder with one term."""

    def load(term: str, *more: str, run: str = "run") -> SSLTask:
        return SSLTask(load_recipe("ssl", [*TINY, f"out={tmp_path / run}", f"terms={{it: {{{term}}}}}", *more]))

    return load


def clips(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


LEARNED = {  # the loss that a batch learned by heart is below, where chance has the logarithm of the answers
    f"kind: cycle, {HEADS}, view: {PLAIN}": 0.5 * math.log(4),
    "kind: walk, dropout: 0.0": 0.5 * math.log(9),
    f"kind: joint, agreement: wasserstein, {HEADS}, views: [{PLAIN}, {PLAIN}]": -0.8,  # 0 by chance
    **{f"kind: segments, pretext: {name}": 0.5 * math.log(max(4, x.answers)) for name, x in SEGMENT_PRETEXTS.items()},
}


@pytest.mark.parametrize("term", LEARNED)
def test_a_batch_is_learned_by_heart(make, learn, term):
    patch = "[2,4,4]" if "walk" in term else "[2,8,8]"
    *_, parts = learn(
        make(term, f"encoder.patch={patch}"),
        {"video": clips(), "captions": [], "labels": []},
        steps=60,
        lr=3e-3,
        seed=0,
    )
    assert parts["total"] < LEARNED[term]


def test_differences_are_of_neighbours():
    video = torch.arange(5.0).square()[:, None, None].expand(1, 3, -1, 2, 2)
    assert frame_differences(video)[0, 0, :, 0, 0].tolist() == [0.5, 0.5, 1.5, 2.5, 3.5]


def test_before_it_mines_a_stream_is_told_from_its_queue(make):
    task = make(PLAIN_STREAMS)
    term = task.terms["it"].eval()
    video = clips()
    loss, parts = term.loss(task.encoder, ClipBatch(video), torch.Generator().manual_seed(0))
    view = draw_view(term.views[0], video, torch.Generator())  # plain views are the clip
    assert torch.equal(view, video) and parts["positives"] == 1.0
    losses = []
    for name, x, encoder in (("pixels", video, task.encoder), ("differences", frame_differences(video), term.second)):
        z = term.projectors[name](embed_each(encoder, x))  # the teacher is the student still
        losses.append(info_nce(z, z, negatives=term.queues[name])[0])
    assert loss.item() == pytest.approx(sum(losses).item() / 2, rel=1e-5)


def test_neighbours_in_one_stream_are_positives_in_the_other(make):
    term = make(PLAIN_STREAMS).terms["it"]
    keys = F.normalize(torch.eye(4, 16), dim=1)
    queue = -torch.ones(8, 16)
    queue[5], queue[1], queue[2] = keys[0], keys[0] + 0.1, keys[3]
    term.steps = 2
    positives = term.positives(keys, queue)
    assert torch.equal(positives[:, :4], torch.eye(4, dtype=torch.bool))
    assert positives[0, 4:].nonzero().flatten().tolist() == [1, 5]
    assert positives[3, 4 + 2] and positives.sum(1).tolist() == [3] * 4
    term.steps = 1
    assert term.positives(keys, queue).sum() == 4


@pytest.mark.slow
def test_queues_and_steps_survive_a_cut_bit_for_bit(make):
    whole = make(STREAMS, "steps=4", run="whole")
    Trainer(whole, whole.recipe).fit()
    first = make(STREAMS, "steps=4", run="cut")
    losses = iter([first.loss, first.loss])
    first.loss = lambda *args: next(losses)(*args)
    with pytest.raises(StopIteration):
        Trainer(first, first.recipe).fit()
    again = make(STREAMS, "steps=4", run="cut")
    Trainer(again, again.recipe).fit()
    ours, theirs = again.terms["it"], whole.terms["it"]
    assert ours.steps == theirs.steps == 4
    assert all(torch.equal(ours.queues[name], theirs.queues[name]) for name in ("pixels", "differences"))
    for name, teacher in ours.frozen.items():
        other = theirs.frozen[name].state_dict()
        assert all(torch.equal(x, other[key]) for key, x in teacher.state_dict().items())


def test_nodes_are_squares_of_their_own_pixels(make):
    video = clips(2)
    nodes = cut_nodes(cut_segments(video, 2), (8, 8))
    assert nodes.shape == (2, 8, 9, 3, 2, 8, 8)
    assert torch.equal(nodes[1, 3, 5], video[1, :, 6:8, 4:12, 8:16])  # the middle row, the last column
    task = make("kind: walk, temperature: 0.001, dropout: 0.0")
    still = video[:, :, :2].repeat(1, 1, 8, 1, 1)
    loss, parts = task.terms["it"].loss(task.encoder, ClipBatch(still), torch.Generator())
    assert parts["accuracy"] == 1.0 and loss < 1e-2


def test_who_is_odd_does_not_depend_on_where_it_stands():
    torch.manual_seed(0)
    head = PickHead(6, SEGMENT_PRETEXTS["odd_one_out"])
    z, order = torch.randn(3, 4, 6), torch.tensor([2, 0, 3, 1])
    assert torch.allclose(head(z)[:, order], head(z[:, order]), atol=1e-6)


@pytest.mark.parametrize(
    ("term", "more", "words"),
    [
        ("kind: cycle, frames: 3", [], "no multiple of patches of 2"),
        ("kind: cycle, view: {frames: 2}", [], "less than two segments of 2"),
        ("kind: cycle", ["batch_size=1"], "set batch_size to 2 or more"),
        ("kind: walk, node: 4", [], "lower node"),
        ("kind: walk", ["data.num_frames=2"], "no later segment of 2"),
        ("kind: co_training, queue: 6, positives: 1", [], "no whole number of batches of 4"),
        ("kind: co_training, queue: 8, positives: 9", [], "more than the queue=8 has"),
        ("kind: co_training, queue: 8, mine_after: 1", [], "full of clips after 2 steps"),
        ("kind: co_training, queue: 8, views: [{}]", [], "compares two"),
        ("kind: segments, pretext: stars", [], "pretext"),
        ("kind: segments, pretext: cubic_puzzle", ["data.size=[8,12]"], "no multiple of the encoder's patches"),
        ("kind: segments, pretext: missing_section", ["batch_size=1"], "set batch_size to 2 or more"),
        ("kind: joint, agreement: wasserstein, teacher: {decay: 0.9}", [], "has no teacher"),
    ],
)
def test_what_cannot_belong_together_is_refused(make, term, more, words):
    with pytest.raises(VidgenError, match=words):
        make(term, *more)
