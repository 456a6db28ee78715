"""Scores of counterfactual pairs: chance of random scores, an oracle that knows all, and one that knows colours."""

import numpy as np
import pytest
import torch

from vidgen.data.frames import to_tensor
from vidgen.data.shapes.labels import ShapeWorldConfig
from vidgen.data.shapes.scenes import COUNTERFACTUALS, CounterfactualWorld
from vidgen.data.shapes.truth import is_true
from vidgen.errors import VidgenError
from vidgen.models.text_video.embedding import Embedding
from vidgen.representations.language.counterfactuals import (
    CHANCE,
    FRAME_TWINS,
    WORD_TWINS,
    judge_pairs,
    score_counterfactuals,
    sort_words,
)

CONFIG = ShapeWorldConfig(height=32, width=32, num_frames=12, split="held_out")


class Oracle:
    """Knows the clips of a world by heart, and what is true of them; anything else scores zero."""

    num_frames = CONFIG.num_frames
    device = torch.device("cpu")
    logit_scale = torch.tensor(1.0)

    def __init__(self, kind, n):
        pairs = [CounterfactualWorld(kind, CONFIG)[i] for i in range(n)]
        self.clips = {to_tensor(v).numpy().tobytes(): i for i, v in enumerate(v for p in pairs for v in p.videos)}
        self.labels = [labels for pair in pairs for labels in pair.labels]

    def embed_videos(self, video):
        places = [self.clips.get(clip.numpy().tobytes()) for clip in video]
        rows = [[float(i == place) for i in range(len(self.labels))] for place in places]
        return Embedding(vectors=torch.tensor(rows))

    def embed_texts(self, texts):
        return Embedding(vectors=torch.tensor([[self.holds(text, labels) for labels in self.labels] for text in texts]))

    def holds(self, text, labels):
        try:
            return float(is_true(text, labels))
        except VidgenError:
            return 0.0

    def score(self, texts, videos):
        return texts.vectors @ videos.vectors.T


def test_random_scores_are_at_chance():
    results = judge_pairs(np.random.default_rng(0).normal(size=(100_000, 2, 2)))
    for name, chance in CHANCE.items():
        assert abs(getattr(results, name).mean() - chance) < 0.005
        low, high = results.shares()[name].interval
        assert low < chance < high


def test_hand_worked_pairs():
    #  caption 0 with clips 0 and 1, then caption 1
    scores = np.array(
        [
            [[0.9, 0.1], [0.2, 0.8]],  # all apart
            [[0.9, 0.1], [0.95, 0.97]],  # clip 0 goes better with caption 1, but each caption with its own clip
            [[0.9, 0.95], [0.1, 0.97]],  # the other way round
            [[0.5, 0.5], [0.2, 0.9]],  # a tie of clips
            [[0.5, 0.5], [0.5, 0.5 + 1e-9]],  # rounding is no difference
        ]
    )
    results = judge_pairs(scores)
    assert results.text.tolist() == [True, False, True, True, False]
    assert results.video.tolist() == [True, True, False, False, False]
    assert results.group.tolist() == [True, False, False, False, False]


@pytest.mark.parametrize("kind", ["order", "direction", "binding"])
def test_who_knows_the_truth_gains_over_all_twins(kind):
    scores = score_counterfactuals(Oracle(kind, 5), kind, 5, config=CONFIG, batch_size=2)
    assert [scores.scores[name].mean for name in CHANCE] == [1.0, 1.0, 1.0]
    assert set(scores.twins) == {*FRAME_TWINS, *WORD_TWINS}
    assert all(twin["group"].mean == 0.0 for twin in scores.twins.values())
    assert scores.gain.mean == 1.0 and scores.gain.n == 5


def test_who_knows_colours_alone_tells_counts_as_its_twins_do(color_encoder):
    encoder = color_encoder(num_frames=12, side=32)
    counts = score_counterfactuals(encoder, "count", 8, config=CONFIG)
    assert counts.scores["group"].mean == 1.0
    assert all(twin["group"].mean == 1.0 for twin in counts.twins.values())
    assert counts.gain.mean == 0.0
    for kind in ("direction", "reversal", "agent"):
        assert score_counterfactuals(encoder, kind, 4, config=CONFIG).scores["group"].mean == 0.0


def test_sorted_words_hide_what_the_kind_says():
    rng = np.random.default_rng(0)
    for name, kind in COUNTERFACTUALS.items():
        for index in range(3):
            first, second = (
                sort_words(text, rng) for text in CounterfactualWorld(name, CONFIG).sample_prompts(index)[0]
            )
            assert (first == second) == kind.same_words


def test_progress_counts_pairs(color_encoder):
    counts = []
    score_counterfactuals(color_encoder(12, 32), "reversal", 5, config=CONFIG, batch_size=2, progress=counts.append)
    assert counts == [2, 4, 5]
