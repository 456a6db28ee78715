"""Pictures of objects in other clips: the checker sees the same one elsewhere; captions beside them leave it out."""

import re

import numpy as np
import pytest

from vidgen.data.shapes import COLOURS, SHAPES, SIZES, ShapeWorld, ShapeWorldConfig, classify, describe, portray
from vidgen.data.shapes.portraits import NAMES, describe_unnamed

CONFIG = ShapeWorldConfig(split="held_out")
LABELS = [ShapeWorld(CONFIG).sample_labels(i) for i in range(40)]


def test_a_portrait_shows_the_same_object_elsewhere():
    moved, right = [], 0
    for i, labels in enumerate(LABELS):
        picture = portray(labels, np.random.default_rng(i), CONFIG)
        asked, seen = labels.objects[0], classify(picture.video)
        assert picture.video.shape == (1, 64, 64, 3) and [thing.colour for thing in seen] == [asked.colour]
        right += seen[0].shape == asked.shape
        shown = picture.labels.objects[0]
        assert shown.radius[0] / 64 == pytest.approx(SIZES[asked.size], rel=0.05)
        moved.append(np.linalg.norm(shown.position[0] - asked.position[0]))
        assert picture.labels.background != labels.background
    assert right >= len(LABELS) - 2  # one frame of a small object that is turned can be taken for another
    assert np.mean(moved) > 8 and len({round(m, 3) for m in moved}) == len(moved)
    again = portray(LABELS[0], np.random.default_rng(0), CONFIG).video
    assert np.array_equal(again, portray(LABELS[0], np.random.default_rng(0), CONFIG).video)


def test_objects_of_a_pair_stand_apart():
    pairs = [ShapeWorld(ShapeWorldConfig(max_objects=2)).sample_labels(i) for i in range(30)]
    for i, labels in enumerate(pair for pair in pairs if len(pair.objects) == 2):
        seen = {thing.colour for thing in classify(portray(labels, np.random.default_rng(i), CONFIG).video)}
        assert seen == {thing.colour for thing in labels.objects}


def test_what_is_left_unsaid():
    rng = np.random.default_rng(0)
    for labels in LABELS:
        thing = labels.objects[0]
        short = describe(labels)
        named = re.match(rf"an? {thing.colour} {thing.shape} ", short)
        assert describe_unnamed(labels) == f"something {short[named.end() :]}"
        said = set(re.findall(r"[a-z]+", describe_unnamed(labels, rng)))
        left = said & {*COLOURS, *SHAPES, *SIZES}
        assert left <= ({"circle"} if thing.motion == "circle" else set())
    drawn = {describe_unnamed(LABELS[0], rng) for _ in range(60)}
    assert all(any(name in text for text in drawn) for name in NAMES)
    assert not any(re.search(r"\ban? (something|a )|  ", text) for text in drawn)


def test_the_words_left_are_those_of_the_same_wording():
    for seed, labels in enumerate(LABELS):
        whole, beside = (f(labels, np.random.default_rng(seed)) for f in (describe, describe_unnamed))
        motion = whole.partition(labels.objects[0].shape)[2] if labels.objects[0].motion != "circle" else ""
        assert beside.endswith(motion)
