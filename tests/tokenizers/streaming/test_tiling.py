"""Exact tiles give the untiled result, whatever the tiles and chunks; blended ones are a partition of unity."""

import pytest
import torch

from vidgen.tokenizers.model import TokenizerConfig, VideoTokenizer
from vidgen.tokenizers.streaming.halos import decoder_halo, encoder_halo
from vidgen.tokenizers.streaming.tiles import BlendedTiles, ExactTiles, cut_axis, ramp
from vidgen.tokenizers.streaming.tiling import decode_tiled, encode_tiled

TINY = dict(latent_channels=4, widths=(8, 12), encoder_blocks=1, decoder_blocks=1)
BLOCKS = dict(TINY, backbone="transformer", head_dim=4)
SHAPES = {
    "strided_4x8x8": dict(TINY, patch_t=1, patch=2, widths=(8, 8, 12), temporal=(True, True)),
    "mixed_8x4x4": dict(TINY, patch_t=4, patch=2, temporal=(True,)),
    "full_2x4x4": dict(TINY, patch_t=2, patch=2, temporal=(False,), convolution="full", front_end="patch"),
    "windows_4x4x4": dict(BLOCKS, patch=4, widths=(8,), temporal=(), window=3, time_window=3, encoder_blocks=2),
    "windows_2x4x4": dict(BLOCKS, patch_t=1, patch=2, temporal=(True,), window=4, time_window=2),
}


def make(shape: str) -> VideoTokenizer:
    torch.manual_seed(0)
    return VideoTokenizer(TokenizerConfig(**SHAPES[shape])).double().eval().requires_grad_(False)


@pytest.fixture(scope="module", params=SHAPES)
def tokenizer(request) -> VideoTokenizer:
    return make(request.param)


def clip(frames: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(1, 3, frames, height, width, generator=generator, dtype=torch.float64) * 2 - 1


def odd_size(tokenizer: VideoTokenizer) -> tuple[int, int]:
    """A frame that no tile with its halo covers, not a multiple of the ratio."""
    halo = max(encoder_halo(tokenizer).left, decoder_halo(tokenizer).left)
    return (2 * halo + 3) * tokenizer.config.spatial_compression_ratio - 3, (
        halo + 4
    ) * tokenizer.config.spatial_compression_ratio + 1


@pytest.mark.slow
def test_exact_tiles_equal_the_whole_in_any_chunks(tokenizer):
    height, width = odd_size(tokenizer)
    video, n = clip(11, height, width), tokenizer.config.temporal_compression_ratio
    whole, _ = tokenizer.encode_hidden(video, None, True)
    # Chunks that leave frames waiting, each in other tiles, one of them in none.
    state, parts = None, []
    pieces = ((0, 2, ExactTiles(rows=2, cols=99)), (2, 3, ExactTiles(rows=4, cols=3)), (3, 10, None))
    for start, stop, tiles in (*pieces, (10, 11, ExactTiles(rows=5, cols=2))):
        piece, last = video[:, :, start:stop], stop == 11
        if tiles is None:
            hidden, state = tokenizer.encode_hidden(piece, state, last)
        else:
            hidden, state = encode_tiled(tokenizer, piece, state, last, tiles)
        parts.append(hidden)
    assert (torch.cat(parts, dim=2) - whole).abs().max() < 1e-10

    latents, state, parts = whole[:, :4], None, []
    decoded, _ = tokenizer.decode_chunk(latents)
    assert decoded.shape[2] == 1 + (latents.shape[2] - 1) * n
    for k, tiles in enumerate([ExactTiles(rows=3, cols=2), ExactTiles(rows=2, cols=5)] * 9):
        if k < latents.shape[2]:
            x, state = decode_tiled(tokenizer, latents[:, :, k : k + 1], state, tiles)
            parts.append(x)
    assert (torch.cat(parts, dim=2) - decoded).abs().max() < 1e-10


def test_tiles_of_a_single_cell(tokenizer):
    f = tokenizer.config.spatial_compression_ratio
    video = clip(3, 3 * f - 1, 2 * f)
    whole, _ = tokenizer.encode_hidden(video, None, True)
    hidden, state = encode_tiled(tokenizer, video, None, True, ExactTiles(rows=1, cols=1))
    assert (hidden - whole).abs().max() < 1e-10 and state.pending is None


def test_segments_cover_an_axis_once():
    for length in range(1, 30):
        for size in range(1, 12):
            segments = cut_axis(length, size, 3, 2)
            assert [k for s in segments for k in range(s.start, s.stop)] == list(range(length))
            for s in segments:
                assert 1 <= s.stop - s.start <= size
                assert s.outer_start == max(0, s.start - 3) and s.outer_stop == min(length, s.stop + 2)
            for s in cut_axis(length, size, 3, 2, period=4):
                assert s.outer_start % 4 == 0 and max(0, s.start - 6) <= s.outer_start <= max(0, s.start - 3)


@pytest.mark.parametrize("scale", [1, 8])
def test_weights_of_blended_tiles_sum_to_one(scale):
    total = torch.zeros(23 * scale)
    for segment in cut_axis(23, 6, 2, 2):
        weights = ramp(segment, scale)
        assert weights.min() > 0 and weights.max() == 1
        total[segment.computed(scale)] += weights
    torch.testing.assert_close(total, torch.ones_like(total))


def test_blended_tiles_are_near_the_whole_and_the_same_in_any_chunks():
    tokenizer = make("mixed_8x4x4")
    tiles, video = BlendedTiles(rows=4, cols=6, overlap=2), clip(17, 42, 57)
    whole, _ = tokenizer.encode_hidden(video, None, True)
    once, _ = encode_tiled(tokenizer, video, None, True, tiles)
    state, parts = None, []
    for start, stop in ((0, 4), (4, 9), (9, 17)):
        hidden, state = encode_tiled(tokenizer, video[:, :, start:stop], state, stop == 17, tiles)
        parts.append(hidden)
    assert (torch.cat(parts, dim=2) - once).abs().max() < 1e-10
    error = (once - whole).square().mean().sqrt() / whole.std()
    assert 1e-6 < error < 0.2
    decoded, _ = tokenizer.decode_chunk(whole[:, :4])
    blended, _ = decode_tiled(tokenizer, whole[:, :4], None, tiles)
    assert 1e-6 < (blended - decoded).square().mean().sqrt() / decoded.std() < 0.2


def test_exact_tiles_are_refused_where_there_are_none():
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(TokenizerConfig(**dict(SHAPES["mixed_8x4x4"], attention=True))).double().eval()
    with pytest.raises(ValueError, match="sees the whole frame"):
        encode_tiled(tokenizer, clip(1, 16, 16), None, True, ExactTiles(rows=1, cols=1))
