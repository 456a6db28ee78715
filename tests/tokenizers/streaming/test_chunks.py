"""The guarantees of the tokenizer: causal, exact in any chunks, no frame lost, state as data."""

import pickle
import re

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.tokenizers.bottlenecks import BOTTLENECKS, Quantizer
from vidgen.tokenizers.model import TokenizerConfig, VideoTokenizer

TINY = dict(latent_channels=4, widths=(8, 12), encoder_blocks=1, decoder_blocks=1)
WAN = dict(TINY, backbone="wan", front_end="patch", patch_t=1, patch=1, widths=(4, 8, 8, 8))
BLOCKS = dict(TINY, backbone="transformer", encoder_blocks=2, decoder_blocks=2, head_dim=4)
SHAPES = {
    "haar_4x8x8": dict(TINY, temporal=(False,)),
    "strided_4x8x8": dict(TINY, patch_t=1, patch=2, widths=(8, 8, 12), temporal=(True, True)),
    "mixed_8x4x4": dict(TINY, patch_t=4, patch=2, temporal=(True,)),
    "full_2x4x4": dict(TINY, patch_t=2, patch=2, temporal=(False,), convolution="full", front_end="patch"),
    "frames_1x4x4": dict(TINY, patch_t=1, patch=2, temporal=(False,)),
    "attention_4x8x8": dict(TINY, temporal=(False,), attention=True),
    "attention_8x8x8": dict(TINY, temporal=(True,), attention=True, convolution="full"),
    "transformer_4x8x8": dict(BLOCKS, patch=8, widths=(16,), temporal=(), window=2, time_window=3),
    "transformer_stages_4x4x4": dict(BLOCKS, patch_t=2, patch=2, temporal=(True,), window=3, time_window=4),
    "transformer_frames_1x4x4": dict(BLOCKS, patch_t=1, patch=4, widths=(8,), temporal=(), window=4, time_window=2),
    "wan_4x8x8": dict(WAN, temporal=(False, True, True)),
    "wan_shortcuts_4x16x16": dict(WAN, temporal=(False, True, True), patch=2, shortcuts=True),
}
SETTINGS = {
    "vq": dict(codebook_size=64),
    "fsq": dict(levels=(8, 5, 4, 2)),
    "residual": dict(codebook_size=16, quantizers=3),
    "residual_fsq": dict(bottleneck="residual", levels=(4, 3, 4, 2), quantizers=2),
}
# Bottlenecks work position by position, whatever the backbone: all of them with every kind, not with every shape.
FEW = ("attention_8x8x8", "transformer_stages_4x4x4", "transformer_frames_1x4x4")
ALL = (*BOTTLENECKS, "residual_fsq")
CASES = [(s, b) for s in SHAPES for b in (("kl",) if s.startswith("wan") else ("kl", "vq") if s in FEW else ALL)]


def make(shape: str, bottleneck: str = "kl") -> VideoTokenizer:
    torch.manual_seed(0)
    settings = {"bottleneck": bottleneck, **SETTINGS.get(bottleneck, {})}
    tokenizer = VideoTokenizer(TokenizerConfig(**settings, **SHAPES[shape])).double()
    tokenizer.latents_mean.normal_()
    tokenizer.latents_std.uniform_(0.5, 2.0)
    return tokenizer.eval().requires_grad_(False)


def clip(frames: int, height: int = 16, width: int = 16, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, frames, height, width, generator=generator, dtype=torch.float64) * 2 - 1


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def tokenizer(request) -> VideoTokenizer:
    return make(*request.param)


