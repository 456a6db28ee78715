"""Memory: everything remembered is attention that is causal over segments; one segment is the encoder to the bit."""

import pytest
import torch

from vidgen.models.attention import plain_attention
from vidgen.models.encoders.memory_consolidation import (
    CONSOLIDATIONS,
    ConsolidatingEncoder,
    ConsolidationConfig,
    choose_coreset,
    choose_random,
    cluster_means,
)
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig, rotary_rows
from vidgen.models.rope import apply_rotary_emb

CELLS = 16  # tokens of a frame


def make() -> VideoViT:
    torch.manual_seed(0)
    return VideoViT(VideoViTConfig(patch=(2, 4, 4), width=32, depth=3, head_dim=16, clip=(4, 16, 16))).eval()


def clips(frames: int = 12) -> torch.Tensor:
    return torch.rand(2, 3, frames, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def maps_of(model: VideoViT, video: torch.Tensor, **settings) -> dict[str, torch.Tensor]:
    return dict(ConsolidatingEncoder(model, ConsolidationConfig(**settings)).iter_features(video))


def block_causal(model: VideoViT, video: torch.Tensor, segment: int) -> list[torch.Tensor]:
    """The streams after each block of attention with a mask: to all tokens of the own segment and of those before."""
    grid = model.grid_of(video)
    x = model.embed(video) + model.place(grid, video)
    rotary = rotary_rows(grid, 16, x, None)
    number = torch.arange(x.shape[1]) // (segment * CELLS)
    mask = (number[:, None] >= number)[None]

    def attend(q, k, v):
        return plain_attention(apply_rotary_emb(q, rotary), apply_rotary_emb(k, rotary), v, mask)

    streams = []
    for block in model.blocks:
        x = block(x, attend, None)
        streams.append(x)
    return streams


@pytest.mark.parametrize("method", CONSOLIDATIONS)
@pytest.mark.parametrize("segment", [1, 2, 4])  # of six frames of tubes: 4 leaves a shorter last one
def test_everything_remembered_is_block_causal_attention(method, segment):
    model, video = make(), clips()
    maps = maps_of(model, video, keep=1.0, frames=segment, method=method)
    for i, x in enumerate(block_causal(model, video, segment)):
        assert torch.allclose(maps[f"blocks.{i}"].flatten(2).mT, x, atol=1e-5), i


@pytest.mark.parametrize("keep", [0.0, 0.1, 1.0])
def test_one_segment_is_the_encoder_to_the_bit(keep):
    model, video = make(), clips(4)
    plain, maps = dict(model.iter_features(video)), maps_of(model, video, keep=keep)
    assert list(plain) == list(maps) and all(torch.equal(x, maps[name]) for name, x in plain.items())


def test_nothing_remembered_is_segments_by_themselves():
    model, video = make(), clips()
    other = video.clone()
    other[:, :, :4] = 1.0
    alone, changed = (maps_of(model, x, keep=0.0, frames=2)["blocks.2"] for x in (video, other))
    assert torch.equal(alone[:, :, 2:], changed[:, :, 2:]) and not torch.equal(alone[:, :, :2], changed[:, :, :2])


@pytest.mark.parametrize("method", CONSOLIDATIONS)
def test_the_past_is_seen_through_the_memory_and_the_future_is_not(method):
    model, video = make(), clips()
    settings = {"keep": 0.25, "frames": 2, "method": method}
    maps = maps_of(model, video, **settings)["blocks.2"]
    late, early = video.clone(), video.clone()
    late[:, :, 8:], early[:, :, :4] = 1.0, 1.0
    assert torch.equal(maps_of(model, late, **settings)["blocks.2"][:, :, :4], maps[:, :, :4])
    assert not torch.allclose(maps_of(model, early, **settings)["blocks.2"][:, :, 4:], maps[:, :, 4:], atol=1e-4)


def test_memory_is_short():
    seen = []

    class Watched(ConsolidatingEncoder):
        def consolidate(self, *args):
            k, v = super().consolidate(*args)
            seen.append(k.shape[2])
            return k, v

    list(Watched(make(), ConsolidationConfig(keep=0.25, frames=2)).iter_features(clips()))
    assert seen == [8, 8] * 3  # of 32 tokens a segment, after the first and the second, in each block


def test_a_coreset_covers_and_random_tokens_are_those_of_the_clip():
    line = torch.tensor([0.0, 1.0, 2.0, 9.0, 10.0])[None, :, None]
    assert choose_coreset(line, 2).rows.tolist() == [[0, 4]]  # 10 is farthest from the mean, 4.4, and 0 from 10
    assert choose_coreset(line, 3).rows.tolist() == [[0, 2, 4]]
    x = torch.randn(3, 20, 4, generator=torch.Generator().manual_seed(0))
    values, rows = choose_random(x, 7)
    assert torch.equal(values, x[:, rows[0]]) and len(rows[0].unique()) == 7 and torch.equal(rows[0], rows[2])


def test_clusters_that_are_plain_are_found():
    centers = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    noise = 0.1 * torch.randn(2, 30, 2, generator=torch.Generator().manual_seed(0))
    x = centers.repeat(10, 1) + noise
    means, rows = cluster_means(x, 3)
    for clip, found, places in zip(x, means, rows, strict=True):
        truth = torch.stack([clip[i::3].mean(0) for i in range(3)])
        order = torch.cdist(truth, found).argmin(1)
        assert torch.allclose(found[order], truth, atol=1e-5) and sorted((places % 3).tolist()) == [0, 1, 2]
    assert torch.allclose(cluster_means(x, 30)[0].sum(1), x.sum(1), atol=1e-4)  # each by itself
