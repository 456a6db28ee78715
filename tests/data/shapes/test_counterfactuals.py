"""Pairs of clips and captions: true of their own, false of the other, alike in words or frames where it is said."""

import re
from collections import Counter

import numpy as np
import pytest

from vidgen.data.shapes import ShapeWorldConfig, classify
from vidgen.data.shapes.outlines import extents
from vidgen.data.shapes.scenes import COUNTERFACTUALS, CounterfactualWorld
from vidgen.data.shapes.truth import truth_matrix

CONFIG = ShapeWorldConfig(height=64, width=64, num_frames=17, split="held_out")


def bag_of_words(caption):
    return Counter(re.sub(r"\ban\b", "a", caption).replace(",", " ").split())


def bag_of_frames(video):
    return Counter(frame.tobytes() for frame in video)


@pytest.mark.parametrize("kind", COUNTERFACTUALS)
def test_captions_are_true_of_their_own_clip_only(kind):
    world = CounterfactualWorld(kind, CONFIG)
    for index in range(12):
        captions, labels = world.sample_prompts(index)
        assert np.array_equal(truth_matrix(captions, labels), np.eye(2, dtype=bool)), captions
        same_words = bag_of_words(captions[0]) == bag_of_words(captions[1])
        assert same_words == COUNTERFACTUALS[kind].same_words, captions
        assert labels[0].background == labels[1].background


@pytest.mark.parametrize("kind", COUNTERFACTUALS)
def test_frames_are_the_same_in_another_order_where_the_kind_says_so(kind):
    world = CounterfactualWorld(kind, CONFIG)
    for index in range(3):
        first, second = world[index].videos
        assert first.shape == (17, 64, 64, 3) and not np.array_equal(first, second)
        assert (bag_of_frames(first) == bag_of_frames(second)) == COUNTERFACTUALS[kind].same_frames
        if COUNTERFACTUALS[kind].same_frames:
            assert np.array_equal(first, second[::-1])


@pytest.mark.parametrize("kind", ["direction", "growth", "agent", "binding", "reversal", "count"])
def test_clips_show_what_captions_say(kind):
    """The checker reads colours, shapes and motions from the pixels alone."""
    world = CounterfactualWorld(kind, CONFIG)
    right = []
    for index in range(4):
        pair = world[index]
        for video, labels in zip(pair.videos, pair.labels, strict=True):
            shown = {tuple(sighting) for sighting in classify(video)}
            right.append(shown == {(thing.colour, thing.shape, thing.motion) for thing in labels.objects})
    assert np.mean(right) > 0.9


@pytest.mark.parametrize("kind", COUNTERFACTUALS)
def test_a_pair_is_a_function_of_seed_split_and_index_and_stays_inside(kind):
    config = ShapeWorldConfig(height=48, width=80, num_frames=12)
    world = CounterfactualWorld(kind, config)
    captions = world.sample_prompts(3)[0]
    assert captions == CounterfactualWorld(kind, config).sample_prompts(3)[0]
    held_out = CounterfactualWorld(kind, ShapeWorldConfig(height=48, width=80, num_frames=12, split="held_out"))
    assert any(world.sample_prompts(i)[0] != held_out.sample_prompts(i)[0] for i in range(3))
    for index in range(5):
        for labels in world.sample_prompts(index)[1]:
            for thing in labels.objects:
                low, high = extents(thing.shape, thing.radius, thing.angle)
                assert np.all(thing.position >= low) and np.all(thing.position + high <= (80, 48))


def test_what_differs_is_one_thing():
    for index in range(10):
        captions, (one, other) = CounterfactualWorld("binding", CONFIG).sample_prompts(index)
        for a, b in zip(one.objects, other.objects, strict=True):
            assert (a.shape, a.motion) == (b.shape, b.motion) and np.array_equal(a.position, b.position)
        _, (one, other) = CounterfactualWorld("agent", CONFIG).sample_prompts(index)
        assert [thing.colour for thing in one.objects] == [thing.colour for thing in other.objects]
        assert np.array_equal(one.objects[0].position, other.objects[1].position)
        _, (one, two) = CounterfactualWorld("count", CONFIG).sample_prompts(index)
        assert (len(one.objects), len(two.objects)) == (1, 2)


def test_bad_kinds_and_lengths_are_refused():
    with pytest.raises(ValueError, match="'weather' is unknown; choose one of order"):
        CounterfactualWorld("weather")
    with pytest.raises(ValueError, match="needs 12 frames, got 5"):
        CounterfactualWorld("order", ShapeWorldConfig(num_frames=5))
    with pytest.raises(IndexError, match="-1"):
        CounterfactualWorld("count")[-1]
