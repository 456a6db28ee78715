"""Groups left out one by one: all of a few clips are reported on, each by a probe that saw none of its group."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from vidgen.errors import VidgenError
from vidgen.representations.probes.selection import Probe, ProbeScore, choose_and_score, score_predictions
from vidgen.representations.probes.task import ProbeTask


def all_clips(task: ProbeTask) -> ProbeTask:
    """Return the task with every clip of its splits to be reported on. Raises VidgenError for fewer than 3 groups: what
    is left could not be chosen on."""
    others = [] if task.validation is None else [task.validation]
    rows = np.sort(np.concatenate([task.train, task.test, *others]))
    if len(groups := set(task.groups[rows])) < 3:
        raise VidgenError(f"leaving groups out needs 3 of them, and these clips have {len(groups)}; see column `group`")
    return replace(task, train=rows, validation=None, test=rows, has_split=False)


def leave_group_out(probe: Probe, X: Float[np.ndarray, "n *axes c"], task: ProbeTask, *, seed: int = 0) -> ProbeScore:
    """Return the score of all clips of a task of `all_clips`: those of each group are told by a probe that is fitted,
    its settings chosen by cross-validation, on the other groups. `validation` is the mean of those choices' scores."""
    predictions = np.empty_like(task.y) if task.target_type != "class" else np.empty(len(task.y), dtype=object)
    validations = []
    for group in dict.fromkeys(task.groups[task.test]):
        is_out = task.groups[task.test] == group
        fold = replace(task, train=task.test[~is_out], test=task.test[is_out])
        score = choose_and_score(probe, X, fold, seed=seed)
        predictions[fold.test] = score.predictions
        validations.append(score.validation)
    mean = float(np.mean(validations))
    return score_predictions(task, predictions[task.test], choice=None, validation=mean, seed=seed)
