"""Stories: about one object, checked where their prompts hold; on the world's own clips every window is as asked."""

import numpy as np
import pytest

from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig, render
from vidgen.errors import VidgenError
from vidgen.metrics.drift import describe_drift, measure_segment
from vidgen.pipelines.evaluation.rollout_scores import check_windows, draw_scenes, score_rollouts, summarize_rollouts

WORLD = ShapeWorld(ShapeWorldConfig(split="held_out"))
LENGTH = WORLD.config.num_frames
SMALL = ShapeWorld(ShapeWorldConfig(height=16, width=16, num_frames=5, split="held_out"))
FAST = dict(height=16, width=16, guidance_scale=2.0, num_inference_steps=2)


def test_a_story_is_about_one_object_that_does_something_else_each_time():
    story = draw_scenes(WORLD, 1, 3, 6 * LENGTH)
    things = [scene.labels.objects[0] for scene in story]
    assert [scene.start for scene in story] == [0, 2 * LENGTH, 4 * LENGTH]
    assert len({(thing.shape, thing.colour, thing.size) for thing in things}) == 1
    assert len({thing.motion for thing in things}) == 3 and len({scene.prompt for scene in story}) == 3
    again, other = ([s.prompt for s in draw_scenes(WORLD, number, 3, 6 * LENGTH)] for number in (1, 2))
    assert again == [scene.prompt for scene in story] != other
    with pytest.raises(VidgenError, match="50 frames are too few for 3 scenes of at least 17"):
        draw_scenes(WORLD, 0, 3, 50)


def film(story, per_scene: int) -> np.ndarray:
    """The world's own clips under each prompt, each shown as often as it fits."""
    return np.concatenate([render(scene.labels, WORLD.config) for scene in story for _ in range(per_scene)])


def test_the_worlds_own_clips_are_as_asked_and_others_are_not():
    stories = [draw_scenes(WORLD, number, 2, 4 * LENGTH) for number in range(3)]
    rows = []
    for story in stories:
        frames = film(story, 2)
        windows = check_windows(frames, story, LENGTH)
        assert [(w["scene"], w["start"]) for w in windows] == [(k // 2, k * LENGTH) for k in range(4)]
        drift = describe_drift([measure_segment(frames[:LENGTH]), measure_segment(frames[-LENGTH:])])
        rows.append({"windows": windows, "drift": drift})
    found = summarize_rollouts(rows)
    assert all(window["all"] == 1.0 for window in found["windows"])
    assert [scene["start"] for scene in found["scenes"]] == [LENGTH, 3 * LENGTH]
    assert found["scenes"][1]["ci"]["all"][1] == pytest.approx(1.0) and found["scenes"][1]["all"] == 1.0
    swapped = check_windows(film(stories[0][::-1], 2), stories[0], LENGTH)
    assert all(window["colour"] and window["shape"] and not window["motion"] for window in swapped)


def test_what_does_not_fill_a_window_is_left_out():
    story = draw_scenes(WORLD, 0, 1, 2 * LENGTH)
    frames = film(story, 2)[: 2 * LENGTH - 1]
    assert [window["start"] for window in check_windows(frames, story, LENGTH)] == [0]


def test_stories_of_a_model_depend_on_the_seed_alone(pipe):
    one, other = (list(score_rollouts(pipe, SMALL, 2, scenes=2, num_frames=12, seed=seed, **FAST)) for seed in (0, 1))
    again = list(score_rollouts(pipe, SMALL, 1, scenes=2, num_frames=12, seed=0, **FAST))
    assert again[0]["drift"] == one[0]["drift"] != other[0]["drift"]
    assert [w["start"] for w in one[0]["windows"]] == [0, 6] and one[0]["prompts"][1][0] == 6
    assert len(one[0]["drift"]["segments"]) == 2
