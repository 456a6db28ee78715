from itertools import product

import numpy as np
import pytest

from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig, describe
from vidgen.data.shapes.captions import (
    IMAGE_TEMPLATES,
    ORDERED_TEMPLATES,
    PAIR_TEMPLATES,
    PARTICIPLES,
    SENTENCES,
    TEMPLATES,
    VERBS,
    describe_background,
    finish,
)
from vidgen.data.shapes.labels import MOTIONS, BackgroundLabels, ClipLabels, ObjectLabels
from vidgen.data.shapes.truth import Requirements, is_true, list_phrases, parse_caption, truth_matrix
from vidgen.errors import VidgenError


def make_object(shape: str, colour: str, size: str, motion: str, wall: str = "", frames: int = 2) -> ObjectLabels:
    still = np.zeros((frames, 2))
    radius = np.ones(frames)
    words = {"shape": shape, "colour": colour, "size": size, "motion": motion, "wall": wall}
    return ObjectLabels(**words, start=0, stop=frames, position=still, velocity=still, radius=radius, angle=radius)


def draw_labels(rng: np.random.Generator, frames: int = 2) -> ClipLabels:
    """Labels of so few words that one clip's captions are often true of another."""
    objects = []
    for colour in rng.permutation(["red", "blue"])[: rng.integers(1, 3)]:
        motion = str(rng.choice(["up", "up-right", "bounce", "grow", "still"])) if frames > 1 else "still"
        wall = str(rng.choice(["left", "top"])) if motion == "bounce" else ""
        objects.append(make_object("square", str(colour), str(rng.choice(["small", "large"])), motion, wall, frames))
    background = BackgroundLabels(
        kind=str(rng.choice(["plain", "texture"])), tone=str(rng.choice(["dark", "grey"])), seed=0
    )
    return ClipLabels(objects=tuple(objects), background=background, ordered=len(objects) == 2 and rng.random() < 0.5)


def word_sentences(thing: ObjectLabels, templates: tuple, background: str) -> set[str]:
    size = "" if thing.motion in ("grow", "shrink") else thing.size
    words = {"colour": thing.colour, "shape": thing.shape, "size": size, "background": background}
    verbs = VERBS[thing.motion]
    texts = set()
    for (_, template), verb, participle in product(templates, verbs, PARTICIPLES[thing.motion]):
        text = template.format(**words, short=verbs[0], verb=verb, participle=participle)
        texts.add(text.replace("{wall}", thing.wall))
    return texts


def word_all(labels: ClipLabels) -> set[str]:
    """All that `describe` may ever say, of the objects of an unordered clip in either order."""
    background = describe_background(labels.background)
    one_frame = labels.num_frames == 1
    if len(labels.objects) == 1:
        templates = IMAGE_TEMPLATES if one_frame else TEMPLATES
        return {finish(text) for text in word_sentences(labels.objects[0], templates, background)}
    inner = IMAGE_TEMPLATES if one_frame else SENTENCES
    outer = PAIR_TEMPLATES[1:2] if one_frame else ORDERED_TEMPLATES if labels.ordered else PAIR_TEMPLATES
    texts = set()
    parts = [word_sentences(thing, inner, background) for thing in labels.objects]
    for pair in [parts] if labels.ordered and not one_frame else [parts, parts[::-1]]:
        for (_, frame), first, second in product(outer, *pair):
            texts.add(finish(frame.format(first, second, background=background)))
    return texts


def test_every_wording_is_true_of_its_own_clip() -> None:
    world = ShapeWorld(ShapeWorldConfig(max_objects=2, num_frames=12))
    for index in range(60):
        labels = world.sample_labels(index)
        captions = sorted(word_all(labels)) + [describe(labels, wording) for wording in range(150)]
        assert truth_matrix(captions, [labels]).all(), index


@pytest.mark.parametrize("frames", [1, 2])
def test_captions_are_true_of_the_clips_that_can_be_described_so(frames: int) -> None:
    rng = np.random.default_rng(frames)
    labels = [draw_labels(rng, frames) for _ in range(80)]
    captions = [describe(each, rng) for each in labels]
    wordings = [word_all(each) for each in labels]
    expected = np.array([[caption in words for words in wordings] for caption in captions])
    assert np.array_equal(truth_matrix(captions, labels), expected)
    assert expected.diagonal().all() and 1.5 * len(labels) < expected.sum() < expected.size / 2


def test_no_phrase_has_two_meanings() -> None:
    phrases = list_phrases()
    assert {motion for motion, _ in phrases.values()} == set(VERBS) >= set(MOTIONS)
    counts = [len({p.format(wall=w) for p in (*VERBS[m], *PARTICIPLES[m]) for w in "abcd"}) for m in VERBS]
    assert len(phrases) == sum(counts)


def test_parts_of_a_caption() -> None:
    pair = parse_caption("After a small red circle hits the left wall and bounces back, an orange ring goes up-left")
    first, second = pair.objects
    assert pair.ordered and (first.size, first.motion, first.wall) == ("small", "bounce", "left")
    assert (second.colour, second.shape, second.size, second.motion) == ("orange", "ring", "", "up-left")
    still = parse_caption("small cyan star, not moving, light gradient background")
    assert (still.tone, still.kind, still.ordered) == ("light", "gradient", False)
    assert parse_caption("a blue cross and a red ring on a plain dark background").kind == "plain"


def test_what_is_unsaid_may_be_anything() -> None:
    background = BackgroundLabels(kind="texture", tone="light", seed=0)
    up = ClipLabels(objects=(make_object("star", "red", "large", "up"),), background=background)
    growing = ClipLabels(objects=(make_object("star", "red", "small", "grow"),), background=background)
    assert is_true("a red star moves up", up) and not is_true("a red star moves up and right", up)
    assert is_true("a video of a red star", up) and is_true("the red star on a light background", growing)
    assert not is_true("a red star on a plain light background", up)
    assert is_true("a red star grows", growing) and not is_true("a small red star grows", growing)
    assert not is_true("a red star moves up while a blue ring rests", up)


def test_other_words_are_refused() -> None:
    for caption in ("", "a crimson disk slides", "a red circle moves right moves left", "first a red circle grows"):
        with pytest.raises(VidgenError, match="no caption of the shape world"):
            parse_caption(caption)
    with pytest.raises(VidgenError, match="two backgrounds"):
        parse_caption("a red star on a dark background and a blue star on a light background")
    star = parse_caption("a red star").objects[0]
    with pytest.raises(VidgenError, match="'mauve' is no word"):
        truth_matrix([Requirements(objects=(star,), tone="mauve")], [])
    assert truth_matrix([], []).shape == (0, 0)
