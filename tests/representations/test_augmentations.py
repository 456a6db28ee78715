"""Changed clips are functions of seed and id, and keep what they promise; features are of the clips they say."""

import numpy as np
import pytest
import torch

from vidgen.representations.augmentations import AUGMENTATIONS, shift_of, warp_frames, warp_of
from vidgen.representations.baselines import PIXEL_BASELINES, hold_frame, raw_pixels, shuffle_frames
from vidgen.representations.extractor import FeatureExtractor
from vidgen.representations.feature_sets import FeatureSets

IDS = [f"clip{i}" for i in range(60)]


def test_the_order_of_frames_stays():
    shifts = [shift_of(9, name, 0).tolist() for name in IDS]
    assert {tuple(x) for x in shifts} == {(0, 0, 1, 2, 3, 4, 5, 6, 7), (1, 2, 3, 4, 5, 6, 7, 8, 8)}
    warps = [warp_of(17, name, 0) for name in IDS]
    assert all((x.diff() >= 0).all() and x.min() >= 0 and x.max() <= 16 for x in warps)
    # faster and slower: of clips that never stop at an end, between 1 / 1.6 and 1.6 frames a frame, and both occur
    inside = [x for x in warps if x[2] > 0 and x[-3] < 16]
    pace = np.array([(x[-3] - x[2]).item() / 12 for x in inside])
    assert pace.max() < 1.6 + 2 / 12 and pace.min() > 1 / 1.6 - 2 / 12 and pace.min() < 0.85
    assert len({tuple(x.tolist()) for x in warps}) > 55
    assert warp_of(1, "a", 0).tolist() == shift_of(1, "a", 0).tolist() == [0]


@pytest.mark.parametrize("change", [*AUGMENTATIONS.values(), shuffle_frames, hold_frame])
def test_a_change_does_not_depend_on_the_batch(video, change):
    together = change(video, ["a", "b", "c"], 1)
    assert together.shape == video.shape and torch.equal(change(video[1:2], ["b"], 1)[0], together[1])
    assert torch.equal(change(video, ["a", "b", "c"], 1), together)


def test_a_held_frame_is_all_there_is(video):
    held = hold_frame(video, IDS[:3])
    assert all(torch.equal(held[:, :, t], video[:, :, 0]) for t in range(9))


def test_features_are_of_the_clips_that_their_prefix_says(pipeline, video):
    setting = {"layers": ["tokenizer.latents", "dit.blocks.1"], "noise_levels": [0.2], "pool": "mean"}
    variants = FeatureSets(pipeline, baselines=True, views=True, seed=3, **setting)
    found, ids = variants(video, IDS[:3]), IDS[:3]
    plain = ["tokenizer.latents", "dit.blocks.1@t=0.20"]
    seen = ("", "random.", "shuffled.", "single.", "weak.", "weak.random.", "strong.", "strong.random.")
    pixels = [prefix + name for prefix in ("", *AUGMENTATIONS) for name in PIXEL_BASELINES]
    assert variants.keys == [*(prefix + key for prefix in seen for key in plain), *pixels]
    assert set(found) == set(variants.keys)
    fx = FeatureExtractor(pipeline, seed=3, **setting)
    clips = {"": video, "single.": hold_frame(video, ids), "strong.": warp_frames(video, ids, 3)}
    for prefix, shown in clips.items():
        for key, x in fx(shown, ids).features.items():
            assert torch.equal(found[prefix + key], x)
    assert torch.equal(found["strong.raw_pixels"], raw_pixels(clips["strong."]))
    assert not torch.equal(found["strong.random.tokenizer.latents"], found["random.tokenizer.latents"])
    few = FeatureSets(pipeline, baselines=False, views=True, seed=0, **setting)
    assert few.keys == [p + key for p in ("", "weak.", "strong.") for key in plain]
