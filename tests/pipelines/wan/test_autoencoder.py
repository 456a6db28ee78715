"""Wan's autoencoders against diffusers' own class on the same random weights, as 2.1 and as 2.2; and written back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vidgen.errors import VidgenError
from vidgen.metrics import psnr
from vidgen.pipelines.wan.autoencoder import read_wan, write_wan
from vidgen.pipelines.wan.autoencoder_keys import match_autoencoder_keys
from vidgen.profiling.live_memory import LiveBytes, tensor_bytes
from vidgen.representations.extractor import FeatureExtractor
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS
from vidgen.tokenizers.streaming.chunks import Plan, decode_stream
from vidgen.tokenizers.streaming.halos import decoder_context, decoder_halo
from vidgen.tokenizers.streaming.memory_plan import MemoryModel
from vidgen.tokenizers.streaming.tiles import BlendedTiles

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

SMALL = dict(
    base_dim=4, z_dim=4, num_res_blocks=1, latents_mean=[0.1, 0.2, -0.3, 0.4], latents_std=[1.0, 2.0, 0.5, 3.0]
)
KINDS = {
    "2.1": dict(SMALL, num_res_blocks=2),
    "2.2": dict(
        SMALL,
        decoder_base_dim=8,
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
    ),
}


def clip(frames: int, height: int = 32, width: int = 48, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, frames, height, width, generator=generator, dtype=torch.float64) * 2 - 1


def make_peer(kind: str) -> AutoencoderKLWan:
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    peer = AutoencoderKLWan(**KINDS[kind]).double().eval().requires_grad_(False)
    for value in peer.parameters():  # norms and biases start as ones and zeros
        value.add_(0.05 * torch.randn_like(value))
    return peer


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory) -> tuple[AutoencoderKLWan, Path]:
    """A peer in float64, and the folder that it saved itself to."""
    folder, peer = tmp_path_factory.mktemp("wan") / "vae", make_peer(request.param)
    peer.save_pretrained(folder)
    return peer, folder


@pytest.fixture(scope="module")
def folder_21(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wan21") / "vae"
    make_peer("2.1").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("frames", [1, 5, 13])
def test_equal_in_float64(pair, frames, monkeypatch):
    # Its upsampling goes through float32 whatever the dtype; without that, what is left is rounding.
    from diffusers.models.autoencoders.autoencoder_kl_wan import WanUpsample

    monkeypatch.setattr(WanUpsample, "forward", nn.Upsample.forward)
    (peer, folder), video = pair, clip(frames)
    tokenizer = read_wan(folder)
    wanted, found = peer.encode(video).latent_dist, tokenizer.encode(video)
    mean, std = (torch.tensor(peer.config[f"latents_{name}"]).view(1, -1, 1, 1, 1).double() for name in ("mean", "std"))
    assert tokenizer.dtype == torch.float64 and found.latents.shape == wanted.mode().shape
    assert (found.latents - (wanted.mode() - mean) / std).abs().max() < 1e-6  # of the float32 statistics here
    assert (tokenizer.denormalize(found.latents) - wanted.mode()).abs().max() < 1e-9
    assert (found.posterior.logvar - (wanted.logvar - 2 * std.log())).abs().max() < 1e-6
    decoded = peer.decode(wanted.mode()).sample
    assert decoded.shape == video.shape and 0.1 < decoded.std()
    assert (tokenizer.decode(found) - decoded).abs().max() < 1e-9


def test_equal_in_float32(pair):
    peer, folder = pair
    tokenizer, video = read_wan(folder, dtype=torch.float32), clip(9).float()
    peer = make_peer("2.2" if peer.config.is_residual else "2.1").float()
    wanted, found = peer.encode(video).latent_dist.mode(), tokenizer.encode(video)
    assert (tokenizer.denormalize(found.latents) - wanted).abs().max() < 1e-4
    assert (tokenizer.decode(found) - peer.decode(wanted).sample).abs().max() < 1e-4


@pytest.mark.slow
def test_bfloat16_is_as_near_to_the_exact_result_as_its_own(pair):
    peer, folder = pair
    tokenizer = read_wan(folder, dtype=torch.bfloat16)
    half = make_peer("2.2" if peer.config.is_residual else "2.1").bfloat16()
    video = torch.cat([clip(9, seed=seed) for seed in (1, 2, 3)]).bfloat16()
    exact = peer.encode(video.double()).latent_dist.mode()
    wanted = peer.decode(exact).sample
    ours, _ = tokenizer.decode_chunk(tokenizer.normalize(exact).bfloat16())
    theirs = half.decode(exact.bfloat16()).sample
    assert psnr(ours.double(), wanted).mean() >= psnr(theirs.double(), wanted).mean() > 30
    ours, theirs = tokenizer.denormalize(tokenizer.encode(video).latents), half.encode(video).latent_dist.mode()
    assert (ours - exact).square().mean() <= (theirs - exact).square().mean() < 1e-3


@pytest.mark.parametrize(
    ("preset", "settings"),
    [
        ("kl_causal_4x8x8_16ch_wan", {}),
        ("kl_causal_4x16x16_48ch_wan", {**KINDS["2.2"], "base_dim": 160, "decoder_base_dim": 256, "z_dim": 48}),
    ],
)
def test_the_published_sizes_have_its_tensors(preset, settings):
    from diffusers import AutoencoderKLWan

    with torch.device("meta"):
        peer = AutoencoderKLWan(**{**settings, "num_res_blocks": 2})
        keys = match_autoencoder_keys(VideoTokenizer(PRESETS[preset]))
    assert {key.name: key.shape for key in keys} == {k: tuple(v.shape) for k, v in peer.state_dict().items()}


@pytest.mark.parametrize("frames", [1, 2, 4, 6, 12])
def test_any_length_comes_back_and_repeats_its_last_frame(pair, frames):
    tokenizer, video = read_wan(pair[1]), clip(frames, 17, 33)
    encoded = tokenizer.encode(video)
    assert tokenizer.decode(encoded).shape == video.shape
    short = -(frames - 1) % 4
    full = torch.cat([video, video[:, :, -1:].expand(-1, -1, short, -1, -1)], dim=2)
    assert torch.equal(tokenizer.encode(full).latents, encoded.latents)


def test_written_back_it_is_the_same_checkpoint(pair, tmp_path):
    from diffusers import AutoencoderKLWan

    peer, folder = pair
    write_wan(read_wan(folder), tmp_path / "again")
    name = "diffusion_pytorch_model.safetensors"
    before, after = load_file(folder / name), load_file(tmp_path / "again" / name)
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    again = AutoencoderKLWan.from_pretrained(tmp_path / "again", torch_dtype=torch.float64)
    assert {k: v for k, v in again.config.items() if not k.startswith("_")} == {
        k: v for k, v in peer.config.items() if not k.startswith("_")
    }


def test_saved_as_a_tokenizer_it_is_the_same(pair, tmp_path):
    tokenizer, video = read_wan(pair[1]), clip(5)
    tokenizer.save_pretrained(tmp_path / "tok")
    again = VideoTokenizer.from_pretrained(tmp_path / "tok")
    assert again.config == tokenizer.config and torch.equal(again(video), tokenizer(video))


def test_a_part_decodes_to_what_the_whole_has_there(pair):
    tokenizer = read_wan(pair[1])
    context, f = decoder_context(tokenizer), tokenizer.config.spatial_compression_ratio
    frames = 1 + 4 * (context + 2)
    latents = torch.randn(1, 4, context + 3, 1, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    size = {"num_frames": frames, "height": f, "width": f, "plan": lambda *_: Plan(latents=2)}
    whole = torch.cat(list(decode_stream(tokenizer, latents, **size)), dim=1)
    part = torch.cat(list(decode_stream(tokenizer, latents, **size, start=frames - 4)), dim=1)
    assert decoder_halo(tokenizer) is None  # it attends over the frame
    assert (part - whole[:, -4:]).abs().max() < 1e-6  # frames come in float32


def test_its_layers_are_taps(pair):
    tokenizer, video = read_wan(pair[1]), clip(7)
    seen = dict(tokenizer.iter_features(video))
    assert list(seen) == [layer.name for layer in tokenizer.feature_info]
    assert torch.equal(seen["latents"], tokenizer.encode(video).latents)
    for layer in tokenizer.feature_info:  # a frame by itself, and eight more, of which the last two are repeated
        t, h, w = layer.reduction
        assert seen[layer.name].shape[1:] == (layer.num_chs, 1 + 8 // t, 32 // h, 48 // w)
    layers = ["tokenizer.encoder.layers.0", "tokenizer.encoder.layers.1", "tokenizer.latents"]
    times = FeatureExtractor(tokenizer, layers)(video.float()).times
    assert [times[layer][0].tolist() for layer in layers] == [[0, 1, 2, 3, 4, 5, 6, 6, 6], [0, 2, 4, 6, 6], [0, 4, 6]]


@pytest.mark.slow
def test_memory_plans_count_it(folder_21):
    tokenizer, latents = read_wan(folder_21, dtype=torch.float32), torch.randn(1, 4, 3, 6, 8)
    model, size = (
        MemoryModel(tokenizer),
        {
            "height": 6 * tokenizer.config.spatial_compression_ratio,
            "width": 8 * tokenizer.config.spatial_compression_ratio,
        },
    )
    weights = tensor_bytes(*tokenizer.parameters(), *tokenizer.buffers())
    for plan in (Plan(latents=2), Plan(latents=1, tiles=BlendedTiles(rows=4, cols=4))):
        with LiveBytes() as live:
            for part in decode_stream(tokenizer, latents, num_frames=9, **size, plan=lambda *_, plan=plan: plan):
                del part
        assert weights + live.peak <= model.peak("decode", *size.values(), plan) < 3 * (weights + live.peak)


def test_another_tokenizer_cannot_be_written_as_wan(tmp_path):
    with pytest.raises(VidgenError, match="backbone 'convolutional' cannot be written as AutoencoderKLWan"):
        write_wan(VideoTokenizer(PRESETS["tiny"]), tmp_path / "out")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (dict(attn_scales=[0.5]), r"attn_scales=\(0.5,\) is not supported, only \(\)"),
        (dict(in_channels=4), "in_channels=4 is not supported, only 3"),
        (dict(dim_mult=[2, 4]), r"dim_mult=\[2, 4\] is not supported"),
        (dict(latents_std=[1.0]), "latents_std is not 4 numbers"),
        (dict(latents_mean=["a"] * 4), "latents_mean.0='a' is not a number"),
        (dict(temperal_downsample=[True]), r"temporal=\(True,\): 4 widths halve height and width 3 times"),
        (dict(magic=1), "unknown keys magic"),
        (dict(base_dim="four"), "base_dim='four' is not a whole number"),
        (dict(base_dim=6), r"has shape \(16,\), the config asks for \(24,\)"),
        (dict(num_res_blocks=3), r"missing \['decoder.up_blocks"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(folder_21, changed, says, tmp_path):
    folder, copy = folder_21, tmp_path / "vae"
    copy.mkdir()
    (copy / "diffusion_pytorch_model.safetensors").symlink_to(folder / "diffusion_pytorch_model.safetensors")
    values = json.loads((folder / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**values, **changed}))
    with pytest.raises(VidgenError, match=rf"^{copy}[^\n]*({says})[^\n]*$"):
        read_wan(copy)
