"""Receptive fields read off the layers are those that a perturbation shows, position by position."""

import math

import pytest
import torch
from torch import nn

from vidgen.tokenizers.model import TokenizerConfig, VideoTokenizer
from vidgen.tokenizers.streaming.halos import (
    decoder_context,
    decoder_field,
    decoder_halo,
    encoder_field,
    encoder_halo,
)

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
    tokenizer = VideoTokenizer(TokenizerConfig(**SHAPES[request.param])).double().requires_grad_(False)
    assert tokenizer.training  # where NaN, which is what tells here, is let through
    return tokenizer


def spoil(x: torch.Tensor, axis: int, position: int) -> torch.Tensor:
    """NaN at one position: it reaches exactly what depends on it, however little."""
    x = x.clone()
    x.select(axis, position).fill_(math.nan)
    return x


@pytest.mark.parametrize("axis", [3, 4])
def test_encoder_sees_what_its_layers_say_in_space(tokenizer, axis):
    f, n = tokenizer.config.spatial_compression_ratio, tokenizer.config.temporal_compression_ratio
    span = (encoder_field(tokenizer).h, encoder_field(tokenizer).w)[axis - 3]
    cell = 1 - (span.first // f)  # a cell whose whole field, and a position more, lies in the frame
    size = [f, f]
    size[axis - 3] = (cell + 2 + span.last // f) * f
    video = torch.zeros(1, 3, n, *size, dtype=torch.float64)

    def reaches(offset: int) -> bool:
        hidden, _ = tokenizer.encode_hidden(spoil(video, axis, cell * f + offset), None, True)
        return hidden[:, :, 0].select(axis - 1, cell).isnan().any().item()

    seen = [reaches(offset) for offset in (span.first - 1, span.first, span.last, span.last + 1)]
    # A latent sees whole patches: the step out of its field is a step into the next patch.
    assert seen == [False, True, True, False]


@pytest.mark.parametrize("axis", [3, 4])
def test_decoder_sees_what_its_layers_say_in_space(tokenizer, axis):
    f = tokenizer.config.spatial_compression_ratio
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
    context, n, f = (
        decoder_context(tokenizer),
        tokenizer.config.temporal_compression_ratio,
        tokenizer.config.spatial_compression_ratio,
    )
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


ATTENTION = dict(TINY, backbone="transformer", head_dim=4, encoder_blocks=2, decoder_blocks=2)
ATTENDING = {
    "windows_2x2x2": dict(ATTENTION, patch_t=2, patch=2, widths=(8,), temporal=(), window=3, time_window=3),
    "windows_2x4x4": dict(ATTENTION, patch_t=1, patch=2, temporal=(True,), window=4, time_window=2, encoder_blocks=1),
    "frames_4x8x8": dict(TINY, temporal=(False,), attention=True),
}


def attending(shape: str) -> VideoTokenizer:
    torch.manual_seed(0)
    return VideoTokenizer(TokenizerConfig(**ATTENDING[shape])).double().eval().requires_grad_(False)


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("axis", [3, 4])
@pytest.mark.parametrize("way", ["encode", "decode"])
@pytest.mark.parametrize("shape", ["windows_2x2x2", "windows_2x4x4"])
def test_windows_see_what_their_layers_say_cell_by_cell(shape, way, axis):
    # Masked or not, a zero weight times NaN is NaN: here values change, and any bit that moves counts.
    tokenizer, cells = attending(shape), 19
    f = tokenizer.config.spatial_compression_ratio
    size = [1, 1]
    size[axis - 3] = cells
    if way == "encode":
        scale, field, x = f, encoder_field, noise(1, 3, 1, size[0] * f, size[1] * f)
        run = lambda x: tokenizer.encode_hidden(x, None, True)[0]  # noqa: E731
    else:
        scale, field, x = 1, decoder_field, noise(1, 4, 1, *size)
        run = lambda x: tokenizer.decode_chunk(x)[0]  # noqa: E731
    before = run(x).unflatten(axis, (cells, -1))
    seen = torch.zeros(cells, cells, dtype=torch.bool)
    for moved in range(cells):
        other = x.clone()
        other.narrow(axis, moved * scale, scale).neg_()
        after = run(other).unflatten(axis, (cells, -1))
        seen[:, moved] = (after != before).movedim(axis, 0).flatten(1).any(1)
    for cell in range(cells):
        span = field(tokenizer, cell).h if axis == 3 else field(tokenizer, cell).w
        said = [span.first // scale <= moved <= span.last // scale for moved in range(cells)]
        assert seen[cell].tolist() == said
    assert not seen.all()


@pytest.mark.parametrize("shape", ATTENDING)
def test_attending_decoders_remember_what_their_layers_say(shape):
    tokenizer = attending(shape)
    context, n = decoder_context(tokenizer), tokenizer.config.temporal_compression_ratio
    latents = noise(1, 4, context + 3, 1, 1)
    whole, _ = tokenizer.decode_chunk(latents)

    def reaches(position: int) -> bool:
        other = latents.clone()
        other[:, :, position].neg_()
        pixels, _ = tokenizer.decode_chunk(other)
        return not torch.equal(pixels[:, :, -n:], whole[:, :, -n:])

    assert [reaches(k) for k in (1, 2, context + 2)] == [False, True, True]
    part, _ = tokenizer.decode_chunk(latents[:, :, 2:])  # a decoder that starts there misses nothing
    assert (part[:, :, -n:] - whole[:, :, -n:]).abs().max() < 1e-10


def test_attention_in_closed_form():
    tokenizer = attending("windows_2x2x2")
    # Of 3 cells each: windows, then shifted ones with a border at 1; and a cell more for the output's convolution.
    halo = encoder_halo(tokenizer)
    assert halo.period == 3 and (encoder_field(tokenizer, 1).w.first, encoder_field(tokenizer, 1).w.last) == (-6, 11)
    # Two blocks that see two frames back each, and the convolution that latents come in through.
    assert decoder_context(tokenizer) == 2 * 2 + 2
    seeing = attending("frames_4x8x8")
    assert encoder_halo(seeing) is decoder_halo(seeing) is None and decoder_context(seeing) is not None
    assert encoder_field(seeing).t.first < 0 and encoder_field(seeing).h is None


class FrameMean(nn.Module):
    """A layer that sees the whole frame."""

    def forward(self, x, stream):
        return x + x.mean((3, 4), keepdim=True)


def test_a_layer_without_a_rule_sees_everything():
    tokenizer = VideoTokenizer(TokenizerConfig(**SHAPES["haar_4x8x8"]))
    tokenizer.decoder.layers.insert(0, FrameMean())
    tokenizer.encoder.layers[0].extra = FrameMean()  # a part that the rule of its block does not know
    assert decoder_halo(tokenizer) is encoder_halo(tokenizer) is decoder_context(tokenizer) is None
