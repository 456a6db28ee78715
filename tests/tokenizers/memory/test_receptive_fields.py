"""Receptive fields read off the layers are those that a perturbation shows, position by position."""

import math

import pytest
import torch
from torch import nn

from vidgen.tokenizers.memory.receptive_fields import (
    decoder_context,
    decoder_field,
    decoder_halo,
    encoder_field,
    encoder_halo,
)
from vidgen.tokenizers.model import TokenizerConfig, VideoTokenizer

TINY = dict(latent_channels=4, widths=(8, 12), encoder_blocks=1, decoder_blocks=1)
SHAPES = {
    "haar_4x8x8": dict(TINY, temporal=(False,)),
    "strided_4x8x8": dict(TINY, patch_t=1, patch=2, widths=(8, 8, 12), temporal=(True, True)),
    "mixed_8x4x4": dict(TINY, patch_t=4, patch=2, temporal=(True,)),
    "full_2x4x4": dict(TINY, patch_t=2, patch=2, temporal=(False,), convolution="full", front_end="patch"),
    "frames_1x2x2": dict(TINY, patch_t=1, patch=2, widths=(8,), temporal=()),
}


@pytest.fixture(scope="module", params=SHAPES)
def tokenizer(request) -> VideoTokenizer:
    torch.manual_seed(0)
    return VideoTokenizer(TokenizerConfig(**SHAPES[request.param])).double().eval().requires_grad_(False)


def spoil(x: torch.Tensor, axis: int, position: int) -> torch.Tensor:
    """NaN at one position: it reaches exactly what depends on it, however little."""
    x = x.clone()
    x.select(axis, position).fill_(math.nan)
    return x


@pytest.mark.parametrize("axis", [3, 4])
def test_encoder_sees_what_its_layers_say_in_space(tokenizer, axis):
    f, n = tokenizer.config.ratio, tokenizer.config.ratio_t
    span = (encoder_field(tokenizer).h, encoder_field(tokenizer).w)[axis - 3]
    cell = 1 - (span.first // f)  # a cell whose whole field, and a position more, lies in the frame
    size = [f, f]
    size[axis - 3] = (cell + 2 + span.last // f) * f
    video = torch.zeros(1, 3, n, *size, dtype=torch.float64)

    def reaches(offset: int) -> bool:
        hidden, _ = tokenizer._encode_hidden(spoil(video, axis, cell * f + offset), None, True)
        return hidden[:, :, 0].select(axis - 1, cell).isnan().any().item()

    seen = [reaches(offset) for offset in (span.first - 1, span.first, span.last, span.last + 1)]
    # A latent sees whole patches: the step out of its field is a step into the next patch.
    assert seen == [False, True, True, False]


@pytest.mark.parametrize("axis", [3, 4])
def test_decoder_sees_what_its_layers_say_in_space(tokenizer, axis):
    f = tokenizer.config.ratio
    span = (decoder_field(tokenizer).h, decoder_field(tokenizer).w)[axis - 3]
    cell = 1 - span.first
    size = [1, 1]
    size[axis - 3] = cell + 2 + span.last
    latents = torch.zeros(1, 4, 1, *size, dtype=torch.float64)

    def reaches(offset: int) -> bool:
        pixels, _ = tokenizer.decode_chunk(spoil(latents, axis, cell + offset))
        return pixels.narrow(axis, cell * f, f).isnan().any().item()

    seen = [reaches(offset) for offset in (span.first - 1, span.first, span.last, span.last + 1)]
    assert seen == [False, True, True, False]


def test_decoder_remembers_what_its_layers_say(tokenizer):
    context, n, f = decoder_context(tokenizer), tokenizer.config.ratio_t, tokenizer.config.ratio
    latents = torch.zeros(1, 4, context + 3, 1, 1, dtype=torch.float64)

    def reaches(position: int) -> bool:
        pixels, _ = tokenizer.decode_chunk(spoil(latents, 2, position))
        last = pixels[:, :, 1 + (context + 1) * n :]  # frames of the last latent
        assert last.shape[2:] == (n, f, f)
        return last.isnan().any().item()

    assert [reaches(k) for k in (1, 2, context + 2)] == [False, True, True]


def test_known_closed_form():
    # One stage, one block: 2 convolutions and the output's, radius 3 cells of 2 pixels; and latents through one more.
    tokenizer = VideoTokenizer(TokenizerConfig(**SHAPES["frames_1x2x2"]))
    field = encoder_field(tokenizer)
    assert (field.w.first, field.w.last, field.t.first, field.t.last) == (-6, 7, -4, 0)
    assert encoder_halo(tokenizer).left == 3 and decoder_halo(tokenizer).below == 4
    assert decoder_context(tokenizer) == 6


class FrameMean(nn.Module):
    """A layer that sees the whole frame."""

    def forward(self, x, stream):
        return x + x.mean((3, 4), keepdim=True)


def test_a_layer_without_a_rule_sees_everything():
    tokenizer = VideoTokenizer(TokenizerConfig(**SHAPES["haar_4x8x8"]))
    tokenizer.decoder.layers.insert(0, FrameMean())
    tokenizer.encoder.layers[0].extra = FrameMean()  # a part that the rule of its block does not know
    assert decoder_halo(tokenizer) is encoder_halo(tokenizer) is decoder_context(tokenizer) is None
