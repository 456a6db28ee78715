"""Labels for probes against what is known of the clips."""

import numpy as np
import pytest

from vidgen.data.shapes import ClipLabels, ShapeWorld, ShapeWorldConfig, label_tasks
from vidgen.data.shapes.labels import DIRECTIONS

CONFIG = ShapeWorldConfig(height=48, width=96, fps=10, max_objects=2)


@pytest.fixture(scope="module")
def clips():
    world = ShapeWorld(CONFIG)
    labels = [world.sample_labels(index) for index in range(120)]
    return [(clip, label_tasks(clip, CONFIG)) for clip in labels]


def test_words_are_those_of_the_objects(clips):
    for clip, tasks in clips:
        assert tasks["count"] == len(clip.objects)
        assert tasks["colours"] == sorted(thing.colour for thing in clip.objects)
        one = clip.objects[0]
        assert ("colour" in tasks) == (len(clip.objects) == 1)
        if "motion" in tasks:
            assert (tasks["shape"], tasks["motion"]) == (one.shape, one.motion)
            assert ("direction" in tasks) == (one.motion in DIRECTIONS) and ("wall" in tasks) == (
                one.motion == "bounce"
            )
    assert {tasks["count"] for _, tasks in clips} == {1, 2}


def test_velocity_is_the_way_that_is_gone_and_points_where_it_says(clips):
    seen = set()
    for clip, tasks in clips:
        if "velocity" not in tasks:
            continue
        (one,) = clip.objects
        # shorter sides a second: the way between the ends over the time between them
        way = (one.position[one.stop - 1] - one.position[one.start]) / 48 * 10 / (one.stop - 1 - one.start)
        np.testing.assert_allclose(tasks["velocity"], way, atol=1e-9)
        assert tasks["speed"] >= np.linalg.norm(tasks["velocity"]) - 1e-9
        if "direction" in tasks:
            seen.add(tasks["direction"])
            straight = np.asarray(DIRECTIONS[tasks["direction"]]) * tasks["speed"]
            np.testing.assert_allclose(tasks["velocity"], straight, atol=1e-6)
        if one.motion in ("still", "rotate", "grow", "shrink"):
            assert tasks["speed"] == 0.0
        assert 0 < min(tasks["position"]) and max(tasks["position"]) < 1
    assert len(seen) > 4


def test_order_is_left_or_right_and_turns_with_the_picture(clips):
    ordered = [(clip, tasks) for clip, tasks in clips if "order" in tasks]
    assert {tasks["order"] for _, tasks in ordered} == {"left first", "right first"}
    for clip, tasks in ordered:
        assert clip.ordered and clip.events[0].object == 0
        data = clip.to_dict()
        for thing in data["objects"]:
            thing["position"] = [[96 - x, y] for x, y in thing["position"]]
        assert label_tasks(ClipLabels.from_dict(data), CONFIG)["order"] != tasks["order"]
