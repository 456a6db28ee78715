"""Scenes: labels against trajectories and pixels, and groups that differ in what is asked and in nothing else."""

import collections
from dataclasses import replace

import numpy as np
import pytest

from vidgen.data.shapes import ClipLabels, ShapeWorld, ShapeWorldConfig, label_tasks, render
from vidgen.data.shapes.outlines import REACH, extents
from vidgen.data.shapes.scenes import SCENES, SceneWorld
from vidgen.data.shapes.scenes.passage import visible_share

GROUPS = 8
CONFIG = ShapeWorldConfig(height=48, width=80, num_frames=17, fps=10)
WIDE = ShapeWorldConfig(height=64, width=64, num_frames=16)  # an even number of frames


def groups_of(kind, config=CONFIG, count=GROUPS):
    world = SceneWorld(kind, config)
    n = world.kind.variants
    return [[world[n * group + k] for k in range(n)] for group in range(count)]


def steps_of(clip, thing=0):
    return np.linalg.norm(np.diff(clip.labels.objects[thing].position, axis=0), axis=1)


@pytest.mark.parametrize("config", [CONFIG, WIDE], ids=["wide", "square"])
@pytest.mark.parametrize("kind", SCENES)
def test_clips_are_functions_of_seed_and_index_and_stay_inside(kind, config):
    for group, clips in enumerate(groups_of(kind, config, 4)):
        again = SceneWorld(kind, config)[group * SCENES[kind].variants + 1]
        assert np.array_equal(again.video, clips[1].video) and again.tasks == clips[1].tasks
        assert len({clip.group for clip in clips}) == 1 and len({clip.labels.background for clip in clips}) == 1
        for clip in clips:
            assert clip.video.shape == (config.num_frames, config.height, config.width, 3)
            back = ClipLabels.from_dict(clip.labels.to_dict())
            assert np.array_equal(render(back, config), clip.video)
            for thing in clip.labels.objects:
                acts = slice(thing.start, thing.stop)
                for values in (thing.position, thing.radius, thing.angle):  # it rests before and after
                    assert np.array_equal(np.ptp(values, axis=0), np.ptp(values[acts], axis=0))
                low, high = extents(thing.shape, thing.radius, thing.angle)
                assert np.all(thing.position - low >= 0)
                assert np.all(thing.position + high <= [config.width, config.height])
    other = SceneWorld(kind, ShapeWorldConfig(split="held_out"))[0]
    assert not np.array_equal(other.video, SceneWorld(kind)[0].video)
    assert not np.array_equal(ShapeWorld()[0].video, SceneWorld(kind)[0].video)


def test_reversed_clips_are_the_same_frames_backward():
    seen = collections.Counter()
    for clips in groups_of("reversal", count=40):
        forward, backward = clips
        assert np.array_equal(forward.video, backward.video[::-1])
        assert (forward.tasks["reversed"], backward.tasks["reversed"]) == ("forward", "reversed")
        for clip in clips:
            arrow, (thing,) = clip.tasks["arrow"], clip.labels.objects
            seen[arrow] += 1
            change = np.diff(thing.radius if arrow == "growing" else steps_of(clip))
            assert np.all(change > 0 if (arrow == "growing") == (clip is forward) else change < 0)
            assert clip.tasks[f"reversed_{arrow}"] == clip.tasks["reversed"]
            assert not {"reversed_slowing", "reversed_growing"} <= set(clip.tasks)
            if arrow == "slowing":  # the word for the motion is that of the way it goes
                tasks = label_tasks(clip.labels, CONFIG)
                way = thing.position[-1] - thing.position[0]
                assert np.dot(tasks["velocity"], way) > 0.99 * tasks["speed"] * np.linalg.norm(way)
                assert tasks["direction"].replace("-", " and ") in clip.caption
    assert min(seen.values()) > 20


def test_the_first_frame_does_not_tell_whether_what_slows_is_reversed():
    """Places of the first frame, forward and backward, have one distribution: the same means, within 4 standard
    errors."""
    drawn = [SCENES["reversal"].draw(np.random.default_rng(seed), CONFIG) for seed in range(300)]
    pairs = [pair for pair in drawn if pair[0].tasks["arrow"] == "slowing"]
    first = np.array([[scene.objects[0].position[0] for scene in pair] for pair in pairs])
    gap = first[:, 0] - first[:, 1]
    assert np.all(np.abs(gap.mean(0)) < 4 * gap.std(0) / len(gap) ** 0.5) and np.abs(gap).max() > 10


def test_order_is_all_that_differs():
    for clips in groups_of("order"):
        first, second = clips
        assert np.array_equal(first.video[0], second.video[0]) and np.array_equal(first.video[-1], second.video[-1])
        assert not np.array_equal(first.video[8], second.video[8])
        found = [label_tasks(clip.labels, CONFIG)["order"] for clip in clips]
        assert sorted(found) == ["left first", "right first"]
        for clip, word in zip(clips, found, strict=True):
            one, other = clip.labels.objects
            assert clip.tasks["first"] == one.colour and clip.caption.index(one.colour) < clip.caption.index(
                other.colour
            )
            assert (one.position[0, 0] < other.position[0, 0]) == (word == "left first")
            # by what moves, turns or grows in the pixels' own labels: one rests in the second half, the other before
            for thing, rests in ((one, slice(9, None)), (other, slice(0, 8))):
                for values in (thing.position, thing.radius, thing.angle):
                    assert np.ptp(values[rests], axis=0).max() == 0
            # the same motion, a few frames later
            again = next(thing for thing in clips[1 - clips.index(clip)].labels.objects if thing.colour == one.colour)
            assert np.array_equal(one.position[:9], again.position[8:])


