"""The contract of a tokenizer with a denoiser for a decoder: T, H and W come back, a seed means one clip, the features
are what is decoded, and folders hold all of it."""

import dataclasses
import json

import pytest
import torch

from vidgen.checkpoints.config_fields import former_dict
from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.diffusion.denoiser import make_denoiser
from vidgen.diffusion.noise import TimeDistribution
from vidgen.diffusion.paths import FlowPath
from vidgen.errors import VidgenError
from vidgen.representations.extractor import FeatureExtractor
from vidgen.samplers.solvers import SAMPLERS
from vidgen.scripts.extract import open_model
from vidgen.tokenizers.config import TokenizerConfig
from vidgen.tokenizers.diffusion_decoder.config import DiffusionTokenizerConfig
from vidgen.tokenizers.diffusion_decoder.model import DiffusionTokenizer, hold_first
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS

EULER = SAMPLERS["euler"]
# A feature of 4 frames and 8x8 pixels stands for 2x2x2 patches, or for one.
CONFIG = DiffusionTokenizerConfig(
    tokenizer=PRESETS["tiny"], patch_t=2, patch=4, width=32, depth=2, head_dim=16, window=3, num_inference_steps=2
)
COARSE = dataclasses.replace(CONFIG, patch_t=4, patch=8, hold_first=0.0, prediction_type="flow_prediction")


def make_tokenizer(config: DiffusionTokenizerConfig) -> DiffusionTokenizer:
    torch.manual_seed(0)
    model = DiffusionTokenizer(config)
    for parameter in model.denoiser.parameters():  # the zero start would make every test true
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval().requires_grad_(False)


