"""Every bottleneck behind one interface: by name, with its settings checked, decoded from its indices alone."""

import dataclasses
import json

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.tokenizers.bottlenecks import BOTTLENECKS, Quantizer, build_bottleneck
from vidgen.tokenizers.bottlenecks.index_statistics import index_statistics
from vidgen.tokenizers.model import TokenizerConfig, VideoTokenizer
from vidgen.tokenizers.presets import PRESETS

CASES = {
    "ae": dict(bottleneck="ae"),
    "kl": dict(bottleneck="kl"),
    "vq": dict(bottleneck="vq", codebook_size=50),
    "fsq": dict(bottleneck="fsq", levels=(8, 5, 4, 2)),
    "lfq": dict(bottleneck="lfq"),
    "bsq": dict(bottleneck="bsq"),
    "residual vq": dict(bottleneck="residual", codebook_size=16, quantizers=3),
    "residual fsq": dict(bottleneck="residual", levels=(4, 3, 4, 2), quantizers=2),
}
DISCRETE = [name for name in CASES if name not in ("ae", "kl")]


def make(case: str, **changes) -> VideoTokenizer:
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(dataclasses.replace(PRESETS["tiny"], **CASES[case], **changes))
    tokenizer.latents_mean.normal_(), tokenizer.latents_std.uniform_(0.5, 2.0)
    return tokenizer


