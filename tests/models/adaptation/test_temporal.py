"""Image towers with attention over time: the frames' own features at the start, and inflated patches."""

import pytest
import torch
from einops import rearrange

from vidgen.errors import VidgenError
from vidgen.models.adaptation.adapted_encoder import AdaptedEncoder
from vidgen.models.adaptation.temporal import inflate_patches
from vidgen.models.encoders.efficientnet import EFFICIENTNET
from vidgen.models.encoders.loading import load_encoder
from vidgen.models.encoders.video_vit import VideoViT

TOWER = {"patch": (1, 4, 4), "clip": (1, 8, 8)}
TIME = {"width": 16, "head_dim": 8}


def adapt(encoder, **settings) -> AdaptedEncoder:
    return AdaptedEncoder(encoder, "temporal", TIME | settings, clip=(4, 8, 8), fps=8.0)


def shake(adapted: AdaptedEncoder) -> None:
    with torch.no_grad():
        for layer in adapted.adaptation.layers:
            layer.up.weight.copy_(torch.randn(layer.up.weight.shape, generator=torch.Generator().manual_seed(2)))


def frame_by_frame(encoder: VideoViT, video: torch.Tensor) -> dict[str, torch.Tensor]:
    maps = dict(encoder.iter_features(rearrange(video, "b c t h w -> (b t) c 1 h w")))
    return {name: rearrange(x, "(b t) c 1 h w -> b c t h w", b=len(video)) for name, x in maps.items()}


def test_the_start_is_every_frame_alone_to_the_bit(make, video):
    encoder = make(**TOWER)
    before = frame_by_frame(encoder, video)
    adapted = adapt(encoder)
    after = dict(adapted.iter_features(video))
    assert all(torch.equal(after[name], x) for name, x in before.items()) and len(after) == 2
    tokens = rearrange(before["blocks.1"], "b c t h w -> b (t h w) c")
    assert torch.equal(adapted(video), encoder.norm_out(tokens))
    assert adapted.grid_of(video) == (4, 2, 2)
    with pytest.raises(VidgenError, match="attention over time needs every token"):
        adapted.check_partial()


def test_then_frames_see_each_other_at_their_place(make, video):
    adapted = adapt(make(**TOWER), layers=["blocks.1"])
    shake(adapted)
    other = video.clone()
    other[:, :, 3, :4, :4] = 0.5  # the first patch of the last frame
    before, after = (dict(adapted.iter_features(x)) for x in (video, other))
    moved = (before["blocks.0"] - after["blocks.0"]).abs().amax((0, 1, 3, 4))
    assert moved[:3].eq(0).all() and moved[3] > 0  # no layer over time yet
    moved = (before["blocks.1"] - after["blocks.1"]).abs().amax((0, 1))
    assert (moved > 1e-4).all()
    order = torch.tensor([2, 0, 3, 1])
    shuffled = dict(adapted.iter_features(video[:, :, order]))["blocks.1"]
    assert not torch.allclose(shuffled, before["blocks.1"][:, :, order], atol=1e-4)  # time is told


def test_only_layers_over_time_are_trained_and_the_tower_is_as_it_was_afterwards(make, video):
    encoder = make(**TOWER)
    adapted = adapt(encoder)
    shake(adapted)
    adapted(video).square().sum().backward()
    d, w = 32, TIME["width"]
    attention = (w * w + w) + (2 * w * w + 2 * w) + (w * w + w) + 2 * TIME["head_dim"]
    per_layer = 2 * d + (d * w + w) + (w * d + d) + attention
    assert adapted.num_parameters(only_trainable=True) == 2 * per_layer
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in adapted.adaptation.parameters())
    assert all(x.grad is None for x in encoder.parameters())
    assert not any(module._forward_hooks for module in encoder.modules())


def test_hooks_go_where_a_walk_is_left_early(make, video):
    adapted = adapt(make(**TOWER))
    walk = adapted.iter_features(video)
    next(walk)
    walk.close()
    assert not any(module._forward_hooks for module in adapted.encoder.modules())


def test_an_inflated_encoder_sees_in_a_still_clip_what_it_saw_in_a_frame(make, video):
    encoder = make(**TOWER).double()
    frame = video[:, :, :1].double()
    before = encoder(frame)
    count = encoder.patch_in.weight.numel()
    patches = inflate_patches(encoder, 3)
    assert patches is encoder.patch_in and patches.weight.numel() == 3 * count
    still = frame.expand(-1, -1, 3, -1, -1)
    assert torch.allclose(encoder(still), before, atol=1e-12)
    moving = video[:, :, :3].double()
    assert not torch.allclose(encoder(moving), before, atol=1e-3)
    with pytest.raises(VidgenError, match="patches of one frame"):
        inflate_patches(encoder, 2)


def test_inflated_patches_are_trained_and_tubelets_are_frames(make, video):
    encoder = make(**TOWER)
    frame = video[:, :, :1]
    alone = encoder(frame)
    adapted = adapt(encoder, inflate=2)
    still = frame.expand(-1, -1, 4, -1, -1)
    assert torch.allclose(adapted(still), torch.cat([alone, alone], dim=1), atol=1e-5)
    assert adapted.config.patch == (2, 4, 4) and adapted.encoder.patch_in.weight.requires_grad
    adapted(video).square().sum().backward()
    assert adapted.adaptation.patch_in.weight.grad.abs().sum() > 0


@pytest.mark.slow
def test_a_tower_of_another_library(video):
    encoder = load_encoder(EFFICIENTNET)
    with torch.no_grad():
        before = dict(encoder.iter_features(video[:1, :, :2]))
        adapted = AdaptedEncoder(encoder, "temporal", TIME, clip=(2, 8, 8), fps=8.0)
        after = dict(adapted.iter_features(video[:1, :, :2]))
        assert all(torch.equal(x, after[name]) for name, x in before.items()) and len(after) == 6
        shake(adapted)
        assert not torch.allclose(adapted(video[:1, :, :2]).mean(1), before["last"].mean((2, 3, 4)), atol=1e-2)
    statistics = encoder.network.bn1.running_mean.clone()
    adapted.train()
    adapted(video[:1, :, :2])
    assert torch.equal(encoder.network.bn1.running_mean, statistics)
    assert adapted.config.width == 1280
    with pytest.raises(VidgenError, match="stand for no patches"):
        adapted.check_dense()
    with pytest.raises(VidgenError, match="stand for no patches"):
        adapted.grid_of(video)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layers": ["blocks.7"]}, "layer 'blocks.7' is not one of the tower's: blocks.0, blocks.1"),
        ({"inflate": 0}, "inflate"),
        ({"stars": 1}, "unknown keys stars"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(make, settings, words):
    with pytest.raises(VidgenError, match=words):
        adapt(make(**TOWER), **settings)


@pytest.mark.slow
def test_patches_of_other_libraries_are_not_inflated_nor_their_blocks_adapted():
    encoder = load_encoder(EFFICIENTNET)
    with pytest.raises(VidgenError, match="leave inflate out"):
        adapt(encoder, inflate=2)
    with pytest.raises(VidgenError, match="kind lora is for a VideoViT"):
        AdaptedEncoder(encoder, "lora", {}, clip=(4, 8, 8), fps=8.0)