def make_clip(frames: int, height: int, width: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(1, 3, frames, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.slow
@pytest.mark.parametrize("config", [CONFIG, COARSE])
@pytest.mark.parametrize(("frames", "height", "width"), [(1, 8, 8), (2, 9, 17), (5, 16, 8), (6, 5, 3), (12, 8, 16)])
def test_what_went_in_comes_out(config, frames, height, width):
    model, video = make_tokenizer(config), make_clip(frames, height, width)
    for solve in SAMPLERS.values():
        out = model.decode(model.encode(video), solve, seed=4)
        assert out.shape == video.shape and out.dtype == torch.float32 and torch.isfinite(out).all()


@pytest.mark.parametrize("config", [CONFIG, COARSE])
def test_patches_are_the_pixels(config):
    model, video = make_tokenizer(config), make_clip(6, 9, 11)
    patches = model.patches(video)
    assert torch.equal(model.pixels(patches)[:, :, :6, :9, :11], video)
    features = model.condition(model.encode(video).latents)
    assert features.shape[3:] == patches.shape[3:] and features.shape[2] >= patches.shape[2]


def test_encoding_is_that_of_a_video_tokenizer():
    model, video = make_tokenizer(CONFIG), make_clip(11, 16, 16)
    torch.manual_seed(0)
    plain = VideoTokenizer(CONFIG.tokenizer).eval()  # drawn from the same seed, and first
    whole = model.encode(video)
    assert torch.equal(whole.latents, plain.encode(video).latents)
    parts, state = [], None
    for chunk, last in ((video[:, :, :3], False), (video[:, :, 3:4], False), (video[:, :, 4:], True)):
        z, state = model.encode_chunk(chunk, state, last=last)
        parts.append(z)
    assert torch.allclose(torch.cat(parts, dim=2), whole.latents, atol=1e-5)
    assert [layer.name for layer in model.feature_info] == [layer.name for layer in plain.feature_info]
    features = FeatureExtractor(model, layers=["tokenizer.latents"], pool="none")(video).features["tokenizer.latents"]
    assert torch.allclose(features, whole.latents.movedim(1, -1))


def test_a_clip_is_a_function_of_latents_seed_and_steps():
    model = make_tokenizer(CONFIG)
    one, two = make_clip(9, 16, 16), make_clip(9, 16, 16, seed=2)
    alone = model.decode(model.encode(two), EULER, seed=3)
    together = model.decode(model.encode(torch.cat([one, two])), EULER, seed=3)
    assert torch.allclose(together[1:], alone, atol=1e-5)
    assert torch.equal(alone, model.decode(model.encode(two), EULER, seed=3))
    assert not torch.allclose(alone, model.decode(model.encode(two), EULER, seed=4), atol=1e-3)
    assert not torch.allclose(alone, model.decode(model.encode(two), EULER, seed=3, num_inference_steps=5), atol=1e-3)


def test_other_features_give_another_clip():
    model = make_tokenizer(CONFIG)
    a, b = model.encode(make_clip(5, 16, 16)), model.encode(make_clip(5, 16, 16, seed=2))
    swapped = dataclasses.replace(a, latents=b.latents)
    assert not torch.allclose(model.decode(a, EULER), model.decode(swapped, EULER), atol=1e-3)
    assert torch.equal(model.decode(swapped, EULER), model.decode(b, EULER))


def test_the_condition_does_not_depend_on_the_statistics_of_latents():
    model, video = make_tokenizer(CONFIG), make_clip(5, 16, 16)
    before = model.decode(model.encode(video), EULER)
    model.tokenizer.latents_mean.fill_(0.3), model.tokenizer.latents_std.fill_(1.7)
    assert torch.allclose(model.decode(model.encode(video), EULER), before, atol=1e-4)


def test_long_clips_go_on_from_the_last_frame():
    """With a denoiser that repeats its known first frame for ever, a long clip stands still after the first window."""
    model, seen = make_tokenizer(dataclasses.replace(COARSE, hold_first=0.5)), []

    def still(x, t, features):
        seen.append((tuple(x.shape[2:3]), t.clone()))
        first = model.pixels(x[:, :, :1])[:, :, :1].expand(-1, -1, 4, -1, -1)
        return model.front_end(first).expand_as(x)

    model.config.__dict__["prediction_type"] = "sample"
    model._denoiser = lambda f: make_denoiser(still, FlowPath(), "sample", features=f)
    video = make_clip(22, 8, 8)  # 7 frames of patches in windows of 3, then 1 + 2, then 1 + 2
    out = model.decode(model.encode(video), EULER, num_inference_steps=1)
    assert [shape for shape, _ in seen] == [(3,), (3,), (3,)] and out.shape == video.shape
    assert torch.allclose(out[:, :, 9:], out[:, :, 8:9].clamp(-1, 1).expand(-1, -1, 13, -1, -1), atol=1e-6)
    assert seen[0][1].tolist() == [1.0] and seen[1][1].tolist() == [[0.0, 1.0, 1.0]]


def test_a_held_frame_goes_in_clean_and_every_solver_keeps_its_order():
    """x0 = 0.5 x is no real denoiser, but its flow has a closed solution: dx/dt = (x - 0.5 x) / t, so x(s) is
    x(t) sqrt(s / t). From t = 1 to 0.25 the rest of the clip must come out as without a held frame."""
    x, known = torch.randn(2, 3, 4, 2, 2, dtype=torch.float64), torch.randn(2, 3, 1, 2, 2, dtype=torch.float64)
    times, levels = torch.linspace(1.0, 0.25, 9, dtype=torch.float64), []

    def half(x, t):
        levels.append(t)
        return 0.5 * x

    for solve, tolerance in ((SAMPLERS["euler"], 0.1), (SAMPLERS["heun"], 0.005)):
        free = solve(half, x, times, FlowPath())
        out = solve(hold_first(half, known), x, times, FlowPath())
        assert torch.equal(out[:, :, 1:], free[:, :, 1:])
        assert torch.allclose(free, 0.5 * x, rtol=0, atol=tolerance * x.abs().max().item())
    assert all(not level[:, 0].any() and level[:, 1:].all() for level in levels if level.ndim == 2)


@pytest.mark.parametrize("config", [CONFIG, dataclasses.replace(COARSE, time=TimeDistribution(shift=3.0))])
def test_a_saved_tokenizer_is_the_same(config, tmp_path):
    model, video = make_tokenizer(config), make_clip(7, 9, 11)
    model.tokenizer.latents_std.fill_(1.5)
    model.save_pretrained(tmp_path / "tok")
    again = DiffusionTokenizer.from_pretrained(tmp_path / "tok")
    assert (
        again.config == config and json.loads((tmp_path / "tok" / "config.json").read_text())["patch"] == config.patch
    )
    # Not to the bit: kernels are chosen by the memory format of the weights, which files do not know.
    out, expected = again.decode(again.encode(video), EULER), model.decode(model.encode(video), EULER)
    assert torch.allclose(out, expected, atol=1e-5)
    with pytest.raises(VidgenError, match="holds a DiffusionTokenizer, not a VideoTokenizer"):
        VideoTokenizer.from_pretrained(tmp_path / "tok")
    assert again.config.name == "kl_causal_4x8x8_4ch_diffusion"
    assert isinstance(open_model(str(tmp_path / "tok"), "cpu", "float32"), DiffusionTokenizer)  # what `extract` opens


def test_latents_of_another_size_are_refused():
    model = make_tokenizer(CONFIG)
    encoded = model.encode(make_clip(5, 16, 16))
    for change in ({"num_frames": 12}, {"height": 40}, {"latents": encoded.latents[:, :3]}):
        with pytest.raises(VidgenError, match="do not hold"):
            model.decode(dataclasses.replace(encoded, **change), EULER)
    with pytest.raises(VidgenError, match="num_inference_steps is 0"):
        model.decode(encoded, EULER, num_inference_steps=0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"patch": 3}, "patches of 2 frames and 3 pixels do not divide"),
        ({"patch_t": 0}, "patch_t=0 is not a whole number from 1"),
        ({"prediction_type": "epsilon"}, "choose one of sample, flow_prediction, v_prediction"),
        ({"window": 1}, "window=1"),
        ({"hold_first": 1.0}, "hold_first=1.0"),
        ({"tokenizer": TokenizerConfig(bottleneck="lfq")}, "'lfq': features of a diffusion tokenizer are continuous"),
        ({"tokenizer": {"colour": 3}}, "key `tokenizer` of a diffusion tokenizer: unknown keys colour"),
        ({"width": 30}, "width 30"),
    ],
)
def test_settings_that_cannot_be_are_named(change, says):
    with pytest.raises(VidgenError, match=says):
        dataclasses.replace(CONFIG, **change)


@pytest.mark.filterwarnings("error::FutureWarning")
def test_configs_saved_under_former_names_load_and_keep_their_hash():
    values = dataclasses.asdict(dataclasses.replace(CONFIG, prediction_type="flow_prediction"))
    values["parametrisation"] = values.pop("prediction_type").removesuffix("_prediction")
    config = config_from_dict(DiffusionTokenizerConfig, values, "config.json")
    assert config.prediction_type == "flow_prediction"
    assert former_dict(config)["parametrisation"] == "flow"  # which hashes go by
    with pytest.warns(FutureWarning, match="'flow' is now called 'flow_prediction'"):
        assert dataclasses.replace(CONFIG, prediction_type="flow") == config
