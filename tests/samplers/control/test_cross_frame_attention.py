"""Frames that are the same are made as without it; every frame sees the first one, and the first is as if alone."""

from dataclasses import replace

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig
from vidgen.models.text.encoders import TextEncoding
from vidgen.pipelines.wan.transformer import WanTransformer
from vidgen.pipelines.wan.transformer_config import WanTransformerConfig
from vidgen.samplers.control.cross_frame_attention import cross_frame_attention

CONFIG = VideoDiTConfig(latent_channels=4, width=32, depth=2, head_dim=16, text_width=8)


def randomized(model):
    g = torch.Generator().manual_seed(0)
    for value in model.parameters():
        value.data = value + 0.2 * torch.randn(value.shape, generator=g)
    return model.double().eval().requires_grad_(False)


def make_wan():
    config = WanTransformerConfig(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        text_dim=8,
        ffn_dim=72,
        num_layers=2,
    )
    return WanTransformer(config)


@pytest.fixture(scope="module", params=["VideoDiT", "Wan"])
def model(request):
    return randomized(VideoDiT(CONFIG) if request.param == "VideoDiT" else make_wan())


def inputs(rows, groups=1):
    g = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 4, 1, 4, 4, dtype=torch.float64, generator=g)
    tokens = torch.randn(groups, 5, 8, dtype=torch.float64, generator=g).repeat_interleave(rows // groups, dim=0)
    text = TextEncoding(tokens=tokens, mask=torch.ones(rows, 5, dtype=torch.bool))
    return x, torch.full((rows,), 0.5, dtype=torch.float64), text


def test_equal_frames_are_made_as_without_it(model):
    x, t, text = inputs(3)
    x = x[:1].expand_as(x)
    plain = model(x, t, text=text)
    for own in (False, True):  # a key that is there twice with its value changes no mean
        with cross_frame_attention(model, 3, own=own):
            assert torch.allclose(model(x, t, text=text), plain, atol=1e-12)
    assert torch.equal(model(x, t, text=text), plain)  # and after it, all is as before


def test_the_first_frame_is_as_alone_and_is_all_that_others_see(model):
    x, t, text = inputs(3)
    plain, changed = model(x, t, text=text), x.clone()
    changed[1] += 1.0
    with cross_frame_attention(model, 3):
        out, other = model(x, t, text=text), model(changed, t, text=text)
    assert torch.allclose(out[0], plain[0], atol=1e-12) and not torch.allclose(out[1:], plain[1:], atol=1e-3)
    assert torch.allclose(other[[0, 2]], out[[0, 2]], atol=1e-12) and not torch.allclose(other[1], out[1], atol=1e-3)


def test_groups_of_one_pass_are_those_of_two(model):
    # guided and unguided passes go through the network as one batch
    x, t, text = inputs(6, groups=2)
    with cross_frame_attention(model, 3):
        both = model(x, t, text=text)
        parts = [model(x[i], t[i], text=TextEncoding(tokens=text.tokens[i], mask=text.mask[i])) for i in SLICES]
    assert torch.allclose(both, torch.cat(parts), atol=1e-12)


SLICES = (slice(0, 3), slice(3, 6))


def test_no_blocks_are_none_and_others_are_refused(model):
    x, t, text = inputs(2)
    with cross_frame_attention(model, 2, blocks=[]):
        assert torch.equal(model(x, t, text=text), model(x, t, text=text))
    with pytest.raises(VidgenError, match=r"blocks \[2\]: this model's are 0 to 1"):
        cross_frame_attention(model, 2, blocks=[2])
    with pytest.raises(VidgenError, match="has no self-attention of its own"):
        cross_frame_attention(torch.nn.Linear(2, 2), 2)
    with pytest.raises(VidgenError, match="has no self-attention of its own"):
        cross_frame_attention(VideoDiT(replace(CONFIG, text_attention="joint")), 2)
