"""Stories: about one object, asked for what it has room for, checked where their prompts hold."""

import numpy as np
import pytest

from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig, draw_story, render_story
from vidgen.errors import VidgenError
from vidgen.metrics.drift import describe_drift, measure_segment
from vidgen.pipelines.evaluation.rollout_scores import (
    Director,
    Scene,
    check_windows,
    film,
    ground_colour,
    score_rollouts,
    summarize_rollouts,
)
from vidgen.pipelines.rollout import WindowConfig
from vidgen.pipelines.streaming.chunks import Chunk

WORLD = ShapeWorld(ShapeWorldConfig(split="held_out"))
LENGTH = WORLD.config.num_frames
SMALL = ShapeWorld(ShapeWorldConfig(height=16, width=16, num_frames=5, split="held_out"))
FAST = dict(height=16, width=16, guidance_scale=2.0, num_inference_steps=2)


def act(director: Director, step: int = 8):
    """The world itself as a generator of chunks: it does what it is asked for, as a perfect model would."""
    frames = render_story([scene.labels for scene in director.scenes], WORLD.config)
    for start in [0, *range(1, director.num_frames, step)]:
        stop = min(start + step, director.num_frames) if start else 1
        yield Chunk(latents=None, frames=frames[start:stop], start=start, prompt="")
        if len(frames) < min(stop + step, director.num_frames):
            frames = np.concatenate([frames, render_story([director.scenes[-1].labels], WORLD.config)[1:]])


def test_a_story_is_about_one_object_that_has_room_for_all_that_is_asked():
    director = Director(WORLD, 3, 5 * 16 + 1)
    frames = film(act(director), director)
    assert frames.shape == (81, 64, 64, 3)
    things = [scene.labels.objects[0] for scene in director.scenes]
    assert [scene.start for scene in director.scenes] == [0, 16, 32, 48, 64]
    assert len({(thing.shape, thing.colour) for thing in things}) == 1
    assert not any("background" in scene.prompt for scene in director.scenes)
    windows = check_windows(frames, director.scenes, LENGTH)
    assert [(w["scene"], w["start"]) for w in windows] == [(k, 16 * k) for k in range(5)]
    assert all(window["all"] for window in windows)
    other = Director(WORLD, 4, 81)
    assert other.scenes[0].prompt != director.scenes[0].prompt


def test_scenes_share_the_frames_and_none_is_shorter_than_an_action():
    director = Director(WORLD, 1, 6 * 16 + 1, scenes=2)
    frame = np.full((64, 64, 3), 128, np.uint8)  # shows nothing: the object is taken to be in the middle
    assert director.follow(48, frame) is None and director.follow(49, frame) is not None
    assert [scene.start for scene in director.scenes] == [0, 48]
    assert director.follow(97, frame) is None  # the clip is over
    with pytest.raises(VidgenError, match="48 frames are too few for 3 scenes of at least 16 after the first frame"):
        Director(WORLD, 0, 48, scenes=3)


def test_windows_of_other_prompts_are_not_as_asked():
    stories = [draw_story(WORLD.config, number, 3) for number in range(3)]
    rows = []
    for story in stories:
        frames = render_story(story, WORLD.config)
        scenes = [Scene(start=16 * k, prompt="", labels=labels) for k, labels in enumerate(story)]
        windows = check_windows(frames, scenes, LENGTH)
        drift = describe_drift([measure_segment(frames[:LENGTH]), measure_segment(frames[-LENGTH:])]) | {"ground": 0.0}
        rows.append({"windows": windows, "drift": drift})
        swapped = check_windows(frames[::-1], scenes, LENGTH)
        assert all(window["colour"] and window["shape"] for window in swapped)
    summary = summarize_rollouts(rows)
    assert all(window["all"] == 1.0 for window in summary["windows"])
    assert [scene["start"] for scene in summary["scenes"]] == [0, 16, 32]
    assert summary["scenes"][1]["ci"]["all"][1] == pytest.approx(1.0)


def test_the_ground_does_not_move_where_an_object_grows():
    story = next(s for s in (draw_story(WORLD.config, k, 1) for k in range(50)) if s[0].objects[0].motion == "grow")
    frames = render_story(story, WORLD.config)
    assert np.linalg.norm(frames[-1].mean((0, 1)) - frames[0].mean((0, 1))) > 5
    assert np.linalg.norm(ground_colour(frames[-1:]) - ground_colour(frames[:1])) < 2


def test_what_does_not_fill_a_window_is_left_out():
    director = Director(WORLD, 0, 33, scenes=1)
    frames = render_story(draw_story(WORLD.config, 0, 2), WORLD.config)[:-1]
    assert [window["start"] for window in check_windows(frames, director.scenes, LENGTH)] == [0]


def test_stories_of_a_model_depend_on_the_seed_alone(pipe):
    settings = dict(num_frames=13, windows=WindowConfig(num_frames=5), **FAST)
    one, other = (list(score_rollouts(pipe, SMALL, 2, seed=seed, **settings)) for seed in (0, 1))
    again = list(score_rollouts(pipe, SMALL, 1, seed=0, **settings))
    assert again[0]["drift"] == one[0]["drift"] != other[0]["drift"]
    assert len(one[0]["drift"]["segments"]) == 2
    assert [start for start, _ in one[0]["prompts"]] == [0, 4, 8]
