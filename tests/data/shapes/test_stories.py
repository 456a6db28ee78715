"""Stories of the world: one object goes on from where it is, stays in the frame, and does what is asked of it."""

import numpy as np
import pytest

from vidgen.data.shapes import (
    MOTIONS,
    ShapeWorld,
    ShapeWorldConfig,
    check,
    draw_next_scene,
    draw_story,
    locate_object,
    render,
    render_story,
)
from vidgen.data.shapes.masks import find_boxes
from vidgen.data.shapes.motions import Track, continue_track

CONFIG = ShapeWorldConfig(split="held_out")
SIDE = 64


def test_each_scene_begins_with_the_last_frame_of_the_one_before():
    for index in range(6):
        story = draw_story(CONFIG, index, 4)
        clips = [render(scene, CONFIG) for scene in story]
        for before, after in zip(clips, clips[1:], strict=False):
            assert np.array_equal(before[-1], after[0])
        whole = render_story(story, CONFIG)
        assert len(whole) == 65 and np.array_equal(whole[48:], clips[3])
        for scene in story:
            boxes = find_boxes(scene)
            assert boxes.min() >= 0 and boxes.max() <= SIDE
            assert scene.objects[0].size == "" and scene.objects[0].colour == story[0].objects[0].colour


def test_the_checker_sees_every_scene_as_asked_and_every_motion_comes():
    motions = set()
    for index in range(12):
        for scene in draw_story(CONFIG, index, 10):
            assert check(render(scene, CONFIG), scene).all
            motions.add(scene.objects[0].motion)
    assert motions == set(MOTIONS)


def test_a_story_is_a_function_of_its_index_and_begins_as_the_worlds_clip():
    one, again, longer, other = (draw_story(CONFIG, *a) for a in ((5, 2), (5, 2), (5, 4), (6, 2)))
    assert one[1].to_dict() == again[1].to_dict() == longer[1].to_dict() != other[1].to_dict()
    opening = ShapeWorld(CONFIG).sample_labels(5).objects[0]
    assert np.array_equal(one[0].objects[0].position, opening.position)


def track_at(x: float, y: float, radius: float = 8.0) -> Track:
    return Track(position=np.array([[x, y]]), radius=np.array([radius]), angle=np.zeros(1))


@pytest.mark.parametrize(
    ("motion", "x", "y", "radius", "has_room"),
    [
        ("right", 54.0, 32.0, 8.0, False),
        ("left", 54.0, 32.0, 8.0, True),
        ("still", 54.0, 32.0, 8.0, True),
        ("still", 70.0, 32.0, 8.0, True),  # half outside, as a model may have left it
        ("grow", 32.0, 32.0, 8.0, True),
        ("grow", 10.0, 32.0, 8.0, False),  # it would not stay inside
        ("grow", 32.0, 32.0, 15.0, False),  # larger than the world's largest
        ("shrink", 32.0, 32.0, 8.0, False),  # smaller than its smallest
        ("shrink", 32.0, 32.0, 15.0, True),
        ("circle", 9.0, 9.0, 8.0, False),
        ("bounce", 32.0, 32.0, 8.0, True),
    ],
)
def test_what_has_no_room_is_not_drawn(motion, x, y, radius, has_room):
    rng = np.random.default_rng(0)
    track = continue_track(rng, track_at(x, y, radius), shape="circle", motion=motion, config=CONFIG)
    assert (track is not None) == has_room
    if track is not None:
        assert np.allclose(track.position[0], (x, y)) and track.radius[0] == radius


def test_what_bounces_touches_its_wall_from_where_it_is():
    rng = np.random.default_rng(3)
    for _ in range(20):
        track = continue_track(rng, track_at(30.0, 33.0), shape="circle", motion="bounce", config=CONFIG)
        axis, side = {"left": (0, 0), "right": (0, SIDE), "top": (1, 0), "bottom": (1, SIDE)}[track.wall]
        gap = np.abs(track.position[:, axis] - side).min() - 8.0
        assert 0 <= gap < 3.5  # it may hit between two frames
        assert np.allclose(track.position[0], (30.0, 33.0))


def test_an_object_is_found_where_a_picture_shows_it():
    for index in range(8):
        story = draw_story(CONFIG, index, 2)
        there = locate_object(render(story[0], CONFIG)[-1], story[0], CONFIG).objects[0]
        truth = story[1].objects[0]
        assert np.abs(there.position[0] - truth.position[0]).max() < 1.0
        assert there.radius[0] == pytest.approx(truth.radius[0], rel=0.08)
    nothing = locate_object(np.full((SIDE, SIDE, 3), 128, np.uint8), story[0], CONFIG)
    assert np.array_equal(nothing.objects[0].position, [[32.0, 32.0]])
    scene = draw_next_scene(np.random.default_rng(0), nothing, CONFIG)
    assert scene.num_frames == 17
