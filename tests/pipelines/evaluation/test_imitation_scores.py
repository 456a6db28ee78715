"""Imitation scores: a perfect imitator has all, one that is blind to what is shown has the motion of another clip as
often."""

from types import SimpleNamespace

import numpy as np

from vidgen.data.shapes import ShapeWorldConfig
from vidgen.data.shapes.imitations import ImitationWorld
from vidgen.pipelines.evaluation.imitation_scores import score_imitation
from vidgen.pipelines.priors.schedule import PriorSchedule

SCHEDULE = PriorSchedule(num_frames=33)
WORLD = ImitationWorld(ShapeWorldConfig(num_frames=33, split="held_out"))


class Imitator:
    """Knows the world's clips by what they begin with; without `sees` it goes by the caption alone."""

    scheduler = SCHEDULE

    def __init__(self, n: int, sees: bool) -> None:
        self.clips = [WORLD[index].video for index in range(2 * n)]
        self.captions = [WORLD.sample_prompt(index)[0] for index in range(n)]
        self.sees = sees

    def __call__(self, caption, video, generator):
        by_caption = self.clips[self.captions.index(caption)]
        shown = next(clip for clip in self.clips if np.array_equal(clip[: len(video)], video))
        return SimpleNamespace(frames=[shown if self.sees else by_caption])


def test_a_perfect_imitator_and_a_blind_one():
    n, done = 6, []
    seeing = score_imitation(Imitator(n, sees=True), n, progress=done.append)
    assert (seeing["all"], seeing["motion"]) == (1.0, 1.0) and done == list(range(1, n + 1))
    truths = [WORLD.sample_pair(index).imitation.objects[0].motion for index in range(2 * n)]
    same = sum(a == b for a, b in zip(truths[:n], truths[n:], strict=True)) / n
    assert seeing["motion_otherwise"] == same < 1.0
    assert seeing["ci"]["all"][1] >= 0.999
    blind = score_imitation(Imitator(n, sees=False), n)
    assert blind["motion_otherwise"] == blind["motion"] == 1.0  # a score without demonstrations is no imitation
