"""VideoViT: hidden tokens change nothing and cost nothing, layers come out as maps, what does not fit is refused."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.interfaces import ClipFormat, Encoder
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig, to_patches
from vidgen.models.heads.token_predictor import TokenPredictor, TokenPredictorConfig

SMALL = {"patch": (2, 4, 4), "width": 32, "depth": 2, "head_dim": 16, "clip": (4, 8, 8)}


def make(**shape) -> VideoViT:
    torch.manual_seed(0)
    return VideoViT(VideoViTConfig(**SMALL | shape)).eval()


def clips(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 4, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_a_patch_is_its_own_pixels():
    video = clips()
    patches = to_patches(video, (2, 4, 4))
    assert patches.shape == (2, 8, 96)
    last = video[0, :, 2:, 4:, 4:].permute(1, 2, 3, 0).flatten()
    assert torch.equal(patches[0, -1], last)


@pytest.mark.parametrize("mixer", ["joint", "scan"])
def test_pixels_of_hidden_tokens_change_nothing(mixer):
    model, video = make(mixer=mixer), clips()
    keep = torch.tensor([[0, 3, 6], [7, 1, 2]])
    tokens = model(video, keep)
    other = video.clone()
    hidden = [[i for i in range(8) if i not in row] for row in keep.tolist()]
    for clip, places in enumerate(hidden):
        for place in places:
            t, rest = divmod(place, 4)
            h, w = divmod(rest, 2)
            other[clip, :, 2 * t : 2 * t + 2, 4 * h : 4 * h + 4, 4 * w : 4 * w + 4] = 1.0
    assert not torch.equal(other, video) and torch.equal(model(other, keep), tokens)
    assert tokens.shape == (2, 3, 32)


def test_keeping_all_is_keeping_none_back():
    model, video = make(), clips()
    order = torch.stack([torch.randperm(8, generator=torch.Generator().manual_seed(i)) for i in range(2)])
    shuffled = model(video, order)
    assert torch.allclose(shuffled, model(video).gather(1, order[..., None].expand(-1, -1, 32)), atol=1e-5)


@pytest.mark.parametrize(
    "shape",
    [{}, {"mixer": "factorised"}, {"mixer": "local"}, {"mixer": "scan"}, {"in_channels": 5}, {"codebook_size": 7}],
)
def test_layers_are_maps_of_the_grid(shape):
    model = make(**shape)
    if shape.get("codebook_size"):
        video = torch.randint(0, 7, (2, 4, 8, 8))
    else:
        video = torch.randn(2, shape.get("in_channels", 3), 4, 8, 8)
    assert isinstance(model, Encoder) and isinstance(model, ClipFormat)
    maps = dict(model.iter_features(video))
    assert list(maps) == [info.name for info in model.feature_info]
    assert all(x.shape == (2, 32, 2, 2, 2) for x in maps.values())
    last, _ = model.forward_intermediates(video, indices=1, output_fmt="BNC")
    assert torch.allclose(model.norm_out(last.flatten(2).transpose(1, 2)), model(video), atol=1e-6)


def test_factorised_attention_mixes_frames_in_odd_blocks_alone():
    model, video = make(mixer="factorised", depth=1), clips()
    other = video.clone()
    other[:, :, 2:] = 0.0
    (_, one), (_, two) = (list(model.iter_features(x))[0] for x in (video, other))
    assert torch.equal(one[:, :, 0], two[:, :, 0])
    deep = make(mixer="factorised", depth=2)
    one, two = (list(deep.iter_features(x))[1][1] for x in (video, other))
    assert not torch.allclose(one[:, :, 0], two[:, :, 0], atol=1e-5)


def test_places_are_told_apart_though_all_pixels_are_equal():
    tokens = make()(torch.zeros(1, 3, 4, 8, 8))[0]
    distances = torch.cdist(tokens, tokens) + torch.eye(8)
    assert distances.min() > 1e-3


def test_what_does_not_fit_is_said():
    with pytest.raises(VidgenError, match="no multiple of the encoder's patches"):
        make()(torch.zeros(1, 3, 5, 8, 8))
    with pytest.raises(VidgenError, match="choose joint or scan"):
        make(mixer="factorised")(clips(), torch.zeros(2, 1, dtype=torch.int64))
    with pytest.raises(VidgenError, match="must be a multiple of head_dim"):
        VideoViTConfig(width=100, head_dim=48)


def test_a_saved_encoder_is_the_same(tmp_path):
    model = make()
    model.save_pretrained(tmp_path / "encoder")
    assert torch.equal(VideoViT.from_pretrained(tmp_path / "encoder").eval()(clips()), model(clips()))


def test_a_predictor_answers_by_place_and_context():
    torch.manual_seed(0)
    predictor = TokenPredictor(TokenPredictorConfig(context_width=32, channels=5, width=32, head_dim=16))
    context, keep = torch.randn(2, 3, 32), torch.tensor([[0, 1, 2], [3, 4, 5]])
    asked = torch.tensor([[6, 7], [0, 7]])
    out = predictor(context, keep, asked, (2, 2, 2))
    assert out.shape == (2, 2, 5)
    swapped = predictor(context, keep, asked.flip(1), (2, 2, 2))
    assert torch.allclose(swapped.flip(1), out, atol=1e-5)
    permuted = predictor(context[:, [2, 0, 1]], keep[:, [2, 0, 1]], asked, (2, 2, 2))
    assert torch.allclose(permuted, out, atol=1e-5)  # a set of tokens with places
    assert not torch.allclose(predictor(context + 1.0, keep, asked, (2, 2, 2)), out, atol=1e-3)
