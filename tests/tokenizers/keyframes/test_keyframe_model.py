"""Key frames and motion: every length and size comes back, chunks give the whole, the past stays, nothing is silent."""

import dataclasses
import pickle

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.tokenizers.keyframes.codes import cut_groups, join_codes
from vidgen.tokenizers.keyframes.config import KeyframeConfig
from vidgen.tokenizers.keyframes.model import KeyframeTokenizer
from vidgen.tokenizers.model import VideoTokenizer

DISCRETE = {
    "fsq": {},
    "vq": {"levels": (), "codebook_size": 16},
    "residual": {"levels": (), "codebook_size": 8, "quantizers": 2},
}
BOTTLENECKS = DISCRETE | {"kl": {"levels": ()}, "ae": {"levels": ()}}


def clip(num_frames: int, height: int = 13, width: int = 21, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(num_frames)
    return torch.rand(batch, 3, num_frames, height, width, dtype=torch.float64, generator=generator) * 2 - 1


@pytest.mark.slow
@pytest.mark.parametrize("num_frames", range(1, 21))
def test_any_length_comes_back_with_a_token_a_block(tokenizer_of, num_frames):
    model, video = tokenizer_of(), clip(num_frames, batch=2)
    codes = model.encode(video)
    keys = -(-num_frames // 4)
    assert codes.key_latents.shape == (2, 4, keys, 2, 3)  # 13x21 by 8 pixels
    assert codes.motion_indices.shape == (2, num_frames - keys, 2, 3) and codes.key_indices is None
    decoded = model.decode(codes)
    assert decoded.shape == video.shape and decoded.isfinite().all()
    assert torch.allclose(model.decode(codes, chunk_frames=1), decoded, atol=1e-10)
    assert torch.equal(model.encode(video, chunk_frames=5).motion_indices, codes.motion_indices)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (7, 9), (16, 33), (31, 8)])
def test_any_size_comes_back(tokenizer_of, size):
    video = clip(6, *size)
    model = tokenizer_of()
    assert model.decode(model.encode(video)).shape == video.shape


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_every_bottleneck_carries_motion(tokenizer_of, tmp_path, name):
    model, video = tokenizer_of(bottleneck=name, **BOTTLENECKS[name]), clip(6)
    model.motion_mean.normal_(), model.motion_std.uniform_(0.5, 2.0)
    for t in (1, 6):
        codes = model.encode(video[:, :, :t])
        assert (codes.motion_indices is not None) == (name in DISCRETE)
        if t > 1 and name in DISCRETE:
            assert torch.allclose(model.motion_from_indices(codes.motion_indices), codes.motion_latents, atol=1e-6)
        assert model.decode(codes).shape == (1, 3, t, 13, 21)
    if name not in DISCRETE:
        with pytest.raises(VidgenError, match="no motion indices"):
            model.motion_from_indices(torch.zeros(1, 1, 2, 3, dtype=torch.long))
    model.save_pretrained(tmp_path / "model")
    again = KeyframeTokenizer.from_pretrained(tmp_path / "model")
    assert again.config == model.config and torch.equal(again.decode(codes), model.decode(codes))
    with pytest.raises(VidgenError, match="holds a KeyframeTokenizer, not a VideoTokenizer"):
        VideoTokenizer.from_pretrained(tmp_path / "model")


def test_chunks_give_the_whole_and_the_state_does_not_grow(tokenizer_of):
    model, video = tokenizer_of(), clip(19)
    whole = model.encode(video)
    for sizes in ([1] * 19, [4, 4, 4, 4, 3], [3, 7, 0, 2, 7], [19]):
        state, parts, frames = None, [], []
        for number, chunk in enumerate(video.split(sizes, dim=2)):
            codes, state = model.encode_chunk(chunk, state, last=number == len(sizes) - 1)
            state = pickle.loads(pickle.dumps(state))
            assert state.pending is None or state.pending.shape[2] < 4
            if codes is not None:
                parts.append(codes)
                frames.append(model.decode(codes))
        joined = join_codes(parts, 4)
        assert torch.equal(joined.motion_indices, whole.motion_indices) and joined.num_frames == 19
        assert torch.allclose(joined.key_latents, whole.key_latents, atol=1e-10, rtol=0)
        assert torch.allclose(torch.cat(frames, dim=2), model.decode(whole), atol=1e-10, rtol=0)
    codes, state = model.encode_chunk(video[:, :, :2])
    assert codes is None and state.pending.shape[2] == 2
    codes, state = model.encode_chunk(video[:, :, :0], state, last=True)
    assert codes.num_frames == 2 and state.pending is None


