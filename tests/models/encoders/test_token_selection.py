"""Pruning: all kept is the encoder, what changes is kept, and what is not read neither changes nor costs anything."""

import pytest
import torch

from vidgen.checkpoints.hashing import model_hash
from vidgen.errors import VidgenError
from vidgen.interfaces import Encoder
from vidgen.models.encoders.reducers import REDUCERS, reduce_encoder
from vidgen.models.encoders.token_selection import SelectingEncoder, SelectionConfig, token_change
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig
from vidgen.representations.baselines import random_like


def make(**shape) -> VideoViT:
    torch.manual_seed(0)
    return VideoViT(VideoViTConfig(patch=(2, 4, 4), width=32, depth=3, head_dim=16, clip=(8, 16, 16), **shape)).eval()


def clips() -> torch.Tensor:
    return torch.rand(2, 3, 8, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def still(*places: tuple[int, int, int]) -> torch.Tensor:
    """Clips that stand still, but at these tokens (t, h, w), of 4 x 4 x 4, where something flashes."""
    video = torch.zeros(2, 3, 8, 16, 16)
    for t, h, w in places:
        video[:, :, 2 * t : 2 * t + 2, 4 * h : 4 * h + 4, 4 * w : 4 * w + 4] = 1.0
    return video


def test_change_is_the_difference_to_the_token_before():
    video = still((2, 1, 3))
    change = token_change(video, (2, 4, 4))
    assert change.shape == (2, 4, 4, 4) and change[0, 2, 1, 3] == 1.0 == change[0, 3, 1, 3] and change.sum() == 4
    assert token_change(video[:, :, :2], (2, 4, 4)).eq(0).all()


@pytest.mark.parametrize("unit", ["token", "frame", "tube"])
def test_all_kept_is_the_encoder(unit):
    model, video = make(), clips()
    encoder = SelectingEncoder(model, SelectionConfig(keep=1.0, unit=unit))
    assert isinstance(encoder, Encoder) and encoder.tokens_left(64) == [64] * 3
    plain, pruned = dict(model.iter_features(video)), dict(encoder.iter_features(video))
    assert list(plain) == list(pruned) and all(torch.allclose(x, pruned[k], atol=1e-5) for k, x in plain.items())


@pytest.mark.parametrize(
    ("unit", "keep", "places"),
    [
        ("token", 2 / 64, [2 * 16 + 1 * 4 + 3, 3 * 16 + 1 * 4 + 3]),
        ("frame", 0.5, list(range(32, 64))),
        ("tube", 1 / 16, [t * 16 + 7 for t in range(4)]),
    ],
)
def test_what_changes_is_kept_in_whole_units(unit, keep, places):
    encoder = SelectingEncoder(make(), SelectionConfig(keep=keep, unit=unit))
    assert encoder.choose(still((2, 1, 3))).tolist() == [places, places]
    assert encoder.tokens_left(64) == [len(places)] * 3


def test_the_mean_of_a_map_is_that_of_the_tokens_read():
    model, video = make(), clips()
    encoder = SelectingEncoder(model, SelectionConfig(keep=0.25))
    *_, stream = model.iter_tokens(video, encoder.choose(video))
    maps = dict(encoder.iter_features(video))["blocks.2"]
    assert stream.x.shape == (2, 16, 32) and maps.shape == (2, 32, 4, 4, 4)
    assert torch.allclose(maps.mean((2, 3, 4)), stream.x.mean(1), atol=1e-5)
    assert torch.equal(maps.flatten(2).mT.gather(1, stream.places[..., None].expand(-1, -1, 32)), stream.x)


def test_random_choice_is_of_the_size_and_not_of_the_clip():
    encoder = SelectingEncoder(make(), SelectionConfig(keep=0.25, criterion="random"))
    first, second = encoder.choose(clips())
    assert torch.equal(first, second) and len(first.unique()) == 16
    assert torch.equal(encoder.choose(still((0, 0, 0)))[0], first)


@pytest.mark.parametrize("name", REDUCERS)
def test_every_reducer_is_an_encoder_with_a_hash_of_its_own_and_a_random_twin(name):
    model, video = make(), clips()
    one, other = (reduce_encoder(model, f"{name}:{number}") for number in REDUCERS[name].curve[:2])
    assert isinstance(one, Encoder) and (one.num_frames, one.height, one.width, one.fps) == (8, 16, 16, 8.0)
    assert len({model_hash(model), model_hash(one), model_hash(other)}) == 3
    twin = random_like(one, seed=5)
    assert type(twin) is type(one) and twin.config == one.config
    maps, random = (dict(x.iter_features(video)) for x in (one, twin))
    assert all(maps[k].shape == (2, 32, 4, 4, 4) == random[k].shape and not maps[k].equal(random[k]) for k in maps)


@pytest.mark.parametrize("name", REDUCERS)
def test_shapes_are_known_without_memory(name):
    encoder = reduce_encoder(make().to("meta"), f"{name}:{REDUCERS[name].curve[0]}")
    maps = dict(encoder.iter_features(torch.empty(2, 3, 16, 16, 16, device="meta")))
    assert all(x.shape == (2, 32, 8, 4, 4) and x.is_meta for x in maps.values()) and len(maps) == 3


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("halve:0.5", "is no reduction; give NAME:NUMBER"),
        ("merge", "is no reduction"),
        ("merge:much", "'much' is no number"),
        ("merge:0.9", "share of the tokens left that merges.*ratio=0.9"),
        ("tokens:0", "keep=0.0"),
        ("frames:nan", "keep=nan"),
    ],
)
def test_what_is_no_reduction_is_one_line(text, line):
    with pytest.raises(VidgenError, match=line):
        reduce_encoder(make(), text)


def test_encoders_that_cannot_be_reduced_are_refused():
    with pytest.raises(VidgenError, match="reduces an encoder of"):
        reduce_encoder(reduce_encoder(make(), "merge:0.1"), "merge:0.1")
    with pytest.raises(VidgenError, match="mixer is factorised"):
        reduce_encoder(make(mixer="factorised"), "tokens:0.5")
    with pytest.raises(VidgenError, match="learns or selects its own"):
        reduce_encoder(make(selector_frames=2), "tokens:0.5")
