"""The world of walks: its first frame and its actions are the clip, and pixels show the actions again."""

from dataclasses import replace

import numpy as np
import pytest

from vidgen.data.shapes import ClipLabels, ShapeWorld, ShapeWorldConfig, WalkWorld, render
from vidgen.data.shapes.walks import (
    LARGEST_STEP,
    SWITCH,
    draw_walk,
    redraw_walk,
    track_position,
    walk_actions,
    walk_positions,
)

CONFIG = ShapeWorldConfig(height=64, width=96, num_frames=17, seed=3)


def test_a_clip_is_a_function_of_seed_split_and_index():
    first, again = WalkWorld(CONFIG)[7], WalkWorld(CONFIG)[7]
    assert np.array_equal(first.video, again.video) and first.caption == again.caption
    for other in (WalkWorld(CONFIG)[8], WalkWorld(replace(CONFIG, split="held_out"))[7]):
        assert not np.array_equal(first.video, other.video)
    with pytest.raises(IndexError):
        WalkWorld(CONFIG)[-1]


def test_first_frame_and_actions_are_the_clip():
    world = WalkWorld(CONFIG)
    for index in range(12):
        clip = world[index]
        thing = clip.labels.objects[0]
        actions = walk_actions(thing.position, CONFIG.unit)
        assert not actions[0].any()
        path = walk_positions(thing.position[0], actions, CONFIG.unit)
        assert np.allclose(path, thing.position, atol=1e-9)
        led = replace(clip.labels, objects=(replace(thing, position=path),))
        assert np.array_equal(render(led, CONFIG), clip.video)


def test_pixels_show_the_actions():
    world = WalkWorld(CONFIG)
    for index in range(12):
        clip = world[index]
        truth = clip.labels.objects[0].position
        seen = track_position(clip.video)
        assert np.abs(seen - truth).max() < 0.5  # pixels
        assert np.abs(walk_actions(seen, 64) - walk_actions(truth, 64)).mean() < 0.03
    assert track_position(np.full((3, 32, 32, 3), 90, np.uint8)) is None


def test_the_walk_is_the_chain_that_it_says():
    """Far from borders a velocity is kept with probability 1 - SWITCH, and a new one is uniform in a square."""
    position = draw_walk(np.random.default_rng(0), np.zeros(2), np.full(2, -1e9), np.full(2, 1e9), 2.0, 20001)
    steps = np.diff(position, axis=0)
    kept = np.isclose(steps[1:], steps[:-1], atol=1e-6).all(1)
    assert abs(kept.mean() - (1 - SWITCH)) < 4 * (SWITCH * (1 - SWITCH) / len(kept)) ** 0.5
    fresh = steps[1:][~kept]
    assert np.abs(fresh).max() <= 2.0 and np.allclose(fresh.var(0), 4 / 3, rtol=0.1)


def test_objects_stay_in_the_frame_and_their_labels_survive_json():
    world = WalkWorld(CONFIG)
    for index in range(40):
        labels = world.sample_labels(index)
        thing = labels.objects[0]
        assert (thing.position - thing.radius[:, None] * 0.7 > 0).all()  # the least reach of a shape: a square's side
        assert (thing.position + thing.radius[:, None] * 0.7 < (96, 64)).all()
        assert np.abs(np.diff(thing.position, axis=0)).max() <= LARGEST_STEP * CONFIG.unit
        back = ClipLabels.from_dict(labels.to_dict())
        assert np.array_equal(render(back, CONFIG), render(labels, CONFIG))


def test_another_walk_begins_with_the_same_frame():
    world = WalkWorld(CONFIG)
    labels = world.sample_labels(0)
    other = redraw_walk(np.random.default_rng(0), labels, CONFIG)
    videos = render(labels, CONFIG), render(other, CONFIG)
    assert np.array_equal(videos[0][0], videos[1][0]) and not np.array_equal(videos[0][-1], videos[1][-1])


def test_the_other_world_never_walks():
    assert all(ShapeWorld(CONFIG).sample_labels(i).objects[0].motion != "walk" for i in range(50))
