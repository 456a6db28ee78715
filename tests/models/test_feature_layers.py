"""timm's way to features: any layers by number, in any layout, and nothing beyond the last that is asked for."""

import pytest
import torch
from einops import rearrange

from vidgen.errors import VidgenError
from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig
from vidgen.models.feature_layers import choose_indices
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    return VideoTokenizer(PRESETS["tiny"]).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def video():
    return torch.rand(2, 3, 5, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_tokenizers_intermediates_are_those_of_its_walk(tokenizer, video):
    out, found = tokenizer.forward_intermediates(video)
    walked = dict(tokenizer.iter_features(video))
    assert torch.equal(out, tokenizer.encode(video).latents) and len(found) == len(tokenizer.feature_info)
    for info, x in zip(tokenizer.feature_info, found, strict=True):
        assert torch.equal(x, rearrange(walked[info.name], "b c t h w -> b t h w c")) and x.shape[-1] == info.num_chs
    last, latents = tokenizer.forward_intermediates(video, indices=[-1, 0], output_fmt="BCTHW", intermediates_only=True)
    assert torch.equal(last, walked["encoder.layers.0"]) and torch.equal(latents, walked["latents"])


def test_a_denoisers_intermediates_and_its_result():
    torch.manual_seed(0)
    dit = VideoDiT(VideoDiTConfig(latent_channels=4, width=32, depth=4, head_dim=16, text_width=0)).eval()
    x, t, ran = torch.randn(2, 4, 2, 4, 6), torch.tensor([0.1, 0.9]), []
    hooks = [block.register_forward_hook(lambda *_: ran.append(1)) for block in dit.blocks]
    tokens = dit.forward_intermediates(x, t, indices=[1], output_fmt="BNC", intermediates_only=True)
    assert len(ran) == 2 and tokens[0].shape == (2, 2 * 2 * 3, 32)
    out, found = dit.forward_intermediates(x, t, indices=2)
    assert len(ran) == 6 and torch.equal(out, dit(x, t)) and len(found) == 2
    blocks = dict(dit.iter_features(x, t))
    assert torch.equal(found[0], blocks["blocks.2"]) and torch.equal(found[1], blocks["blocks.3"])
    assert torch.equal(tokens[0], rearrange(blocks["blocks.1"], "b t h w c -> b (t h w) c"))
    for hook in hooks:
        hook.remove()


def test_numbers_count_from_either_end():
    assert choose_indices(4, None) == [0, 1, 2, 3] and choose_indices(4, 3) == [1, 2, 3]
    assert choose_indices(4, [-1, 0, 3]) == [0, 3]
    for bad, words in ((5, "last 5 layers"), (0, "last 0"), ([4], "number 4"), ([-5], "number -5")):
        with pytest.raises(VidgenError, match=f"{words}.*has 4"):
            choose_indices(4, bad)


def test_a_format_that_is_not_there(tokenizer, video):
    with pytest.raises(VidgenError, match="NCHW.*BTHWC"):
        tokenizer.forward_intermediates(video, output_fmt="NCHW")
