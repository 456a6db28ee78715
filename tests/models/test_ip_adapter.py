"""Tokens of pictures: hidden they are not there, for every way a network reads text; each picture's are its own."""

from dataclasses import replace

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig
from vidgen.models.ip_adapter import IPAdapterConfig, IPAdapterEncoder, beside_text
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder
from vidgen.pipelines.wan.transformer import WanTransformer
from vidgen.pipelines.wan.transformer_config import WanTransformerConfig

TINY = IPAdapterConfig(latent_channels=4, text_width=16, tokens=3, width=16, depth=1, head_dim=16)
SHAPE = VideoDiTConfig(latent_channels=4, width=16, depth=2, head_dim=16, text_width=16)
WAN = WanTransformerConfig(
    num_attention_heads=1, attention_head_dim=16, in_channels=4, out_channels=4, text_dim=16, ffn_dim=64, num_layers=2
)
KINDS = {
    "cross": (VideoDiT, SHAPE),
    "filled": (WanTransformer, WAN),
    "joint": (VideoDiT, replace(SHAPE, text_attention="joint")),
}


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return IPAdapterEncoder(TINY).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def text():
    torch.manual_seed(1)
    encoder = ByteTextEncoder(ByteTextConfig(width=16, depth=1, head_dim=16)).eval().requires_grad_(False)
    return encoder(["it goes left", "a star"])  # of two lengths: there is padding


def make_network(kind):
    torch.manual_seed(2)
    network_class, config = KINDS[kind]
    network = network_class(config)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_pictures_are_not_there(encoder, text, kind):
    network, generator = make_network(kind), torch.Generator().manual_seed(3)
    x, pictures = (torch.randn(2, 4, t, 4, 4, generator=generator) for t in (2, 1))
    t, tokens = torch.tensor([0.3, 0.8]), encoder(pictures)
    plain = network(x, t, text)
    hidden = beside_text(text, tokens, torch.tensor([False, False]))
    assert not hidden.tokens[:, :3].any() and not hidden.mask[:, :3].any()
    torch.testing.assert_close(network(x, t, hidden), plain, atol=1e-5, rtol=1e-5)
    one = network(x, t, network.prepare_text(beside_text(text, tokens, torch.tensor([False, True]))))
    torch.testing.assert_close(one[0], plain[0], atol=1e-5, rtol=1e-5)
    assert (one[1] - plain[1]).abs().max() > 1e-3


def test_every_picture_has_tokens_of_its_own(encoder):
    for height, width in ((4, 4), (2, 6)):  # of any size
        pictures = torch.randn(3, 4, 1, height, width, generator=torch.Generator().manual_seed(4))
        tokens = encoder(pictures)
        assert tokens.shape == (3, 3, 16)
        torch.testing.assert_close(tokens[1:2], encoder(pictures[1:2]), atol=1e-6, rtol=1e-5)
        assert not torch.allclose(tokens[0], tokens[1], atol=1e-2)


def test_where_something_lies_is_seen(encoder):
    picture = torch.zeros(2, 4, 1, 4, 4)
    picture[0, :, :, 1, 1] = picture[1, :, :, 2, 2] = 3.0  # off the border, so that the neighbours are the same
    tokens = encoder(picture)
    assert not torch.allclose(tokens[0], tokens[1], atol=1e-4)


def test_save_and_load(encoder, tmp_path):
    encoder.save_pretrained(tmp_path / "image_prompt")
    again, picture = IPAdapterEncoder.from_pretrained(tmp_path / "image_prompt"), torch.randn(1, 4, 1, 4, 4)
    assert again.config == TINY and torch.equal(again(picture), encoder(picture))


def test_that_of_the_default_model_stays_under_a_megabyte():
    assert 2 * sum(p.numel() for p in IPAdapterEncoder(IPAdapterConfig()).parameters()) < 1e6


def test_what_is_no_picture_and_no_shape_is_named(encoder):
    for wrong in (torch.zeros(1, 4, 2, 4, 4), torch.zeros(1, 3, 1, 4, 4), torch.zeros(1, 4, 4, 4)):
        with pytest.raises(ValueError, match=r"are not those of single images, \(b, 4, 1, h, w\)"):
            encoder(wrong)
    for said, line in (
        ({"tokens": 0}, "tokens=0 is not a whole number from 1"),
        ({"head_dim": 12, "width": 24}, "a multiple of head_dim 12"),
    ):
        with pytest.raises(VidgenError, match=line):
            IPAdapterConfig(**said)
