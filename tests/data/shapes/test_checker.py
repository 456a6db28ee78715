"""The checker agrees with the world that made a clip, and with nothing else."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from vidgen.data.shapes import COLOURS, ShapeWorld, ShapeWorldConfig, check, classify, render

FIELDS = ("colour", "shape", "motion", "all")


def scores(results):
    """Share of True for colour, shape, motion and all."""
    return np.array([[getattr(result, field) for field in FIELDS] for result in results]).mean(axis=0)


def degrade(video, seed, sigma=0.7, std=4.0):
    """Blur within frames and add noise."""
    from scipy import ndimage

    blurred = ndimage.gaussian_filter(video.astype(np.float32), (0, sigma, sigma, 0))
    noisy = blurred + np.random.default_rng(seed).normal(0, std, video.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def clips():
    """300 clips of one object over all backgrounds."""
    world = ShapeWorld(ShapeWorldConfig(split="held_out"))
    return [world[index] for index in range(300)]


@pytest.fixture(scope="module")
def pairs():
    """60 clips of two objects, some acting in order."""
    world = ShapeWorld(ShapeWorldConfig(max_objects=2, split="held_out"))
    twos = (index for index in itertools.count() if len(world.sample_labels(index).objects) == 2)
    return [world[index] for index in itertools.islice(twos, 60)]


def find(clips, **words):
    """The first clip whose (first) object has these words."""
    return next(c for c in clips if all(getattr(c.labels.objects[0], k) == v for k, v in words.items()))


@pytest.mark.slow
def test_true_clips_pass_on_every_background(clips):
    for kind in ("plain", "gradient", "texture"):
        some = [clip for clip in clips if clip.labels.background.kind == kind]
        assert len(some) > 60
        assert np.all(scores([check(clip.video, clip.labels) for clip in some]) >= 0.99)


def test_true_clips_of_two_objects_pass(pairs):
    assert np.all(scores([check(clip.video, clip.labels) for clip in pairs]) >= 0.98)


@pytest.mark.slow
def test_blur_and_noise_are_forgiven(clips, pairs):
    some = [*clips[:100], *pairs[:30]]
    assert np.all(scores([check(degrade(c.video, i), c.labels) for i, c in enumerate(some)]) >= 0.95)


def test_a_washed_out_and_tinted_clip_is_still_read(clips):
    def fade(video):
        grey = video.mean(axis=-1, keepdims=True)
        return np.clip(grey + 0.65 * (video - grey) + np.array([8.0, -6.0, 4.0]), 0, 255).astype(np.uint8)

    assert np.all(scores([check(fade(clip.video), clip.labels) for clip in clips[:60]]) >= 0.95)


@pytest.mark.slow
def test_prompts_of_other_clips_score_at_chance(clips):
    turned = [*clips[1:], clips[0]]
    results = [check(a.video, b.labels) for a, b in zip(clips, turned, strict=True)]
    colour, shape, motion, every = scores(results)
    # Within three standard errors of 1/8, 1/6 and 1/14 for 300 clips.
    assert abs(colour - 1 / 8) < 0.06 and abs(shape - 1 / 6) < 0.07 and abs(motion - 1 / 14) < 0.045
    assert every <= 0.015


@pytest.mark.parametrize(("height", "width", "num_frames"), [(48, 80, 9), (32, 32, 17), (64, 64, 1), (40, 40, 33)])
def test_other_sizes_and_lengths_pass(height, width, num_frames):
    world = ShapeWorld(ShapeWorldConfig(height=height, width=width, num_frames=num_frames, max_objects=2, seed=5))
    results = [check(world[index].video, world.sample_labels(index)) for index in range(30)]
    assert np.all(scores(results) >= 0.96)


def test_all_kinds_of_arrays_are_read_alike(clips):
    video = clips[0].video
    floats = torch.from_numpy(video.copy()).permute(3, 0, 1, 2).float() / 127.5 - 1
    expected = classify(video)
    for same in (floats, floats[None], floats.to(torch.bfloat16), floats.numpy(), floats.permute(1, 2, 3, 0).numpy()):
        assert classify(same) == expected
    with pytest.raises(ValueError, match="expected uint8"):
        classify(video.astype(np.int64))


def test_nothing_is_found_where_nothing_is(clips):
    rng = np.random.default_rng(0)
    grey = np.clip(rng.normal(120, 6, (17, 64, 64, 3)), 0, 255).astype(np.uint8)
    static = rng.integers(0, 256, (17, 64, 64, 3)).astype(np.uint8)
    for empty in (np.zeros_like(grey), np.full_like(grey, 255), grey, static):
        result = check(empty, clips[0].labels)
        assert not (result.colour or result.shape or result.motion or result.all)
    assert classify(np.full((1, 3, 5, 32, 32), np.nan, dtype=np.float32)) == []


def test_what_disappears_halfway_does_not_pass(clips):
    for clip in clips[:30]:
        gone = clip.video.copy()
        gone[9:] = 128
        result = check(gone, clip.labels)
        assert not result.motion and not result.all


def test_motion_played_backwards_is_another_motion(clips):
    clip = find(clips, motion="right")
    assert classify(clip.video[::-1])[0].motion == "left"
    clip = find(clips, motion="grow")
    assert classify(clip.video[::-1])[0].motion == "shrink"
    clip = find(clips, motion="circle")
    assert classify(clip.video[::-1])[0].motion == "circle"
    assert classify(clip.video[:1].repeat(17, axis=0))[0].motion == "still"


def test_a_jump_is_no_motion(clips):
    clip = find(clips, motion="right")
    jump = clip.video[[0] * 9 + [16] * 8]
    assert classify(jump)[0].motion is None


def test_changing_shape_is_no_shape(clips):
    clip = find(clips, motion="still", shape="circle")
    labels = clip.labels
    square = dataclasses.replace(labels, objects=(dataclasses.replace(labels.objects[0], shape="square"),))
    morphed = np.concatenate([clip.video[:9], render(square, ShapeWorldConfig())[9:]])
    assert not check(morphed, labels).shape and not check(morphed, square).shape


def test_unknown_shapes_have_no_name():
    y, x = np.mgrid[0:64, 0:64] - 31.5
    half_disc = (x**2 + y**2 < 144) & (y < 0)
    ellipse = (x / 15) ** 2 + (y / 8) ** 2 < 1
    for outline in (half_disc, ellipse):
        frame = np.full((64, 64, 3), 90, np.uint8)
        frame[outline] = COLOURS["red"]
        assert classify(frame[None].repeat(17, axis=0)) == [("red", None, "still")]


def test_order_matters_when_asked_for(pairs):
    ordered = [clip for clip in pairs if clip.labels.ordered]
    assert len(ordered) > 10
    for clip in ordered:
        swapped = dataclasses.replace(clip.labels, objects=clip.labels.objects[::-1])
        assert check(clip.video, swapped).detail["in_order"] is False
        assert not check(clip.video, swapped).motion
        assert not check(clip.video, dataclasses.replace(clip.labels, ordered=False)).motion


def test_one_asked_object_must_be_the_only_one(pairs):
    for clip in pairs[:20]:
        for thing in clip.labels.objects:
            assert not check(clip.video, dataclasses.replace(clip.labels, objects=(thing,), ordered=False)).all
