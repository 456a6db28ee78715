"""Every ratio with every backbone; settings that go together; old settings keep their hash."""

import dataclasses

import pytest
import torch

from vidgen.checkpoints.hashing import _changed_fields
from vidgen.errors import VidgenError
from vidgen.tokenizers.backbones.convolutions import Stream
from vidgen.tokenizers.backbones.registry import BACKBONES
from vidgen.tokenizers.model import TokenizerConfig, VideoTokenizer
from vidgen.tokenizers.presets import PRESETS

TINY = dict(latent_channels=3, encoder_blocks=1, decoder_blocks=1)
HEADS = {
    "convolutional": {},
    "transformer": dict(head_dim=4, window=3, time_window=2),
    "wan": dict(front_end="patch"),
}


def reach(temporal_compression_ratio: int, ratio: int, patch_t: int) -> dict:
    """Settings for these ratios, with patches of `patch_t` frames and of two pixels."""
    steps, halvings = (ratio // 2).bit_length() - 1, (temporal_compression_ratio // patch_t).bit_length() - 1
    temporal = tuple(i < halvings for i in range(steps))
    return dict(TINY, patch=2, patch_t=patch_t, widths=(4,) * (steps + 1), temporal=temporal)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("ratio", [4, 8, 16, 32])
@pytest.mark.parametrize("temporal_compression_ratio", [1, 2, 4, 8])
def test_every_ratio(temporal_compression_ratio, ratio, backbone):
    # Time by strides as far as there are stages, and by patches alone.
    for patch_t in {max(1, temporal_compression_ratio // (ratio // 2)), temporal_compression_ratio}:
        if backbone == "wan" and patch_t > 1:
            continue
        config = TokenizerConfig(
            backbone=backbone, **HEADS[backbone], **reach(temporal_compression_ratio, ratio, patch_t)
        )
        assert (config.temporal_compression_ratio, config.spatial_compression_ratio) == (
            temporal_compression_ratio,
            ratio,
        )
        assert config.name == f"kl_causal_{temporal_compression_ratio}x{ratio}x{ratio}_3ch"
        tokenizer = VideoTokenizer(config).eval().requires_grad_(False)
        video = torch.rand(1, 3, temporal_compression_ratio + 2, ratio + 1, ratio) * 2 - 1
        encoded = tokenizer.encode(video)
        assert encoded.latents.shape == (
            1,
            3,
            1 + -(-(temporal_compression_ratio + 1) // temporal_compression_ratio),
            2,
            1,
        )
        assert tokenizer.decode(encoded).shape == video.shape


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_whole(name):
    with torch.device("meta"):  # shapes only
        tokenizer = VideoTokenizer(PRESETS[name])
    c = tokenizer.config
    with torch.no_grad():
        hidden, _ = tokenizer.encode_hidden(
            torch.empty(1, 3, 1 + c.temporal_compression_ratio, 40, 70, device="meta"), None, True
        )
        z = torch.empty(1, c.latent_channels, *hidden.shape[2:], device="meta")
        pixels, _ = tokenizer.decode_chunk(z)
    assert hidden.shape[1:] == (
        tokenizer.bottleneck.channels_in,
        2,
        -(-40 // c.spatial_compression_ratio),
        -(-70 // c.spatial_compression_ratio),
    )
    assert pixels.shape[2:] == (
        1 + c.temporal_compression_ratio,
        hidden.shape[3] * c.spatial_compression_ratio,
        hidden.shape[4] * c.spatial_compression_ratio,
    )
    strides = [layer.reduction for layer in tokenizer.feature_info]
    assert strides[-1] == (
        c.temporal_compression_ratio,
        c.spatial_compression_ratio,
        c.spatial_compression_ratio,
    ) and strides == sorted(strides)


@pytest.mark.parametrize("name", ["kl_causal_4x8x8_16ch_attention", "kl_causal_4x8x8_16ch_transformer"])
def test_walk_names_the_taps_of_every_backbone(name):
    small = dict(widths=(16,), head_dim=8) if "transformer" in name else dict(widths=(8, 12))
    config = dataclasses.replace(PRESETS[name], **small, encoder_blocks=1, decoder_blocks=1)
    tokenizer = VideoTokenizer(config).eval().requires_grad_(False)
    seen = dict(tokenizer.iter_features(torch.rand(1, 3, 9, 16, 24) * 2 - 1))
    assert list(seen) == [layer.name for layer in tokenizer.feature_info]
    for layer in tokenizer.feature_info:
        assert seen[layer.name].shape[1:] == (layer.num_chs, 3, 16 // layer.reduction[1], 24 // layer.reduction[2])


def test_a_fresh_network_keeps_the_size_of_signals():
    torch.manual_seed(0)
    config = TokenizerConfig(backbone="transformer", widths=(32, 64), head_dim=16, decoder_blocks=2)
    tokenizer = VideoTokenizer(config).eval().requires_grad_(False)
    hidden = tokenizer.encoder(torch.randn(1, 192, 3, 16, 16), Stream())
    assert 0.3 < hidden.std() < 3.0


def test_new_settings_leave_old_hashes_alone():
    assert _changed_fields(TokenizerConfig()) == {}
    assert set(_changed_fields(TokenizerConfig(attention=True))) == {"attention"}


WAN = dict(backbone="wan", front_end="patch", patch_t=1, temporal=(False,))
REFUSED = {
    "backbone='mamba' is unknown; choose one of convolutional, transformer, wan": dict(backbone="mamba"),
    "front_end='dct' is unknown; choose one of patch, haar": dict(front_end="dct"),
    "convolution='wavelet' is unknown; choose one of full, factorised": dict(convolution="wavelet"),
    "patch_t=3: front_end 'haar' needs a power of two": dict(patch_t=3),
    "patch=6: front_end 'haar' needs a power of two": dict(patch=6),
    "patch_t=0 is not a whole number from 1": dict(patch_t=0),
    "time_window=0 is not a whole number from 1": dict(backbone="transformer", widths=(64, 64), time_window=0),
    "decoder_blocks=2.0 is not a whole number from 1": dict(decoder_blocks=2.0),
    r"widths=\(\) is not a list of 1 to 8 items": dict(widths=(), temporal=()),
    r"temporal=\(True, True\): 2 widths halve height and width 1 times": dict(temporal=(True, True)),
    "backbone 'transformer' has no attention": dict(backbone="transformer", widths=(64, 64), attention=True),
    "backbone 'transformer' has no convolution": dict(backbone="transformer", widths=(64, 64), convolution="full"),
    "backbone 'convolutional' has no window": dict(window=4),
    "backbone 'convolutional' has no shortcuts": dict(shortcuts=True),
    "backbone 'wan' with patch_t=4 and front_end 'haar'": dict(backbone="wan"),
    r"widths=\(4, 5\): backbone 'wan' halves widths": dict(WAN, widths=(4, 5)),
    "widths 4 and 20: a shortcut cannot average": dict(WAN, widths=(4, 20, 20), temporal=(False,) * 2, shortcuts=True),
    "decoder widths 20 and 4: a shortcut cannot fill": dict(
        WAN, widths=(4, 4, 4), decoder_widths=(4, 4, 20), temporal=(False,) * 2, shortcuts=True
    ),
    r"decoder_widths=\(8,\): one for each of 2 stages": dict(decoder_widths=(8,)),
    r"widths=\(96, 144\) with head_dim=64": dict(backbone="transformer"),
    r"widths=\(96, 144\) with head_dim=6": dict(backbone="transformer", head_dim=6),
}


@pytest.mark.parametrize("says", REFUSED)
def test_settings_that_do_not_go_together_are_refused(says):
    with pytest.raises(VidgenError, match=f"^{says}[^\n]*$"), torch.device("meta"):
        VideoTokenizer(TokenizerConfig(**REFUSED[says]))


def test_a_ratio_that_is_no_power_of_two_takes_plain_patches():
    config = TokenizerConfig(**TINY, front_end="patch", patch_t=3, patch=5, widths=(4,), temporal=())
    video = torch.rand(1, 3, 5, 7, 11) * 2 - 1
    assert config.name == "kl_causal_3x5x5_3ch" and VideoTokenizer(config)(video).shape == video.shape
