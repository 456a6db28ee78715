"""Imitations: both halves show the same motion, by the checker; the caption tells the second object and no motion."""

from dataclasses import replace

import numpy as np
import pytest

from vidgen.data.shapes import ShapeWorldConfig, check
from vidgen.data.shapes.captions import VERBS
from vidgen.data.shapes.imitations import IMITATION, ImitationWorld
from vidgen.train.config import DataConfig, SourceConfig
from vidgen.train.data.sources import Mixture

CONFIG = ShapeWorldConfig(num_frames=33, split="held_out")


@pytest.mark.parametrize("index", range(6))
def test_both_halves_show_the_motion_and_the_caption_does_not(index):
    world = ImitationWorld(CONFIG)
    clip, pair = world[index], world.sample_pair(index)
    first, second = world.lengths
    assert (first, second) == (17, 16) and clip.video.shape == (33, 64, 64, 3)
    motion = pair.imitation.objects[0].motion
    assert pair.demonstration.objects[0].motion == motion
    assert check(clip.video[:first], pair.demonstration).all and check(clip.video[first:], pair.imitation).all
    assert np.array_equal(world.show(index), clip.video[:first])
    assert clip.labels.objects[0].motion == IMITATION and pair.imitation.objects[0].colour in clip.caption
    assert not any(verb in clip.caption for name, verbs in VERBS.items() if name != IMITATION for verb in verbs)


def test_a_clip_is_a_function_of_its_index():
    one, two = ImitationWorld(CONFIG)[3], ImitationWorld(CONFIG)[3]
    assert np.array_equal(one.video, two.video) and one.caption == two.caption
    assert not np.array_equal(one.video, ImitationWorld(replace(CONFIG, split="train"))[3].video)


def test_sources_draw_them():
    data = DataConfig(sources=[SourceConfig(kind="imitations")], num_frames=9, size=(32, 32), fps=8.0)
    sample = Mixture(data, seed=0)[(0, 0)]
    assert sample.video.shape == (3, 9, 32, 32) and sample.labels.objects[0].motion == IMITATION
