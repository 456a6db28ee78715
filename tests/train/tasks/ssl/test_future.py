"""Future terms: nothing of what is predicted is seen, and what can be told is told."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.train.config.files import load_recipe
from vidgen.train.objectives.predictive import cpc
from vidgen.train.tasks.ssl.task import SSLTask
from vidgen.train.tasks.ssl.term import ClipBatch

TINY = [
    "batch_size=4", "data.validation_clips=4", "data.num_frames=8", "data.size=[16,16]", "autocast=float32",
    "encoder={patch: [2, 8, 8], width: 32, depth: 1, head_dim: 16}",
]  # fmt: skip


def make(kind: str, *more: str) -> SSLTask:
    return SSLTask(load_recipe("ssl", [*TINY, f"terms={{future: {kind}}}", *more]))


def clips() -> torch.Tensor:
    return torch.rand(4, 3, 8, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_prediction_sees_no_later_segment():
    task = make("{kind: future, ahead: 2}")
    term, video = task.terms["future"], clips()
    changed = video.clone()
    changed[:, :, 4:] = 0.0
    predictions = []
    for x in (video, changed):
        segments = x.reshape(4, 3, 4, 2, 16, 16).transpose(1, 2)
        z = term.head.project(task.encoder(segments.flatten(0, 1)).mean(1).reshape(4, 4, -1))
        predictions.append(term.head.predict(z))
    assert torch.equal(*predictions) and predictions[0].shape == (4, 2, 64)
    loss, _ = term.loss(task.encoder, ClipBatch(video), torch.Generator())
    segments = video.reshape(4, 3, 4, 2, 16, 16).transpose(1, 2)
    z = term.head.project(task.encoder(segments.flatten(0, 1)).mean(1).reshape(4, 4, -1))
    assert loss.item() == pytest.approx(cpc(predictions[0], z[:, 2:])[0].item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["{kind: future, predictor: contrastive}", "{kind: future, predictor: bidirectional}",
                                  "{kind: future, predictor: composite}", "{kind: stochastic}"])  # fmt: skip
def test_a_batch_is_learned_by_heart(learn, kind):
    task, video = make(kind), clips()
    rows = learn(task, {"video": video, "captions": [], "labels": []}, steps=80, lr=3e-3, seed=0)
    assert rows[-1]["total"] < 0.6 * rows[0]["total"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("{kind: future, ahead: 4}", "has 4 segments of 2; 5 or more are needed"),
        ("{kind: future, predictor: bidirectional, ahead: 2}", "5 or more are needed"),
        ("{kind: future, frames: 3}", "no multiple of patches of 2"),
        ("{kind: future, predictor: stars}", "predictor"),
    ],
)
def test_what_cannot_be_foreseen_is_refused(kind, words):
    with pytest.raises(VidgenError, match=words):
        make(kind)
    with pytest.raises(VidgenError, match="has no later segment"):
        make("{kind: stochastic}", "data.num_frames=2")
