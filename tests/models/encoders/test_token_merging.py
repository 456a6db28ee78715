"""Token merging: nothing at ratio 0, equal tokens at no loss, and every place keeps what stands for it."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.interfaces import Encoder
from vidgen.models.encoders.token_merging import (
    Merged,
    MergingConfig,
    MergingEncoder,
    attention_saliency,
    merge_tokens,
)
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig, rotary_rows
from vidgen.models.rope import apply_rotary_emb


def make(**shape) -> VideoViT:
    torch.manual_seed(0)
    return VideoViT(VideoViTConfig(patch=(2, 4, 4), width=32, depth=3, head_dim=16, clip=(4, 16, 16), **shape)).eval()


def clips() -> torch.Tensor:
    return torch.rand(2, 3, 4, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def start(x: torch.Tensor) -> Merged:
    places = torch.arange(x.shape[1]).expand(x.shape[:2])
    return Merged(x, torch.ones(x.shape[:2]), places, places)


def test_ratio_0_is_the_encoder():
    model, video = make(), clips()
    plain, merged = (
        dict(model.iter_features(video)),
        dict(MergingEncoder(model, MergingConfig(ratio=0)).iter_features(video)),
    )
    assert isinstance(MergingEncoder(model, MergingConfig()), Encoder) and list(plain) == list(merged)
    assert all(torch.allclose(x, merged[name], atol=1e-6) for name, x in plain.items())


def test_the_closest_pairs_become_their_mean_by_size():
    x = torch.eye(6)[None]
    x[0, 3] = 0.9 * x[0, 2] + 0.1 * x[0, 3]  # 2 and 3 are nearly alike
    merged = merge_tokens(start(x), 1)
    assert merged.x.shape == (1, 5, 6) and merged.size.sum() == 6
    both = int(merged.owner[0, 2])
    assert both == int(merged.owner[0, 3]) and merged.size[0, both] == 2
    assert torch.allclose(merged.x[0, both], (x[0, 2] + x[0, 3]) / 2)
    again = merge_tokens(merged, 2)
    total = (again.x * again.size[..., None]).sum(1)
    assert torch.allclose(total, x.sum(1), atol=1e-6)  # the sum of all tokens stays
    assert torch.equal(again.size[0], torch.bincount(again.owner[0], minlength=3).float())


def test_the_least_salient_go_first():
    x, saliency = torch.randn(1, 8, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8.0)[None]
    merged = merge_tokens(start(x), 2, saliency)
    assert not {0, 2} & set(merged.places[0].tolist()) and {1, 3, 4, 5, 6, 7} == set(merged.places[0].tolist())


def test_tokens_and_cost_fall_and_maps_stay_whole():
    encoder = MergingEncoder(make(), MergingConfig(ratio=0.25))
    assert encoder.tokens_left(32) == [32, 24, 18]
    maps = dict(encoder.iter_features(clips()))
    assert all(x.shape == (2, 32, 2, 4, 4) for x in maps.values())
    last = maps["blocks.2"].flatten(2)[0].T
    assert len(torch.unique(last, dim=0)) == 18
    other = dict(MergingEncoder(make(), MergingConfig(ratio=0.25, saliency=True)).iter_features(clips()))
    assert not torch.equal(other["blocks.2"], maps["blocks.2"])


def test_saliency_is_that_of_the_attention_that_runs():
    model, video = make(), clips()
    grid, block = model.grid_of(video), model.blocks[0]
    x = model.embed(video) + model.place(grid, video)
    rotary = rotary_rows(grid, 16, x, None)
    q, k, v = block.attention.project(block.norm1(x))
    weights = (apply_rotary_emb(q, rotary) @ apply_rotary_emb(k, rotary).transpose(-1, -2) / 4).softmax(-1)
    entropy = -(weights * weights.log()).sum(-1).mean(1)
    saliency = attention_saliency((q, k, v), rotary, torch.ones(2, 32))
    assert torch.allclose(saliency, -entropy / torch.tensor(32.0).log(), atol=1e-5)


def test_only_joint_attention_merges():
    with pytest.raises(VidgenError, match="mixer is scan"):
        MergingEncoder(make(mixer="scan"), MergingConfig())
    with pytest.raises(VidgenError, match="ratio"):
        MergingConfig(ratio=0.6)
