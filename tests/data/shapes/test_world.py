"""The shape world: clips are what their labels and captions say."""

import collections
import dataclasses
import json

import numpy as np
import pytest

from vidgen.data.shapes import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    SHAPES,
    ClipLabels,
    ShapeWorld,
    ShapeWorldConfig,
    describe,
    render,
)
from vidgen.data.shapes.labels import DIRECTIONS
from vidgen.data.shapes.outlines import (
    CROSS_HALF,
    CROSS_LENGTH,
    REACH,
    RING_INNER,
    RING_OUTER,
    SQUARE_HALF,
    STAR_INNER,
    STAR_OUTER,
    TRIANGLE_OUTER,
    coverage,
    extents,
)

AREAS = {
    "circle": np.pi,
    "square": (2 * SQUARE_HALF) ** 2,
    "triangle": 3**1.5 / 4 * TRIANGLE_OUTER**2,
    "star": 5 * STAR_OUTER * STAR_INNER * np.sin(np.pi / 5),
    "cross": 8 * CROSS_LENGTH * CROSS_HALF - 4 * CROSS_HALF**2,
    "ring": np.pi * (RING_OUTER**2 - RING_INNER**2),
}


@pytest.fixture(scope="module")
def pairs():
    """Labels and captions of many clips of up to two objects."""
    world = ShapeWorld(ShapeWorldConfig(max_objects=2))
    return [world.sample_prompt(index) for index in range(300)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_coverage_adds_up_to_the_closed_form_area_and_stays_within_its_extents(shape, angle):
    radius, centre = 20.0, np.array([31.3, 32.8])
    y, x = np.mgrid[0:64, 0:64] + 0.5
    share = coverage(shape, x - centre[0], y - centre[1], radius, angle)
    assert share.sum() == pytest.approx(AREAS[shape] * radius**2, rel=0.01)
    low, high = extents(shape, np.array([radius]), np.array([angle]))
    inside = np.argwhere(share > 0.5)[:, ::-1] + 0.5
    assert np.all(inside >= centre - low[0] - 1e-9) and np.all(inside <= centre + high[0] + 1e-9)
    # One pixel in, it is reached: the extents are tight.
    assert np.all(inside.min(0) <= centre - low[0] + 2.5) and np.all(inside.max(0) >= centre + high[0] - 2.5)


def test_a_clip_is_a_function_of_seed_split_and_index():
    world, again = ShapeWorld(), ShapeWorld()
    later = again[7].video
    assert np.array_equal(later, world[7].video) and world[7].caption == again[7].caption
    assert world[7].video.dtype == np.uint8 and world[7].video.shape == (17, 64, 64, 3)
    others = [ShapeWorld(ShapeWorldConfig(seed=1)), ShapeWorld(ShapeWorldConfig(split="held_out"))]
    tracks = {str(w.sample_labels(i).objects[0].position.tolist()) for w in [world, *others] for i in range(50)}
    assert len(tracks) == 150
    assert world[10**12].video.shape == (17, 64, 64, 3)
    with pytest.raises(IndexError, match="-1"):
        world[-1]


def test_prompt_labels_and_render_agree_with_the_clip():
    world = ShapeWorld(ShapeWorldConfig(max_objects=2))
    clip = world[3]
    caption, labels = world.sample_prompt(3)
    assert caption == clip.caption and labels.to_dict() == clip.labels.to_dict()
    assert np.array_equal(render(labels, world.config), clip.video)


def test_labels_survive_json(pairs):
    for _, labels in pairs[:20]:
        data = json.loads(json.dumps(labels.to_dict()))
        back = ClipLabels.from_dict(data)
        assert back.to_dict() == data == labels.to_dict()
        assert np.array_equal(render(back, ShapeWorldConfig()), render(labels, ShapeWorldConfig()))


@pytest.mark.parametrize(("height", "width", "num_frames"), [(64, 64, 17), (48, 96, 9), (32, 32, 1), (20, 16, 4)])
def test_objects_stay_inside_and_apart_at_every_size(height, width, num_frames):
    world = ShapeWorld(ShapeWorldConfig(height=height, width=width, num_frames=num_frames, max_objects=2))
    for index in range(40):
        labels = world.sample_labels(index)
        assert world[index].video.shape == (num_frames, height, width, 3)
        for thing in labels.objects:
            low, high = extents(thing.shape, thing.radius, thing.angle)
            assert np.all(thing.position - low >= 0) and np.all(thing.position + high <= [width, height])
        if len(labels.objects) == 2:
            a, b = labels.objects
            distance = np.linalg.norm(a.position - b.position, axis=-1)
            assert a.colour != b.colour
            assert np.all(distance > REACH[a.shape] * a.radius + REACH[b.shape] * b.radius)


def test_motions_do_what_their_names_say(pairs):
    seen = set()
    for _, labels in pairs:
        for thing in labels.objects:
            seen.add(thing.motion)
            net, growth = thing.position[-1] - thing.position[0], thing.radius[-1] / thing.radius[0]
            active = np.linalg.norm(thing.velocity, axis=-1)[thing.start : thing.stop - 1]
            if thing.motion in DIRECTIONS:
                unit = np.array(DIRECTIONS[thing.motion])
                assert 0.3 * 64 - 1e-9 <= net @ unit <= 0.5 * 64
                assert np.allclose(net, (net @ unit) * unit) and np.allclose(active, active[0])
            elif thing.motion == "circle":
                assert np.allclose(net, 0) and np.allclose(active, active[0])
            elif thing.motion == "bounce":
                axis = 0 if thing.wall in ("left", "right") else 1
                steps = np.sign(np.diff(thing.position[thing.start : thing.stop, axis]))
                assert np.all(thing.position[:, 1 - axis] == thing.position[0, 1 - axis])
                assert steps[0] == (1 if thing.wall in ("right", "bottom") else -1) == -steps[-1]
            else:
                assert np.all(thing.velocity == 0)
            assert (growth > 1.8) == (thing.motion == "grow") and (growth < 0.6) == (thing.motion == "shrink")
            assert (abs(np.ptp(thing.angle)) > 1.9) == (thing.motion == "rotate")
            assert thing.motion != "rotate" or thing.shape not in ("circle", "ring")
    assert seen == set(MOTIONS)


def test_ordered_clips_act_one_after_the_other(pairs):
    ordered = [(caption, labels) for caption, labels in pairs if labels.ordered]
    assert len(ordered) > 20
    for caption, labels in ordered:
        first, second = labels.objects
        assert first.stop - 1 == second.start == 8
        assert np.all(second.velocity[:8] == 0) and np.all(first.velocity[8:] == 0)
        assert any(word in caption for word in ("then", "after"))
        assert caption.index(first.colour) < caption.index(second.colour)
        frames = [event.frame for event in labels.events]
        assert frames == sorted(frames) and labels.events[0].object == 0


def test_words_are_balanced_and_the_short_wording_is_the_most_frequent():
    world = ShapeWorld()
    prompts = [world.sample_prompt(index) for index in range(1500)]
    things = [labels.objects[0] for _, labels in prompts]
    for field, words in (("colour", COLOURS), ("motion", MOTIONS)):
        counts = collections.Counter(getattr(thing, field) for thing in things)
        assert set(counts) == set(words)
        assert all(0.6 < counts[word] * len(words) / 1500 < 1.4 for word in words)
    assert set(thing.shape for thing in things) == set(SHAPES)
    short = np.mean([caption == describe(labels, 0) for caption, labels in prompts])
    assert 0.27 < short < 0.4
    sized = np.mean([any(size in caption for size in ("small", "medium", "large")) for caption, _ in prompts])
    assert 0.35 < sized < 0.6
    assert {labels.background.kind for _, labels in prompts} == set(BACKGROUNDS)


def test_captions_are_true_and_well_formed(pairs):
    for caption, labels in pairs:
        for wording in [caption, *(describe(labels, number) for number in range(40))]:
            assert wording == wording.lower() and "  " not in wording and "@" not in wording and "{" not in wording
            assert " a orange" not in f" {wording}" and all(f"an {c}" not in wording for c in COLOURS if c != "orange")
            for thing in labels.objects:
                assert f"{thing.colour} {thing.shape}" in wording
            moving_sizes = [thing.size for thing in labels.objects if thing.motion not in ("grow", "shrink")]
            assert all(word in moving_sizes for word in ("small", "medium", "large") if word in wording.split())
            if "background" in wording:
                assert labels.background.tone in wording
                assert labels.background.kind in wording


def test_the_plainest_wording():
    labels = ShapeWorld().sample_labels(0)
    thing = dataclasses.replace(labels.objects[0], shape="circle", colour="red", motion="right")
    assert describe(dataclasses.replace(labels, objects=(thing,)), 0) == "a red circle moves right"
    still = ShapeWorld(ShapeWorldConfig(num_frames=1)).sample_labels(0)
    assert "move" not in describe(still, 0) and "still" not in describe(still, 0)


@pytest.mark.parametrize(
    "wrong",
    [{"height": 8}, {"num_frames": 0}, {"max_objects": 3}, {"split": "test"}, {"backgrounds": ("sea",)}, {"seed": -1}],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ShapeWorldConfig(**wrong)
