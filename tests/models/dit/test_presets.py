"""What a VideoDiT computes, against its closed form, and the sizes that have names."""

from dataclasses import replace

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.dit.label_embedding import LabelConditioning
from vidgen.models.dit.presets import PRESETS, count_work, find_preset
from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig
from vidgen.profiling.flops import count_gflops

CONFIG = VideoDiTConfig(latent_channels=3, width=32, depth=2, head_dim=16, text_width=24)
T, H, W, WORDS = 3, 4, 6, 5  # latents, and tokens of text
N, S, D = T * H * W // 4, H * W // 4, 32  # patches, those of a frame, width


def by_hand(pairs: float, *, layers: int = 4, fed: int = 4) -> float:
    """Multiply-adds of two blocks whose self-attention has `pairs` of positions a block, with `layers` products of n by
    d by d, and of all that is around them."""
    block = layers * N * D * D + 2 * pairs * D + 2 * fed * N * D * D
    text = 2 * N * D * D + 2 * N * WORDS * D + 2 * WORDS * 24 * D
    level = 256 * D + D * D + 24 * D + 6 * D * D + 2 * D * D
    return 2 * (block + text) + level + 2 * 12 * N * D + 16 * N * D


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "pairs", "layers"),
    [
        ({}, N * N, 4),
        (dict(window=(1, 0, 0)), N * S, 4),
        (dict(attention="factorised"), (N * S + N * T) / 2, 4),
        (dict(attention="divided"), N * S + N * T, 8),
        (dict(attention="swapped"), N * N + N * S + N * T, 12),
    ],
)
def test_operations_are_those_of_the_closed_form(settings, pairs, layers):
    config = replace(CONFIG, **settings)
    work = count_work(config, (T, H, W), text_tokens=WORDS)
    assert work.gflops * 1e9 == pytest.approx(2 * by_hand(pairs, layers=layers), rel=1e-9)
    assert work.text_gflops * 1e9 == pytest.approx(2 * 2 * 2 * WORDS * 24 * D)
    assert work.parameters == sum(p.numel() for p in VideoDiT(config).parameters())
    three = count_work(config, (T, H, W), text_tokens=WORDS, batch=3).gflops * 1e9
    assert three == pytest.approx(3 * work.gflops * 1e9 - 2 * 2 * 16 * N * D)  # positions are the same for all


def test_counted_on_meta_as_on_numbers():
    config = replace(CONFIG, text_width=0, feature_channels=5, classes=3, frame_rate=True)
    model, x = VideoDiT(config), torch.zeros(1, 3, T, H, W)
    labels = LabelConditioning(class_id=torch.tensor([1]), frame_rate=torch.tensor([8.0]))
    given = {"features": torch.zeros(1, 5, T, H // 2, W // 2), "labels": labels}
    with torch.no_grad():
        real = count_gflops(lambda: model(x, torch.zeros(1), **given))
    of_labels = 2 * (256 * D + D * D) / 1e9
    assert count_work(config, (T, H, W)).gflops + of_labels == pytest.approx(real)


@pytest.mark.parametrize(
    ("config", "millions"),
    list(zip(PRESETS.values(), (28.22, 108.64, 372.39, 546.00), strict=True)),
)
def test_named_sizes(config, millions):
    """The number of parameters is linear in the depth, so two of the blocks tell that of all."""
    one, two = (count_work(replace(config, depth=depth), (1, 4, 4)).parameters for depth in (1, 2))
    assert (one + (config.depth - 1) * (two - one)) / 1e6 == pytest.approx(millions, abs=0.005)


def test_an_unknown_size_is_one_line():
    assert list(PRESETS) == ["S", "B", "L", "XL"] and find_preset("B") is PRESETS["B"]
    with pytest.raises(VidgenError, match="VideoDiT preset 'XXL' is unknown; choose one of S, B, L, XL"):
        find_preset("XXL")