def clip(frames: int = 9, height: int = 18, width: int = 26) -> torch.Tensor:
    return torch.rand(2, 3, frames, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_cases_are_all_bottlenecks():
    assert {case["bottleneck"] for case in CASES.values()} == set(BOTTLENECKS)
    assert {config.bottleneck for config in PRESETS.values()} == set(BOTTLENECKS)


@pytest.mark.parametrize("case", CASES)
def test_one_result_type(case):
    encoded = make(case).eval().encode(clip())
    grid = (2, 3, 3, 4)
    assert encoded.latents.shape == (2, 4, *grid[1:])
    if case not in DISCRETE:
        assert encoded.indices is None
        return
    quantizers = {"residual vq": (3,), "residual fsq": (2,)}.get(case, ())
    assert encoded.indices.shape == grid + quantizers and encoded.indices.dtype == torch.int64
    assert encoded.losses and all(value.ndim == 0 and torch.isfinite(value) for value in encoded.losses.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", DISCRETE)
def test_indices_alone_give_the_clip(case, dtype):
    tokenizer, video = make(case).to(dtype).eval().requires_grad_(False), clip().to(dtype)
    encoded = tokenizer.encode(video)
    assert encoded.latents.dtype == dtype
    assert torch.equal(tokenizer.latents_from_indices(encoded.indices), encoded.latents)
    again = tokenizer.decode_indices(encoded.indices.int(), num_frames=9, height=18, width=26)
    assert torch.equal(again, tokenizer.decode(encoded))


@pytest.mark.parametrize("case", DISCRETE)
def test_autocast_changes_no_index(case):
    quantizer = make(case).eval().bottleneck
    h = torch.randn(1, 4, 3, 8, 8).bfloat16()
    plain = quantizer(h.float())
    with torch.autocast("cpu", torch.bfloat16):
        out = quantizer(h)
        assert torch.equal(out.indices, plain.indices) and out.latents.dtype == torch.bfloat16
        assert torch.equal(quantizer.from_indices(out.indices), plain.latents)
    for name, value in plain.losses.items():
        assert out.losses[name].dtype == torch.float32
        assert torch.equal(out.losses[name], value)


@pytest.mark.parametrize("case", CASES)
def test_encoding_in_evaluation_changes_nothing(case):
    tokenizer = make(case).eval()
    before = {name: value.clone() for name, value in tokenizer.state_dict().items()}
    random = torch.get_rng_state()
    one, two = (tokenizer.encode(clip(), sample_posterior=False) for _ in range(2))
    assert torch.equal(one.latents, two.latents)
    with torch.no_grad():  # nor does looking on while it is trained
        tokenizer.train().encode(clip())
        dict(tokenizer.iter_features(clip()))
    assert all(torch.equal(value, before[name]) for name, value in tokenizer.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize("case", CASES)
def test_gradients_reach_the_encoder(case):
    tokenizer, video = make(case).train(), clip()
    encoded = tokenizer.encode(video, sample_posterior=True, generator=torch.Generator().manual_seed(2))
    (tokenizer.decode(encoded) - video).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in tokenizer.encoder.parameters() if p.ndim > 1)


@pytest.mark.parametrize("case", CASES)
def test_saved_and_loaded_it_is_the_same(case, tmp_path):
    tokenizer = make(case).eval()
    tokenizer.save_pretrained(tmp_path / "tok")
    again = VideoTokenizer.from_pretrained(tmp_path / "tok")
    assert again.config == tokenizer.config
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in tokenizer.state_dict().items())
    assert torch.equal(again.encode(clip()).latents, tokenizer.encode(clip()).latents)


def test_configs_from_before_the_quantizers_load(tmp_path):
    tokenizer = make("kl").eval()
    tokenizer.save_pretrained(tmp_path / "tok")
    path = tmp_path / "tok" / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in values.items() if k not in ("codebook_size", "levels", "quantizers")}))
    assert VideoTokenizer.from_pretrained(tmp_path / "tok").config == tokenizer.config
    assert not [key for key in tokenizer.state_dict() if key.startswith("bottleneck")]


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (dict(), "kl_causal_4x8x8_16ch"),
        (dict(bottleneck="fsq", latent_channels=6, levels=(8, 8, 8, 5, 5, 5)), "fsq_causal_4x8x8_64k"),
        (dict(bottleneck="fsq", latent_channels=4, levels=(7, 5, 5, 5)), "fsq_causal_4x8x8_875"),
        (dict(bottleneck="lfq", latent_channels=18), "lfq_causal_4x8x8_256k"),
        (dict(bottleneck="vq", codebook_size=8192), "vq_causal_4x8x8_8k"),
        (dict(bottleneck="residual", codebook_size=1024, quantizers=8), "residual_causal_4x8x8_8x1k"),
    ],
)
def test_a_tokenizer_is_named_by_what_it_is(settings, name):
    assert TokenizerConfig(**settings).name == name


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (dict(bottleneck="magic"), "'magic' is unknown"),
        (dict(bottleneck="vq"), "needs codebook_size"),
        (dict(bottleneck="vq", codebook_size=1), "codebook of 1 codes"),
        (dict(bottleneck="fsq"), "needs levels"),
        (dict(bottleneck="fsq", levels=(8, 8, 8)), "set latent_channels=3"),
        (dict(bottleneck="fsq", latent_channels=2, levels=(8, 1)), "levels.1=1 is not a whole number from 2"),
        (dict(bottleneck="lfq", latent_channels=70), "2\\^62"),
        (dict(bottleneck="kl", codebook_size=8), "'kl' has no codebook_size"),
        (dict(bottleneck="lfq", levels=(2,)), "'lfq' has no levels"),
        (dict(bottleneck="residual", quantizers=2), "one of codebook_size"),
        (dict(bottleneck="residual", codebook_size=8), "needs quantizers"),
        (dict(bottleneck="residual", codebook_size=8, quantizers=-1), "quantizers=-1"),
        (dict(latent_channels=0), "latent_channels=0"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(settings, says):
    with pytest.raises(VidgenError, match=says) as caught:
        TokenizerConfig(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", DISCRETE)
def test_indices_that_are_not_of_the_codebook_are_refused(case):
    tokenizer = make(case).eval()
    indices = tokenizer.encode(clip()).indices
    size = tokenizer.bottleneck.codebook_size
    frames = dict(num_frames=9, height=18, width=26)
    for wrong, says in [
        (torch.full_like(indices, size), f"index {size} is out of range: the codebook has {size} codes"),
        (torch.full_like(indices, -3), "index -3 is out of range"),
        (indices.float(), "torch.float32"),
        (indices.bool(), "torch.bool"),
        (indices[0], "have shape"),
        (indices[:, :, :2], "18x26"),
        (indices[:, :2], "do not hold 9 frames"),
    ]:
        with pytest.raises(VidgenError, match=says):
            tokenizer.decode_indices(wrong, **frames)


def test_continuous_latents_have_no_indices():
    with pytest.raises(VidgenError, match="kl_causal_4x8x8_4ch has no indices"):
        make("kl").latents_from_indices(torch.zeros(1, 1, 1, 1, dtype=torch.long))


def test_a_bottleneck_by_hand():
    quantizer = build_bottleneck("fsq", 3, levels=(4, 4, 4))
    assert isinstance(quantizer, Quantizer) and quantizer.codebook_size == 64
    assert quantizer(torch.zeros(1, 3, 0, 2, 2)).indices.shape == (1, 0, 2, 2)


def test_statistics_of_indices():
    even = index_statistics(torch.arange(256).reshape(4, 4, 4, 4), 256)
    assert (even.used, even.usage, even.reachable) == (256, 1.0, 1.0)
    assert even.perplexity == pytest.approx(256) and even.bits_per_token == pytest.approx(8)
    one = index_statistics(torch.full((10,), 7), 2**18)
    assert (one.used, one.perplexity, one.bits_per_token) == (1, 1.0, 0.0)
    assert one.reachable == 10 / 2**18 and one.usage == 1 / 2**18
    quarter = index_statistics(torch.tensor([0, 0, 0, 5]), 8)
    assert quarter.bits_per_token == pytest.approx(0.8112781, abs=1e-6)
    with pytest.raises(ValueError, match="no indices"):
        index_statistics(torch.zeros(0), 8)
    with pytest.raises(ValueError, match=r"\[0, 8\].*8 codes"):
        index_statistics(torch.tensor([0, 8]), 8)
