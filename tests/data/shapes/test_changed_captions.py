"""Changed captions: false of their clip, one thing away from a true one, and in no wording that would tell."""

from collections import Counter

import numpy as np
import pytest

from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig
from vidgen.data.shapes.changed_captions import change_caption
from vidgen.data.shapes.labels import ROUND_SHAPES
from vidgen.data.shapes.truth import is_true, parse_caption

KINDS = ("colour", "shape", "motion")


def words_of(labels) -> list[tuple[str, ...]]:
    return [tuple(getattr(thing, kind) for kind in KINDS) for thing in labels.objects]


@pytest.mark.parametrize("objects", [1, 2])
def test_false_of_the_clip_by_one_thing(objects):
    world, rng = ShapeWorld(ShapeWorldConfig(max_objects=objects)), np.random.default_rng(0)
    changes = Counter()
    for index in range(400):
        labels = world.sample_labels(index)
        caption = change_caption(labels, rng)
        assert not is_true(caption, labels)
        told = parse_caption(caption)
        things = [tuple(getattr(thing, kind) for kind in KINDS) for thing in told.objects]
        assert all(thing.shape not in ROUND_SHAPES for thing in told.objects if thing.motion == "rotate")
        own = words_of(labels)
        differences = sum(
            a != b for one, other in zip(own, things, strict=True) for a, b in zip(one, other, strict=True)
        )
        if differences == 1:
            changes["word"] += 1
        else:  # two objects have exchanged a word, or their places in time: the same words
            assert sorted(sum(own, ())) == sorted(sum(things, ()))
            changes["exchange"] += 1
    assert changes["word"] > 100 and (objects == 1) == (changes["exchange"] == 0)


def test_wordings_are_those_of_true_captions():
    world, rng = ShapeWorld(ShapeWorldConfig()), np.random.default_rng(0)
    own = [world.sample_prompt(index) for index in range(600)]
    changed = [change_caption(labels, rng) for _, labels in own]
    starts = [Counter(text.split()[0] for text in texts) for texts in ([text for text, _ in own], changed)]
    for word in ("a", "there", "the"):
        assert abs(starts[0][word] - starts[1][word]) < 90  # of 600; four standard deviations are 60 to 70