@pytest.mark.parametrize("changed", range(10))
def test_changing_a_frame_leaves_all_before_it(tokenizer_of, changed):
    model, video = tokenizer_of(), clip(10)
    other = video.clone()
    other[:, :, changed] = -other[:, :, changed]
    one, two = model.encode(video), model.encode(other)
    keys, moving = -(-changed // 4), changed - -(-changed // 4)
    assert torch.equal(one.key_latents[:, :, :keys], two.key_latents[:, :, :keys])
    assert torch.equal(one.motion_latents[:, :, :moving], two.motion_latents[:, :, :moving])
    before, after = model.decode(one), model.decode(two)
    assert torch.equal(before[:, :, :changed], after[:, :, :changed])
    group = changed // 4 * 4 + 4  # and nothing leaves its group
    assert torch.equal(before[:, :, group:], after[:, :, group:])


def test_a_fresh_network_moves_the_key_frame_and_adds_nothing(tokenizer_of, moving):
    model = tokenizer_of(noise=0.0)
    still = moving((1, 0), 1, 24, 32).expand(-1, -1, 6, -1, -1)
    made = model.synthesize(model.encode(still))
    assert torch.equal(made.frames[:, :, :4], made.keys[:, :, :1].expand(-1, -1, 4, -1, -1)) and not made.field.any()
    made = model.synthesize(model.encode(moving((3, 0), 6, 24, 32)))
    assert torch.equal(made.frames, made.warped) and made.field[:, :, 1].any() and not made.field[:, :, 4].any()
    assert torch.equal(made.keys, made.frames[:, :, ::4])


def test_key_frames_are_those_of_the_tokenizer_alone(tokenizer_of):
    model, video = tokenizer_of(), clip(9)
    decoded = model.decode(model.encode(video))
    for k in (0, 4, 8):
        assert torch.allclose(decoded[:, :, k : k + 1], model.key(video[:, :, k : k + 1]), atol=1e-10)


def test_fields_are_measured_to_the_key_frame_of_each_group(tokenizer_of, moving):
    model, video = tokenizer_of(block=16), moving((2, -1), 6)
    field = model.measure_motion(video)
    assert field.shape == (1, 2, 6, 4, 5) and not field[:, :, [0, 4]].any()
    for k in (1, 2, 3, 5):
        assert (field[0, 0, k, 1:-1, 1:-1] == 2 * (k % 4)).all() and (field[0, 1, k, 1:-1, 1:-1] == -(k % 4)).all()
    moved = model.warp_keys(video[:, :, ::4], field)
    assert torch.equal(moved[..., 16:-16, 16:-16], video[..., 16:-16, 16:-16])
    assert torch.equal(model.encode(video, motion=field).motion_indices, model.encode(video).motion_indices)
    assert not torch.equal(model.encode(video, motion=-field).motion_indices, model.encode(video).motion_indices)


def test_groups_are_cut_whole():
    assert list(cut_groups(11, 4, 1)) == [(0, 4, 4), (4, 8, 4), (8, 11, 3)]
    assert list(cut_groups(11, 4, 100)) == [(0, 8, 4), (8, 11, 3)] and list(cut_groups(2, 4, 9)) == [(0, 2, 2)]


def test_bfloat16_goes_through(tokenizer_of):
    model = tokenizer_of().to(torch.bfloat16)
    decoded = model.decode(model.encode(clip(6).float()))
    assert decoded.dtype == torch.bfloat16 and decoded.isfinite().all()


def test_mistakes_are_named(tokenizer_of):
    model, video = tokenizer_of(), clip(6)
    codes = model.encode(video)
    shape = model.measure_motion(video).shape
    cases = [
        (lambda: model.encode(video[:, :2]), "video has shape"),
        (lambda: model.encode(video * 2), "in \\[-1, 1\\]"),
        (lambda: model.encode(video[:, :, :0]), "video has shape"),
        (lambda: model.encode(video, motion=torch.zeros(shape)[:, :, 1:]), "finite vectors"),
        (lambda: model.encode(video, motion=torch.full(shape, torch.nan)), "finite vectors"),
        (lambda: model.decode(dataclasses.replace(codes, num_frames=7)), "do not hold 7 frames of 13x21"),
        (lambda: model.decode(dataclasses.replace(codes, height=40)), "do not hold 6 frames of 40x21"),
        (lambda: model.motion_from_indices(codes.motion_indices + 25), "out of range"),
        (lambda: join_codes([codes, codes], 4), "whole groups of 4"),
        (lambda: KeyframeConfig(gop=1), "gop=1"),
        (lambda: KeyframeConfig(block=6), "block=6"),
        (lambda: KeyframeConfig(levels=(8, 8)), "levels"),
        (lambda: KeyframeConfig(key={"latent_chanels": 4}), "latent_chanels"),
    ]
    for call, says in cases:
        with pytest.raises(VidgenError, match=says) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert model.config.name == "keyframes_4x8x8_fsq_25_on_" + model.config.key.name