@pytest.mark.slow
def test_any_length_and_size_comes_back(tokenizer):
    for frames, height, width in [(1, 1, 1), (2, 16, 16), (5, 17, 9), (6, 8, 31), (9, 19, 21), (17, 16, 16)]:
        video = clip(frames, height, width)
        encoded = tokenizer.encode(video)
        assert encoded.latents.shape[2] == 1 + -(-(frames - 1) // tokenizer.config.temporal_compression_ratio)
        assert tokenizer.decode(encoded).shape == video.shape


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_every_length_in_chunks(shape):
    tokenizer = make(shape)
    for frames in range(1, 41):
        video, size = clip(frames, 7, 11), 1 + frames % 6
        whole = tokenizer.encode(video)
        assert (tokenizer.encode(video, chunk_frames=size).latents - whole.latents).abs().max() < 1e-10
        decoded = tokenizer.decode(whole)
        assert decoded.shape == video.shape
        assert (tokenizer.decode(whole, chunk_latents=size) - decoded).abs().max() < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("frames", [1, 2, 7, 13, 18])
def test_whole_equals_any_chunks(tokenizer, frames):
    video = clip(frames, 17, 9)
    whole = tokenizer.encode(video)
    decoded = tokenizer.decode(whole)
    for size in (1, 2, 3, 5, 8):
        encoded = tokenizer.encode(video, chunk_frames=size)
        assert (encoded.latents - whole.latents).abs().max() < 1e-10
        assert (encoded.indices is None) == (whole.indices is None)
        assert whole.indices is None or torch.equal(encoded.indices, whole.indices)
        assert (tokenizer.decode(whole, chunk_latents=size) - decoded).abs().max() < 1e-10


@pytest.mark.slow
def test_encode_chunk_by_hand_equals_whole_with_state_pickled(tokenizer):
    video, state, parts = clip(11), None, []
    for start, stop in [(0, 1), (1, 1), (1, 6), (6, 7), (7, 11)]:
        z, state = tokenizer.encode_chunk(video[:, :, start:stop], state) if stop > start else (None, state)
        state = pickle.loads(pickle.dumps(state))
        parts += [] if z is None else [z]
    z, state = tokenizer.encode_chunk(video[:, :, :0], state, last=True)
    assert state.pending is None
    latents = torch.cat([*parts, z], dim=2)
    assert (latents - tokenizer.encode(video).latents).abs().max() < 1e-10


@pytest.mark.slow
def test_two_clips_may_interleave(tokenizer):
    a, b = clip(9, seed=1), clip(9, seed=2)
    za, state_a = tokenizer.encode_chunk(a[:, :, :5])
    zb, state_b = tokenizer.encode_chunk(b[:, :, :5])
    za2, _ = tokenizer.encode_chunk(a[:, :, 5:], state_a, last=True)
    zb2, _ = tokenizer.encode_chunk(b[:, :, 5:], state_b, last=True)
    assert (torch.cat([za, za2], 2) - tokenizer.encode(a).latents).abs().max() < 1e-10
    assert (torch.cat([zb, zb2], 2) - tokenizer.encode(b).latents).abs().max() < 1e-10


def test_the_past_does_not_see_the_future(tokenizer):
    n, video = tokenizer.config.temporal_compression_ratio, clip(13)
    encoded = tokenizer.encode(video)
    decoded = tokenizer.decode(encoded)
    moved = []
    for k in range(13):
        changed = video.clone()
        changed[:, :, k] = -changed[:, :, k]
        cell = 0 if k == 0 else 1 + (k - 1) // n  # the latent frame that holds frame k
        first = 0 if cell == 0 else 1 + (cell - 1) * n  # the first frame decoded from it
        after = tokenizer.encode(changed)
        assert torch.equal(after.latents[:, :, :cell], encoded.latents[:, :, :cell])
        moved.append(not torch.equal(after.latents[:, :, cell], encoded.latents[:, :, cell]))
        assert torch.equal(tokenizer.decode(after)[:, :, :first], decoded[:, :, :first])
    # One frame of four does not always move a code.
    assert sum(moved) > 6 if isinstance(tokenizer.bottleneck, Quantizer) else all(moved)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_chunks_agree_in_lower_precision(dtype, tolerance, shape):
    tokenizer = make(shape).to(dtype)
    video = clip(13, 24, 40).to(dtype)
    whole, parts = tokenizer.encode(video), tokenizer.encode(video, chunk_frames=3)
    scale = whole.latents.float().abs().max()
    assert (whole.latents.float() - parts.latents.float()).abs().max() / scale < tolerance
    frames, pieces = tokenizer.decode(whole).float(), tokenizer.decode(whole, chunk_latents=1).float()
    assert (frames - pieces).abs().max() / frames.abs().max() < tolerance


@pytest.mark.parametrize("shape", SHAPES)
def test_state_does_not_grow_with_length(shape):
    tokenizer, state, decoding, sizes = make(shape), None, None, []
    for start in range(0, 72, 8):
        z, state = tokenizer.encode_chunk(clip(72)[:, :, start : start + 8], state)
        _, decoding = tokenizer.decode_chunk(z, decoding)
        sizes.append([sum(v.untyped_storage().nbytes() for v in s.cache.values()) for s in (state, decoding)])
    assert sizes[0][0] > 0 and all(size == sizes[0] for size in sizes)


def test_keys_and_values_of_the_bounded_past_are_the_state():
    tokenizer = make("transformer_4x8x8")
    _, state = tokenizer.encode_chunk(clip(33))
    blocks = {f"encoder.layers.{i}.time" for i in range(2)}
    assert set(state.cache) == blocks
    # Of both, 16 channels for two frames of 2x2 cells.
    assert {tuple(v.shape) for v in state.cache.values()} == {(1, 2 * 16, 2, 2, 2)}


@pytest.mark.parametrize(
    ("video", "says"),
    [
        (torch.zeros(1, 3, 0, 8, 8), "shape (1, 3, 0, 8, 8)"),
        (torch.zeros(1, 3, 1, 0, 8), "shape (1, 3, 1, 0, 8)"),
        (torch.zeros(1, 4, 1, 8, 8), "shape (1, 4, 1, 8, 8)"),
        (torch.zeros(3, 1, 8, 8), "shape (3, 1, 8, 8)"),
        (torch.full((1, 3, 1, 8, 8), 255.0), "span [255, 255]; pixels must be finite and in [-1, 1]"),
        (torch.full((1, 3, 1, 8, 8), -1.02), "span [-1.02, -1.02]; pixels must be finite and in [-1, 1]"),
        (torch.zeros(1, 3, 2, 8, 8).index_fill(2, torch.tensor(1), float("nan")), "span [nan, nan]"),
    ],
)
def test_bad_video_is_refused(video, says):
    tokenizer = make("haar_4x8x8")
    for encode in (tokenizer.encode, tokenizer.encode_chunk):
        with pytest.raises(VidgenError, match=re.escape(says)):
            encode(video)
    assert tokenizer.encode(torch.full((1, 3, 1, 8, 8), 1.004)).latents.isfinite().all()  # rounding at 1 is not refused


def test_latents_of_another_length_are_refused():
    import dataclasses

    tokenizer = make("haar_4x8x8")
    encoded = tokenizer.encode(clip(9))
    with pytest.raises(VidgenError, match="do not hold 30 frames"):
        tokenizer.decode(dataclasses.replace(encoded, num_frames=30))
