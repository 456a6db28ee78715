"""Groups left out one by one: no probe sees a clip of the group that it tells of."""

from dataclasses import replace

import numpy as np
import pytest

from vidgen.errors import VidgenError
from vidgen.representations.probes.leave_group_out import all_clips, leave_group_out
from vidgen.representations.probes.registry import PROBES
from vidgen.representations.probes.selection import Probe, by_estimator
from vidgen.representations.probes.task import ProbeTask


def make(blobs) -> tuple[np.ndarray, ProbeTask]:
    X, y, _, groups = blobs(spread=0.1)
    ids, rows = [str(i) for i in range(len(X))], np.arange(len(X))
    y, groups = np.array(y, dtype=object), np.array(groups)
    return X, ProbeTask(y=y, ids=ids, groups=groups, train=rows[::2], validation=None, test=rows[1::2])


def test_every_clip_is_told_by_a_probe_of_the_other_groups(blobs):
    X, task = make(blobs)
    whole = all_clips(task)
    seen = []

    def predict(choices, x, y, others, target_type, seed):
        seen.append({tuple(row) for row in x} & {tuple(row) for row in others})
        return [np.array([y[0]] * len(others))] * len(choices)

    score = leave_group_out(Probe(choices=(1,), predict=predict), X, whole)
    assert len(score.predictions) == len(score.counts) == len(X) and not any(seen)
    assert leave_group_out(PROBES["knn"], X, whole).test == 1.0  # blobs are apart


def test_the_score_is_that_of_predictions_made_by_hand(blobs):
    from sklearn.neighbors import NearestCentroid

    X, task = make(blobs)
    x = X + np.random.default_rng(0).normal(size=X.shape) * 5  # so that some are mistaken
    whole = all_clips(task)
    centroid = Probe(choices=(1,), predict=by_estimator(lambda *_: NearestCentroid()))
    score = leave_group_out(centroid, x, whole)
    right = 0
    for group in set(whole.groups):
        out = whole.groups == group
        model = NearestCentroid().fit(x[~out], whole.y[~out].astype(str))
        right += (model.predict(x[out]) == whole.y[out]).sum()
    assert 0.3 < score.test == right / len(x) < 1.0
    assert score.ci[0] < score.test < score.ci[1]


def test_two_groups_are_too_few(blobs):
    _, task = make(blobs)
    with pytest.raises(VidgenError, match="needs 3 of them, and these clips have 2; see column `group`"):
        all_clips(replace(task, groups=np.resize(["a", "b"], len(task.y))))
