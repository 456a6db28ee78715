"""Generated against real: the world's own clips are at the floor, and clips of noise are not."""

import numpy as np
import pytest
import torch

from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig
from vidgen.metrics.kid import kernel_distance
from vidgen.pipelines.evaluation.feature_distance import compare_features, extract_batches, real_batches, score_distance
from vidgen.representations.extractor import FeatureExtractor


class Copier:
    """Instead of generating, the world's own clip of each prompt, or noise."""

    def __init__(self, world, noise):
        self.world, self.noise, self.made = world, noise, 0

    def __call__(self, prompts, generator):
        numbers = range(self.made, self.made + len(prompts))
        self.made += len(prompts)
        assert prompts == [self.world.sample_prompt(i)[0] for i in numbers]
        clips = [self.world[i].video for i in numbers]
        if self.noise:
            clips = [np.random.default_rng(i).integers(0, 256, c.shape, dtype=np.uint8) for i, c in enumerate(clips)]
        return type("Out", (), {"frames": clips})


@pytest.fixture(scope="module")
def world():
    return ShapeWorld(ShapeWorldConfig(height=16, width=16, num_frames=5, split="held_out"))


@pytest.fixture(scope="module")
def extractor(pipe):
    return FeatureExtractor(pipe, layers=["tokenizer.latents", "dit.blocks.1"], noise_levels=[0.1])


def test_own_clips_are_at_the_floor_and_noise_is_not(extractor, world):
    seen = []
    with torch.inference_mode():
        same = score_distance(Copier(world, False), extractor, world, 30, batch_size=7, progress=seen.append)
        other = score_distance(Copier(world, True), extractor, world, 30)
    assert [row["key"] for row in same] == ["tokenizer.latents", "dit.blocks.1@t=0.10"] and seen[-1] == 90
    for near, far in zip(same, other, strict=True):
        assert near["n_real"] == 60 and near["n_generated"] == 30 == near["floor_n"]
        assert near["distance"] < near["floor_range"][1] < far["distance"]


def test_features_do_not_depend_on_batches_and_rows_are_the_metrics(extractor, world):
    one = extract_batches(extractor, real_batches(world, range(7), 3))
    two = extract_batches(extractor, real_batches(world, range(7), 7))
    for key in one:
        np.testing.assert_allclose(one[key], two[key], rtol=1e-4, atol=1e-5)
    row = compare_features({"a": one[key]}, {"a": two[key] + 1.0, "b": two[key]})
    assert len(row) == 1 and row[0]["distance"] == kernel_distance(one[key], two[key] + 1.0).distance
