"""CogVideoX's and LTX-Video's autoencoders against diffusers' classes: frame rule, statistics, any clip, in one go."""

import numpy as np
import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.pipelines.loading import load_tokenizer
from vidgen.scripts.cli.memory import make_planner
from vidgen.tokenizers.files.token_files import read_tokens
from vidgen.tokenizers.files.token_writing import write_tokens
from vidgen.tokenizers.streaming.chunks import decode_stream, encode_stream, reconstruct_stream

KINDS = {"cogvideox": "cogvideox_4x8x8_4ch", "ltx": "ltx_4x16x16_4ch"}


@pytest.fixture(scope="module", params=KINDS)
def pair(request, published):
    """The name wanted, our tokenizer, and the class's own network."""
    folder, pipeline = published(request.param)
    return KINDS[request.param], load_tokenizer(str(folder)), pipeline.vae


def clip(frames: int, height: int = 32, width: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(1, 3, frames, height, width, generator=generator) * 2 - 1


def normalized(vae, z: torch.Tensor) -> torch.Tensor:
    """Latents as the class's pipeline gives them to its transformer."""
    if "latents_mean" in dict(vae.named_buffers()):
        mean, std = (v.view(1, -1, 1, 1, 1) for v in (vae.latents_mean, vae.latents_std))
        return (z - mean) * vae.config.scaling_factor / std
    return z * vae.config.scaling_factor


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 5, 9, 17])
def test_latents_are_those_of_the_class(pair, frames):
    name, tokenizer, vae = pair
    video = clip(frames)
    found, wanted = tokenizer.encode(video), vae.encode(video).latent_dist
    assert tokenizer.config.name == name and found.latents.shape[2] == 1 + (frames - 1) // 4
    assert torch.allclose(found.latents, normalized(vae, wanted.mode()), atol=1e-5)
    assert torch.allclose(tokenizer.denormalize(found.latents), wanted.mode(), atol=1e-5)
    drawn = tokenizer.encode(video, sample_posterior=True, generator=torch.Generator().manual_seed(2)).latents
    noise = torch.randn(drawn.shape, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(drawn, normalized(vae, wanted.mean + wanted.std * noise), atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 9, 17])
def test_frames_are_those_of_the_class(pair, frames):
    _, tokenizer, vae = pair
    encoded = tokenizer.encode(clip(frames))
    wanted = vae.decode(vae.encode(clip(frames)).latent_dist.mode()).sample
    assert torch.allclose(tokenizer.decode(encoded), wanted, atol=1e-5) and wanted.shape[2] == frames


@torch.no_grad()
@pytest.mark.parametrize("size", [(2, 32, 32), (6, 40, 24), (13, 17, 33)])
def test_what_goes_in_comes_back_in_size(pair, size):
    _, tokenizer, _ = pair
    video = clip(*size)
    assert tokenizer(video).shape == video.shape


@torch.no_grad()
def test_chunks_wait_for_the_whole_clip(pair):
    name, tokenizer, _ = pair
    video, state = clip(9), None
    z, state = tokenizer.encode_chunk(video[:, :, :4], state)
    assert z.shape == (
        1,
        4,
        0,
        32 // tokenizer.config.spatial_compression_ratio,
        32 // tokenizer.config.spatial_compression_ratio,
    )
    z, state = tokenizer.encode_chunk(video[:, :, 4:], state, last=True)
    assert torch.equal(z, tokenizer.encode(video).latents)
    frames, state = tokenizer.decode_chunk(z)
    assert torch.equal(frames, tokenizer.decode(tokenizer.encode(video)))
    with pytest.raises(VidgenError, match=f"{name} decodes a clip in one go: give all of its latents at once"):
        tokenizer.decode_chunk(z, state)


@torch.no_grad()
def test_long_work_takes_the_clip_in_one_go(pair):
    _, tokenizer, _ = pair
    frames = np.random.default_rng(0).integers(0, 255, (9, 32, 32, 3), np.uint8)
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 127.5 - 1.0
    latents = torch.cat(list(encode_stream(tokenizer, iter(frames))), dim=2)
    assert torch.allclose(latents, tokenizer.encode(video).latents, atol=1e-5)
    whole = tokenizer.decode(tokenizer.encode(video)).clamp(-1, 1)[0]
    size = dict(num_frames=9, height=32, width=32)
    assert torch.allclose(torch.cat(list(decode_stream(tokenizer, latents, **size)), dim=1), whole, atol=1e-5)
    part = torch.cat(list(decode_stream(tokenizer, latents, **size, start=3, stop=6)), dim=1)
    assert torch.allclose(part, whole[:, 3:6], atol=1e-5)
    ((original, back),) = reconstruct_stream(tokenizer, iter(frames))
    assert original.shape == back.shape and torch.allclose(back, whole, atol=1e-5)
    with pytest.raises(VidgenError, match="--max-memory: .* takes a clip in one go"):
        make_planner(tokenizer, 2**30, "encode")


@torch.no_grad()
def test_statistics_are_not_rounded_with_the_weights(pair, published):
    _, tokenizer, vae = pair
    kind = "ltx" if "latents_mean" in dict(vae.named_buffers()) else "cogvideox"
    rough = load_tokenizer(str(published(kind)[0]), dtype=torch.bfloat16)
    assert rough.dtype == torch.bfloat16 and rough.latents_std.dtype == torch.float32
    found, wanted = rough.encode(clip(9)).latents, tokenizer.encode(clip(9)).latents
    assert found.dtype == torch.bfloat16 and (found.float() - wanted).abs().max() < 0.05 * wanted.abs().max()
    assert rough.decode_chunk(found)[0].dtype == torch.bfloat16


@torch.no_grad()
def test_token_files(pair, tmp_path):
    _, tokenizer, _ = pair
    encoded = tokenizer.encode(clip(9))
    write_tokens(tmp_path / "clip.safetensors", encoded, tokenizer, fps=8)
    back = read_tokens(tmp_path / "clip.safetensors", tokenizer)
    assert torch.equal(back.latents, encoded.latents) and back.tokenizer == tokenizer.config.name


@torch.no_grad()
def test_decoders_of_ltx_that_add_noise_are_deterministic(published):
    tokenizer = load_tokenizer(str(published("ltx-noise")[0]))
    z = tokenizer.encode(clip(9)).latents
    torch.manual_seed(5)
    first = tokenizer.decode_chunk(z)[0]
    later = torch.rand(1)
    assert torch.equal(tokenizer.decode_chunk(z)[0], first)
    torch.manual_seed(5)
    assert torch.rand(1) == later  # and torch's own numbers are where they were
    tokenizer.decode_level = 0.5
    assert not torch.allclose(tokenizer.decode_chunk(z)[0], first, atol=1e-3)
