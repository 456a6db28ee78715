"""The front end is orthogonal, the posterior is a posterior, saving and loading is the identity, features are lazy."""

import copy
import dataclasses
import math

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.interfaces import Encoder, Tokenizer
from vidgen.tokenizers.backbones.convolutional import FrontEnd, haar_matrix
from vidgen.tokenizers.bottlenecks import Gaussian
from vidgen.tokenizers.diffusion_decoder.config import DiffusionTokenizerConfig
from vidgen.tokenizers.diffusion_decoder.model import DiffusionTokenizer
from vidgen.tokenizers.model import TokenizerConfig, VideoTokenizer
from vidgen.tokenizers.presets import PRESETS


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_haar_matrix_is_orthonormal_with_the_mean_first(n):
    basis = haar_matrix(n)
    assert torch.allclose(basis @ basis.T, torch.eye(n, dtype=torch.float64), atol=1e-15)
    assert torch.allclose(basis[0], torch.full((n,), n**-0.5, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["patch", "haar"])
def test_front_end_round_trip_keeps_energy(kind):
    x = torch.randn(2, 3, 8, 8, 12, dtype=torch.float64)
    front = FrontEnd(kind, 4, 4)
    y = front(x)
    assert torch.allclose(front.inverse(y), x, atol=1e-12)
    assert torch.allclose(y.square().sum(), x.square().sum())


def test_gaussian_kl_and_draws_match_their_closed_forms():
    mean, std = 0.7, 0.3
    shape = (1, 1, 1, 100, 100)
    posterior = Gaussian(mean=torch.full(shape, mean), logvar=torch.full(shape, 2 * math.log(std)))
    reference = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, std), torch.distributions.Normal(0.0, 1.0)
    )
    assert torch.allclose(posterior.kl().mean(), reference, atol=1e-5)
    draw = posterior.sample(torch.Generator().manual_seed(0))
    assert abs(draw.mean() - mean) < 0.02 and abs(draw.std() - std) < 0.02


