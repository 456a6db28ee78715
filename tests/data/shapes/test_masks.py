"""Masks, boxes and points are of the very pixels that the renderer painted."""

import dataclasses

import numpy as np
import pytest

from vidgen.data.shapes import COLOURS, ShapeWorld, ShapeWorldConfig
from vidgen.data.shapes.masks import find_boxes, find_points, render_masks
from vidgen.data.shapes.render import render_background

CONFIG = ShapeWorldConfig(max_objects=2, num_frames=9)


@pytest.mark.parametrize("index", range(6))
def test_background_and_masks_make_the_clip_again(index):
    clip = ShapeWorld(CONFIG)[index]
    masks = render_masks(clip.labels, 64, 64)
    pixels = np.repeat(render_background(clip.labels.background, 64, 64)[None], 9, axis=0)
    for thing, mask in zip(clip.labels.objects, masks, strict=True):
        pixels += mask[..., None] * (np.array(COLOURS[thing.colour]) - pixels)
    assert np.abs(pixels - clip.video).max() <= 0.51  # rounded to whole levels


def test_masks_lie_in_their_boxes_and_points_on_their_masks():
    world = ShapeWorld(CONFIG)
    for index in range(12):
        labels = world.sample_labels(index)
        masks, boxes, points = render_masks(labels, 64, 64), find_boxes(labels), find_points(labels)
        assert masks.shape[:2] == boxes.shape[:2] == (points.shape[0], points.shape[2])
        for mask, box, track in zip(masks, boxes, points, strict=True):
            for t in range(9):
                y, x = np.nonzero(mask[t] > 0.5)
                seen = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
                assert np.all(np.abs(seen - box[t]) <= 2.6)  # the tips of stars cover less than half a pixel
                assert np.all(mask[t][tuple(np.floor(track[:, t, ::-1]).astype(int).T)] == 1.0)


def test_what_is_in_front_hides_what_is_behind():
    labels = next(one for one in map(ShapeWorld(CONFIG).sample_labels, range(20)) if len(one.objects) == 2)
    first, second = labels.objects
    same = dataclasses.replace(labels, objects=(first, dataclasses.replace(first, colour=second.colour)))
    behind, front = render_masks(same, 64, 64)
    assert front.sum() > 0 and np.all(behind * front <= 0.2501) and np.all((behind > 0) <= (front < 1))
    chosen = render_masks(labels, 64, 64, frames=(0, 4))
    np.testing.assert_array_equal(chosen, render_masks(labels, 64, 64)[:, [0, 4]])
    np.testing.assert_array_equal(find_points(labels, (0, 4)), find_points(labels)[:, :, [0, 4]])
    np.testing.assert_array_equal(find_boxes(labels, (0, 4)), find_boxes(labels)[:, [0, 4]])
