"""Cluster terms: k-means finds what there is, centres survive, hidden tokens are told from those that are seen."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.ssl.task import SSLTask

TINY = [
    "batch_size=4", "data.validation_clips=4", "data.num_frames=4", "data.size=[16,16]", "autocast=float32",
    "encoder={patch: [2, 8, 8], width: 32, depth: 1, head_dim: 16}", "probe_clips=8", "steps=2", "checkpoint_every=1",
]  # fmt: skip


def make(tmp_path, term: str, *more: str) -> SSLTask:
    return SSLTask(load_recipe("ssl", [*TINY, f"out={tmp_path}", f"terms={{it: {term}}}", *more]))


def test_the_label_of_a_target_is_its_nearest_centre(tmp_path):
    task = make(tmp_path, "{kind: clusters, target: pixels, clusters: 3, fit_clips: 8, mask: {ratio: 0.5}}")
    term = task.terms["it"]
    video = task.gather([task.dataset[(0, i)] for i in range(4)])["video"]
    labels, rows = term.clusters_of(video), term.rows_of(video)
    assert labels.shape == (4, 8) and rows.shape == (4, 8, 384)
    for row, label in zip(rows.flatten(0, 1), labels.flatten(), strict=True):
        assert (term.centers - row).square().sum(1).argmin() == label
    whole = make(tmp_path, "{kind: clusters, target: pixels, clusters: 3, fit_clips: 8, level: clip}").terms["it"]
    assert whole.clusters_of(video).shape == (4, 1)


@pytest.mark.parametrize("term", ["{kind: clusters, target: hog, clusters: 4, fit_clips: 8, mask: {ratio: 0.5}}",
                                  "{kind: clusters, level: clip, clusters: 2, fit_clips: 8}",
                                  "{kind: sinkhorn, prototypes: 4, mask: {ratio: 0.5}}"])  # fmt: skip
def test_a_batch_is_learned_by_heart(tmp_path, learn, term):
    task = make(tmp_path, term)
    video = task.gather([task.dataset[(0, i)] for i in range(4)])["video"]
    rows = learn(task, {"video": video, "captions": [], "labels": []}, steps=80, lr=3e-3, seed=0)
    assert rows[-1]["total"] < 0.6 * rows[0]["total"]


def test_centres_survive_a_cut(tmp_path):
    term = "{kind: clusters, target: pixels, clusters: 3, fit_clips: 8, mask: {ratio: 0.5}}"
    first = make(tmp_path, term)
    losses = iter([first.loss])
    first.loss = lambda *args: next(losses)(*args)
    with pytest.raises(StopIteration):
        Trainer(first, first.recipe).fit()
    again = make(tmp_path, term)
    again.terms["it"].centers += 1.0
    Trainer(again, again.recipe).fit()
    assert torch.equal(again.terms["it"].centers, first.terms["it"].centers)


def test_too_few_targets_are_refused(tmp_path):
    with pytest.raises(VidgenError, match="too few for 64 clusters; raise fit_clips"):
        make(tmp_path, "{kind: clusters, level: clip, fit_clips: 8}")
    with pytest.raises(VidgenError, match="some must be hidden"):
        make(tmp_path, "{kind: sinkhorn, mask: {ratio: 0.01}}")