def test_posterior_is_in_the_units_of_the_latents():
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(PRESETS["tiny"])
    tokenizer.latents_mean.normal_(), tokenizer.latents_std.uniform_(0.5, 2.0)
    video = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    encoded = tokenizer.encode(video)
    drawn = tokenizer.encode(video, sample_posterior=True, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(encoded.posterior.mean, encoded.latents)
    assert torch.allclose(encoded.posterior.sample(torch.Generator().manual_seed(3)), drawn.latents, atol=1e-5)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_named_by_what_it_is(name):
    config = PRESETS[name]
    assert name == "tiny" or name.startswith(config.name)


def test_save_and_load_is_the_identity(tmp_path):
    tokenizer = VideoTokenizer(PRESETS["tiny"]).eval().requires_grad_(False)  # gradients take another way
    tokenizer.save_pretrained(tmp_path / "tok")
    again = VideoTokenizer.from_pretrained(tmp_path / "tok")
    video = torch.rand(1, 3, 6, 16, 16) * 2 - 1
    assert torch.equal(again(video), tokenizer(video))
    assert again.config == tokenizer.config
    assert not any(p.requires_grad for p in again.parameters())


def test_loading_is_strict(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "tok"
    VideoTokenizer(PRESETS["tiny"]).save_pretrained(folder)
    weights = folder / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    name = "decoder.out.conv.weight"
    save_file({k: v for k, v in tensors.items() if k != name}, weights)
    with pytest.raises(VidgenError, match=f"missing.*{name}"):
        VideoTokenizer.from_pretrained(folder)
    save_file({**tensors, name: torch.zeros(2, 2)}, weights)
    with pytest.raises(VidgenError, match=r"\(2, 2\)"):
        VideoTokenizer.from_pretrained(folder)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(VidgenError, match="is cut short"):
        VideoTokenizer.from_pretrained(folder)


def test_failed_save_leaves_the_old_model(tmp_path, monkeypatch):
    import vidgen.checkpoints.checkpoint as checkpoint

    tokenizer = VideoTokenizer(PRESETS["tiny"])
    tokenizer.save_pretrained(tmp_path / "tok")
    before = (tmp_path / "tok" / "diffusion_pytorch_model.safetensors").read_bytes()
    monkeypatch.setattr(checkpoint, "save_file", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(VidgenError, match="No space left"):
        tokenizer.save_pretrained(tmp_path / "tok")
    assert (tmp_path / "tok" / "diffusion_pytorch_model.safetensors").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["tok"]


def test_walk_names_what_feature_info_lists():
    tokenizer = VideoTokenizer(PRESETS["tiny"])
    video = torch.rand(1, 3, 9, 16, 24) * 2 - 1
    seen = dict(tokenizer.iter_features(video))
    assert list(seen) == [layer.name for layer in tokenizer.feature_info]
    for layer in tokenizer.feature_info:
        b, c, t, h, w = seen[layer.name].shape
        assert (c, h, w) == (layer.num_chs, 16 // layer.reduction[1], 24 // layer.reduction[2])
        assert t == (9 - 1 + tokenizer.config.temporal_compression_ratio) // layer.reduction[0]
    assert torch.equal(seen["latents"], tokenizer.encode(video).latents)


def test_unknown_settings_are_refused():
    with pytest.raises(VidgenError, match="bottleneck='magic' is unknown"):
        TokenizerConfig(bottleneck="magic")
    with pytest.raises(VidgenError, match="convolution='wavelet' is unknown"):
        VideoTokenizer(dataclasses.replace(PRESETS["tiny"], convolution="wavelet"))


@torch.no_grad()
@pytest.mark.parametrize("settings", [{}, {"bottleneck": "fsq", "levels": (8, 8, 8, 5)}], ids=["kl", "fsq"])
def test_encoder_and_decoder_each_in_a_precision_of_its_own(settings):
    torch.manual_seed(0)
    exact = VideoTokenizer(dataclasses.replace(PRESETS["tiny"], **settings)).eval()
    mixed = copy.deepcopy(exact)
    mixed.encoder.bfloat16()
    video = torch.rand(1, 3, 9, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    encoded, wanted = mixed.encode(video), exact.encode(video).latents
    assert encoded.latents.dtype == dict(mixed.iter_features(video))["latents"].dtype == torch.float32
    close = (encoded.latents - wanted).abs() < 0.05 * wanted.std()
    assert close.float().mean() > 0.95 and not torch.equal(encoded.latents, wanted)  # codes may turn over
    assert torch.equal(mixed.decode(encoded), exact.decode(encoded))
    first, state = mixed.encode_chunk(video[:, :, :5])
    rest, _ = mixed.encode_chunk(video[:, :, 5:], state, last=True)
    streamed = torch.cat([first, rest], dim=2)
    assert ((streamed - encoded.latents).abs() < 0.05 * wanted.std()).float().mean() > 0.95


def test_tokenizers_fit_the_protocol():
    tokenizer = VideoTokenizer(PRESETS["tiny"])
    assert isinstance(tokenizer, Tokenizer) and tokenizer.device == torch.device("cpu")
    assert tokenizer.bfloat16().dtype == torch.bfloat16
    assert [tokenizer.latent_frames(frames) for frames in (1, 2, 5, 6)] == [1, 2, 2, 3]
    assert isinstance(DiffusionTokenizer(DiffusionTokenizerConfig()), Encoder)


@pytest.mark.slow
def test_a_tokenizer_compiles_as_one_graph_with_the_same_result():
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(PRESETS["tiny"]).eval().requires_grad_(False)
    video = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    compiled = torch.compile(tokenizer, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(video), tokenizer(video), atol=1e-6)
    exported = torch.export.export(tokenizer, (video,)).module()
    assert torch.allclose(exported(video), tokenizer(video), atol=1e-6)