def test_what_is_hidden_is_not_in_the_pixels():
    counts = collections.Counter()
    for clips in groups_of("occlusion"):
        assert len({clip.video[0].tobytes() for clip in clips}) == 1
        for clip in clips:
            screen, thing = sorted(clip.labels.objects, key=lambda thing: thing.motion != "still")
            bare = render(ClipLabels(objects=(screen,), background=clip.labels.background), CONFIG)[0].astype(int)
            left = np.abs(clip.video - bare).sum(axis=(1, 2, 3))  # of the object, over what is behind it
            hidden = np.zeros(CONFIG.num_frames, bool)
            first, frames = (round(clip.tasks.get(name, 0) * CONFIG.fps) for name in ("hidden_at", "hidden_for"))
            hidden[first : first + frames] = True
            assert np.all(left[hidden] < 0.03 * left[0]) and np.all(left[~hidden] > 0.003 * left[0])
            assert hidden.any() == ("hidden_at" in clip.tasks) == (clip.tasks["depth"] == "behind")
            stops = np.array_equal(thing.position[-1], thing.position[-2])
            assert ("hidden_now" in clip.tasks) == stops and (stops or not hidden[-1])
            if stops:
                assert clip.tasks["hidden_now"] == ("hidden" if hidden[-1] else "visible")
                counts[clip.tasks["hidden_now"]] += 1
    assert counts["hidden"] == counts["visible"] == GROUPS


def test_the_visible_share_is_a_closed_form():
    """Of a circle that moves behind the edge of a large square, what is left of a straight line."""
    config = ShapeWorldConfig(height=256, width=256, num_frames=9)
    thing, screen = SceneWorld("occlusion", config)[0].labels.objects
    share = visible_share((thing, screen), 0, config)
    assert share[0] == 1.0 and share.min() == 0.0 and visible_share((screen, thing), 1, config).min() == 1.0
    radius, half = 20.0, 60.0
    place = np.array([[128.0 - half - d, 128.0] for d in (-20.0, -8.0, 0.0, 11.0, 20.0)])
    ones = np.ones(len(place))
    circle = replace(thing, shape="circle", position=place, radius=radius * ones, angle=0 * ones)
    square = replace(screen, position=128.0 + np.zeros((5, 2)), radius=half / 0.88 * ones, angle=0 * ones)
    found = visible_share((circle, square), 0, config)
    d = np.array([-20.0, -8.0, 0.0, 11.0, 20.0]) / radius
    closed = (np.arccos(-d) + d * np.sqrt(1 - d**2)) / np.pi
    np.testing.assert_allclose(found, closed, atol=0.01)


def test_those_that_meet_touch_and_those_that_miss_do_not():
    for clips in groups_of("collision"):
        meet, miss = clips
        assert [clip.tasks["meets"] for clip in clips] == ["meet", "miss"]
        for k in (0, -1):
            assert np.array_equal(meet.video[k], miss.video[k])
        gaps = []
        for clip in clips:
            one, other = clip.labels.objects
            reach = REACH[one.shape] * one.radius + REACH[other.shape] * other.radius
            gaps.append(np.linalg.norm(one.position - other.position, axis=1) - reach)
        frame = int(np.argmin(gaps[0]))
        assert gaps[0][frame] == pytest.approx(0, abs=1e-9) and np.all(np.delete(gaps[0], frame) > 0.3)
        assert meet.tasks["meets_at"] == pytest.approx(frame / CONFIG.fps) and "meets_at" not in miss.tasks
        assert {event.frame for event in meet.labels.events} == {frame} and not miss.labels.events
        assert gaps[1].min() == pytest.approx(0.1 * 48)
        # they differ near the moment only
        assert np.array_equal(gaps[0] > gaps[1].min() + 1e-9, np.isclose(gaps[0], gaps[1]) & (gaps[1] > 4.81))


def test_a_rate_is_how_often_the_same_motion_is_seen():
    for clips in groups_of("rate"):
        assert [clip.tasks["frame_rate"] for clip in clips] == ["5 fps", "10 fps", "20 fps"]
        slow, plain, fast = (clip.video for clip in clips)
        assert np.array_equal(slow[:9], plain[::2]) and np.array_equal(plain[:9], fast[::2])
        # away from the sides, where it turns back, it goes as fast as everything does
        for clip, rate in zip(clips, (5, 10, 20), strict=True):
            assert steps_of(clip).max() * rate == pytest.approx(0.35 * 48)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="scene 'sea' is unknown; choose one of reversal"):
        SceneWorld("sea")
    with pytest.raises(ValueError, match="'order' needs 12 frames, got 8"):
        SceneWorld("order", ShapeWorldConfig(num_frames=8))
    with pytest.raises(IndexError, match="-1"):
        SceneWorld("rate")[-1]
