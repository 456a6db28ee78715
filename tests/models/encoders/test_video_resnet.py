"""VideoResNet: without time it is a network of frames, it sees as far as its kernels reach, layers are as described."""

import pytest
import torch
import torch.nn.functional as F

from vidgen.errors import VidgenError
from vidgen.interfaces import ClipFormat, Encoder
from vidgen.models.encoders.video_resnet import VideoResNet, VideoResNetConfig, factorised_channels, make_convolution
from vidgen.pipelines.loading import load_feature_encoder

SMALL = {"patch": (2, 4, 4), "width": 32, "depth": 3, "clip": (4, 16, 16)}


def make(**shape) -> VideoResNet:
    torch.manual_seed(0)
    return VideoResNet(VideoResNetConfig(**SMALL | shape)).eval()


def clips(count: int = 2, frames: int = 4, side: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, frames, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def keep_one_tap(model: VideoResNet) -> None:
    """Make every kernel over time a delta."""
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv3d) and layer.kernel_size == (3, 1, 1):
            with torch.no_grad():
                layer.weight[:, :, [0, 2]] = 0.0


@torch.no_grad()
def test_with_deltas_over_time_it_is_a_network_of_frames():
    model, video = make(patch=(1, 4, 4)), clips()
    frames = [model(video[:, :, [t]]).unflatten(1, (1, 16)) for t in range(4)]
    assert not torch.allclose(model(video).unflatten(1, (4, 16)), torch.cat(frames, dim=1), atol=1e-3)
    keep_one_tap(model)
    frames = [model(video[:, :, [t]]).unflatten(1, (1, 16)) for t in range(4)]
    assert torch.allclose(model(video).unflatten(1, (4, 16)), torch.cat(frames, dim=1), atol=1e-5)


@torch.no_grad()
def test_a_factorised_convolution_is_one_of_frames_and_then_one_of_time():
    video, (space, norm, _, time) = clips(), make_convolution("2plus1d", 3, 8, (2, 2, 2))
    layer = torch.nn.Sequential(space, norm, torch.nn.ReLU(), time)
    frames = video.transpose(1, 2).flatten(0, 1)
    x = F.conv2d(frames, space.weight[:, :, 0], stride=2, padding=1)
    x = F.relu(F.layer_norm(x.movedim(1, -1), x.shape[1:2])).movedim(-1, 1).unflatten(0, (2, 4)).transpose(1, 2)
    columns = x.permute(0, 3, 4, 1, 2).flatten(0, 2)  # each place over time
    columns = F.conv1d(columns, time.weight[..., 0, 0], stride=2, padding=1)
    expected = columns.unflatten(0, (2, 64)).permute(0, 2, 3, 1).unflatten(3, (8, 8))
    assert torch.allclose(layer(video), expected, atol=1e-5)


@pytest.mark.parametrize(("channels_in", "channels_out"), [(3, 16), (16, 16), (16, 32), (64, 128)])
def test_both_kinds_have_as_many_weights(channels_in, channels_out):
    middle = factorised_channels(channels_in, channels_out)
    whole, each = 27 * channels_in * channels_out, 9 * channels_in + 3 * channels_out
    assert middle * each <= whole < (middle + 1) * each


@pytest.mark.parametrize("convolution", ["2plus1d", "3d"])
def test_it_sees_as_far_as_its_kernels_reach(convolution):
    # A stem of 3 that halves space, and a block of two of 3: 1 + 3 * 2 frames, 3 + 2 * 2 * 2 pixels.
    model = make(patch=(1, 2, 2), depth=1, convolution=convolution).double()
    video = clips(1, frames=11, side=32).double().requires_grad_()
    _, x = next(iter(model.iter_features(video)))
    x[0, :, 5, 8, 8].square().sum().backward()
    seen = video.grad.abs().sum((0, 1)) > 0
    times, rows, columns = (seen.any(dim=d).nonzero().flatten().tolist() for d in ((1, 2), (0, 2), (0, 1)))
    assert times == list(range(2, 9)) and rows == columns == list(range(11, 22))


@torch.no_grad()
@pytest.mark.parametrize("convolution", ["2plus1d", "3d"])
def test_it_is_saved_and_loaded_and_no_clip_sees_another(convolution, tmp_path):
    model, video = make(convolution=convolution), clips()
    model.save_pretrained(tmp_path / "model")
    again = load_feature_encoder(str(tmp_path / "model"))
    assert isinstance(again, VideoResNet) and isinstance(again, Encoder) and isinstance(again, ClipFormat)
    assert (again.num_frames, again.height, again.width, again.fps) == (4, 16, 16, 8.0) and again.config == model.config
    assert torch.equal(again(video), model(video)) and again(video).shape == (2, 2 * 4 * 4, 32)
    assert torch.allclose(model.train().double()(video.double())[:1], model(video[:1].double()), atol=1e-12)


@torch.no_grad()
def test_layers_are_what_they_say():
    model = make(depth=5, patch=(2, 8, 8), width=32, clip=(4, 16, 16))
    info = {x.name: x for x in model.feature_info}
    shapes = {name: tuple(x.shape[1:]) for name, x in model.iter_features(clips())}
    assert list(shapes) == list(info) == [f"blocks.{i}" for i in range(5)]
    for name, (channels, *grid) in shapes.items():
        assert channels == info[name].num_chs
        assert grid == [n // r for n, r in zip((4, 16, 16), info[name].reduction, strict=True)]
    assert [x.num_chs for x in info.values()] == [8, 8, 16, 16, 32] and info["blocks.4"].reduction == (2, 8, 8)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"patch": (2, 8, 4)}, "powers of two"),
        ({"patch": (2, 6, 6)}, "powers of two"),
        ({"patch": (8, 4, 4)}, "frames <= both"),
        ({"patch": (2, 1, 1)}, "height = width >= 2"),
        ({"depth": 1}, "less than the 2 stages"),
        ({"width": 33}, "not to be halved 1 times"),
        ({"convolution": "4d"}, "convolution"),
    ],
)
def test_shapes_that_cannot_be_are_refused(shape, words):
    with pytest.raises(VidgenError, match=words):
        make(**shape)
    with pytest.raises(VidgenError, match="needs every token, and a mask hides some; choose vit"):
        make()(clips(), torch.zeros(2, 3, dtype=torch.long))
    with pytest.raises(VidgenError, match="no multiple of the encoder's patches"):
        make()(clips(frames=3))
