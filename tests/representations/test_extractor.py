"""Features are those of the model's own pass, whatever the batch, and no layer runs that nobody asked for."""

import pytest
import torch
from einops import rearrange

from vidgen.diffusion.noise import draw_per_sample, sample_generator
from vidgen.errors import VidgenError
from vidgen.representations.extractor import FeatureExtractor, feature_key, list_layers, parse_key
from vidgen.representations.noising import PredictedNoise
from vidgen.representations.pooling import POOLS, owners
from vidgen.tokenizers.bottlenecks import BOTTLENECKS
from vidgen.tokenizers.config import TokenizerConfig
from vidgen.tokenizers.model import VideoTokenizer

BOTH = ["tokenizer.latents", "dit.blocks.1"]


def test_taps_are_listed_in_pixels(pipeline):
    info = {layer.name: layer for layer in list_layers(pipeline)}
    assert [name for name in info if name.startswith("dit.")] == [f"dit.blocks.{i}" for i in range(4)]
    assert info["tokenizer.latents"].reduction == (4, 8, 8) and info["tokenizer.latents"].causal
    assert info["dit.blocks.0"].reduction == (4, 16, 16) and not info["dit.blocks.0"].causal
    assert [layer.name for layer in list_layers(pipeline.vae)] == [
        name for name in info if name.startswith("tokenizer.")
    ]


def test_every_tap_has_the_shape_its_info_says(pipeline, video):
    infos = list_layers(pipeline)
    out = FeatureExtractor(pipeline, [layer.name for layer in infos], [0.1], pool="none")(video)
    for layer in infos:
        key = feature_key(layer.name, 0.1 if layer.module == "denoiser" else None)
        t, h, w = layer.reduction
        frames = 12 // t  # nine frames, padded to twelve: three more before the first
        assert out.features[key].shape == (3, frames, 32 // h, 48 // w, layer.num_chs)
        assert out.times[key].shape == (3, frames)


def test_features_are_those_of_the_models_own_pass(pipeline, video):
    out = FeatureExtractor(pipeline, BOTH, [0.3], pool="none", seed=5)(video, ids=["a", "b", "c"])
    latents = pipeline.vae.encode(video).latents
    assert torch.equal(out.features["tokenizer.latents"], rearrange(latents, "b c t h w -> b t h w c"))
    noise = draw_per_sample(latents.shape[1:], [sample_generator(5, name) for name in "abc"])
    walk = pipeline.transformer.iter_features(
        0.7 * latents + 0.3 * noise, torch.full((3,), 0.3), pipeline.text_encoder([""] * 3)
    )
    torch.testing.assert_close(out.features["dit.blocks.1@t=0.30"], dict(walk)["blocks.1"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ids", [None, ["x", "y", "z"]])
def test_features_do_not_depend_on_the_batch(pipeline, video, ids):
    fx = FeatureExtractor(pipeline, [*BOTH, "dit.blocks.3"], [0.0, 0.5])
    together = fx(video, ids)
    for i in range(3):
        alone = fx(video[i : i + 1], ids and ids[i : i + 1])
        for key, x in alone.features.items():
            torch.testing.assert_close(x[0], together.features[key][i], rtol=1e-5, atol=1e-6)
    again = fx(video, ids)
    assert all(torch.equal(x, again.features[key]) for key, x in together.features.items())


def test_noise_is_of_seed_and_id_and_level_zero_has_none(pipeline, video):
    def features(level, seed, name):
        fx = FeatureExtractor(pipeline, ["dit.blocks.2"], [level], seed=seed)
        return next(iter(fx(video[:1], [name]).features.values()))

    assert torch.equal(features(0.0, 0, "a"), features(0.0, 1, "b"))
    assert not torch.equal(features(0.4, 0, "a"), features(0.4, 1, "a"))
    assert not torch.equal(features(0.4, 0, "a"), features(0.4, 0, "b"))


def test_other_taps_and_levels_change_nothing(pipeline, video):
    one = FeatureExtractor(pipeline, ["dit.blocks.2"], [0.25])(video).features
    names = [layer.name for layer in list_layers(pipeline)]
    many = FeatureExtractor(pipeline, names, [0.125, 0.25])(video).features
    assert torch.equal(one["dit.blocks.2@t=0.25"], many["dit.blocks.2@t=0.25"])
    assert "dit.blocks.2@t=0.125" in many


@pytest.mark.parametrize(
    "names, blocks, encoder_layers",
    [(["dit.blocks.1"], 2, None), (["dit.blocks.3", "dit.blocks.0"], 4, None), (["tokenizer.encoder.layers.1"], 0, 2)],
)
def test_nothing_runs_beyond_the_last_tap(pipeline, video, names, blocks, encoder_layers):
    ran = []
    everything = {"block": pipeline.transformer.blocks, "layer": pipeline.vae.encoder.layers}
    hooks = [
        module.register_forward_hook(lambda *_, kind=kind: ran.append(kind))
        for kind, modules in everything.items()
        for module in modules
    ]
    FeatureExtractor(pipeline, names, [0.1])(video)
    for hook in hooks:
        hook.remove()
    assert ran.count("block") == blocks
    assert encoder_layers is None or ran.count("layer") == encoder_layers


def test_pools_are_those_of_the_unpooled(pipeline, video):
    whole = FeatureExtractor(pipeline, BOTH, [0.1], pool="none")(video).features
    for name, axes in {"mean": (1, 2, 3), "temporal": (1,), "spatial": (2, 3)}.items():
        pooled = FeatureExtractor(pipeline, BOTH, [0.1], pool=name)(video).features
        for key, x in pooled.items():
            torch.testing.assert_close(x, whole[key].mean(dim=axes))
    largest = FeatureExtractor(pipeline, BOTH, [0.1], pool="max")(video).features
    assert all(torch.equal(x, whole[key].amax(dim=(1, 2, 3))) for key, x in largest.items())
    assert set(POOLS) == {"none", "mean", "temporal", "spatial", "max"}


def test_times_are_of_the_last_frame_in_each_feature(pipeline, video):
    seconds = torch.arange(7) / 10 + torch.tensor([[0.0], [1.0], [2.0]])
    out = FeatureExtractor(pipeline, BOTH)(video[:, :, :7], times=seconds)
    for when in out.times.values():
        torch.testing.assert_close(when, seconds[:, [0, 4, 6]])  # frame 0; 1 to 4; 5 and 6, then padding
    assert FeatureExtractor(pipeline)(video).times["tokenizer.latents"][0].tolist() == [0, 4, 8]


SETTINGS = {"vq": {"codebook_size": 64}, "fsq": {"levels": (5, 5, 5, 5)}, "residual": {"codebook_size": 16}}
SETTINGS["residual"] |= {"quantizers": 3}


@pytest.fixture(scope="module")
def make_tokenizer():
    """A small tokenizer with any bottleneck."""

    def make(name, **more):
        shape = {"latent_channels": 4, "widths": (8, 16), "temporal": (True,), "patch": 4, "patch_t": 2}
        torch.manual_seed(0)
        config = TokenizerConfig(bottleneck=name, **shape, **SETTINGS.get(name, {}), **more)
        return VideoTokenizer(config).eval().requires_grad_(False)

    return make


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_causal_taps_of_a_prefix_are_the_prefix(make_tokenizer, video, name):
    model = make_tokenizer(name)
    assert all(layer.causal for layer in list_layers(model))
    fx = FeatureExtractor(model, [layer.name for layer in list_layers(model)], pool="none")
    whole = fx(video)
    for frames in (1, 5):
        part = fx(video[:, :, :frames])
        for key, x in part.features.items():
            torch.testing.assert_close(x, whole.features[key][:, : x.shape[1]], rtol=1e-5, atol=1e-5)
            assert torch.equal(part.times[key], whole.times[key][:, : x.shape[1]])


def test_a_denoisers_taps_are_not_causal_and_say_so(pipeline, video):
    fx = FeatureExtractor(pipeline, ["dit.blocks.3"], [0.0], pool="none")
    whole, part = (next(iter(fx(clip).features.values())) for clip in (video, video[:, :, :5]))
    assert not fx.layers["dit.blocks.3"].causal and not torch.allclose(part, whole[:, :2], atol=1e-3)


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_what_the_bottleneck_makes_are_taps(make_tokenizer, video, name):
    model = make_tokenizer(name)
    encoded = model.encode(video)
    layers = {layer.name.removeprefix("tokenizer."): layer for layer in list_layers(model)}
    found = FeatureExtractor(model, [f"tokenizer.{layer}" for layer in layers], pool="none")(video).features
    assert list(layers)[-1] == "latents" and ("indices" in layers) == (encoded.indices is not None)
    assert ("posterior.logvar" in layers) == (encoded.posterior is not None)
    if encoded.posterior is not None:
        logvar = rearrange(encoded.posterior.logvar, "b c t h w -> b t h w c")
        assert torch.equal(found["tokenizer.posterior.logvar"], logvar)
        latents = rearrange(encoded.posterior.mean, "b c t h w -> b t h w c")
        assert torch.equal(found["tokenizer.latents"], latents)
    if encoded.indices is not None:
        indices = found["tokenizer.indices"].long()
        assert torch.equal(indices.reshape(encoded.indices.shape), encoded.indices)
        assert indices.shape[-1] == layers["indices"].num_chs
        for pool in ("mean", "frame"):
            with pytest.raises(VidgenError, match="tokenizer.indices are numbers of codes"):
                FeatureExtractor(model, ["tokenizer.indices"], pool=pool)


def test_an_ensemble_is_the_mean_over_draws_of_the_clips_own(pipeline, video):
    layers = ["tokenizer.latents", "dit.blocks.0", "dit.blocks.2"]
    alone = [FeatureExtractor(pipeline, layers, [0.0, 0.3], pool="none", noise=OneDraw(pipeline, k)) for k in range(3)]
    each = [fx(video, ["a", "b", "c"]).features for fx in alone]
    mean = FeatureExtractor(pipeline, layers, [0.0, 0.3], pool="none", ensemble=3)
    together, part = mean(video, ["a", "b", "c"]).features, mean(video[1:2], ["b"]).features
    for key, x in together.items():
        torch.testing.assert_close(x, torch.stack([one[key] for one in each]).mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(x[1:2], part[key], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(each[0]["dit.blocks.2@t=0.30"], each[1]["dit.blocks.2@t=0.30"], atol=1e-3)
    one = FeatureExtractor(pipeline, layers, [0.3], pool="none")(video, ["a", "b", "c"]).features
    assert torch.equal(one["dit.blocks.2@t=0.30"], each[0]["dit.blocks.2@t=0.30"])


class OneDraw:
    """The k-th draw of the default noise alone."""

    name, random = "one draw", False

    def __init__(self, pipeline, number):
        self.all, self.number = FeatureExtractor(pipeline, ["dit.blocks.0"], [0.3]).noise, number

    def __call__(self, x0, levels, ids, draw=0):
        return self.all(x0, levels, ids, self.number)


def test_predicted_noise_is_what_the_denoiser_would_take_away(pipeline, video):
    x0 = pipeline.vae.encode(video).latents
    fx = FeatureExtractor(pipeline, ["dit.blocks.1"], [0.0, 0.4], pool="none", noise="predicted")
    clean, noised = fx.noise(x0, [0.0, 0.4], ["a", "b", "c"])
    t = torch.full((3,), 0.4)
    denoised = pipeline.unguided([""] * 3)(0.6 * x0, t)
    assert torch.equal(clean, x0)
    # alpha x0 = alpha x0' + sigma eps: the noise that is added is the one that was seen
    torch.testing.assert_close((noised - 0.6 * x0) / 0.4, 0.6 * (x0 - denoised) / 0.4, rtol=1e-4, atol=1e-5)
    walk = dict(pipeline.transformer.iter_features(noised, t, pipeline.text_encoder([""] * 3)))
    found = fx(video, ["a", "b", "c"]).features["dit.blocks.1@t=0.40"]
    torch.testing.assert_close(found, walk["blocks.1"], rtol=1e-4, atol=1e-5)
    assert torch.equal(found, fx(video, ["d", "e", "f"]).features["dit.blocks.1@t=0.40"])


def test_noise_from_any_function_of_the_latents(pipeline, video):
    silent = PredictedNoise(path=pipeline.path, predict=lambda x0, level: torch.zeros_like(x0))
    fx = FeatureExtractor(pipeline, ["dit.blocks.1"], [0.5], pool="none", noise=silent)
    t, x0 = torch.full((3,), 0.5), pipeline.vae.encode(video).latents
    walk = dict(pipeline.transformer.iter_features(0.5 * x0, t, pipeline.text_encoder([""] * 3)))
    torch.testing.assert_close(fx(video).features["dit.blocks.1@t=0.50"], walk["blocks.1"], rtol=1e-4, atol=1e-5)


def test_a_row_for_every_frame(pipeline, video):
    seconds = torch.arange(7, dtype=torch.float64).expand(3, -1) / 10
    frames = FeatureExtractor(pipeline, BOTH, pool="frame")(video[:, :, :7], times=seconds)
    cells = FeatureExtractor(pipeline, BOTH, pool="spatial")(video[:, :, :7], times=seconds)
    for key, x in frames.features.items():
        part_of = [0, 1, 1, 1, 1, 2, 2]
        assert torch.equal(x, cells.features[key][:, part_of]) and x.shape[1] == 7
        assert torch.equal(frames.times[key], cells.times[key][:, part_of])
    assert owners(torch.tensor([0, 0, 0, 2, 4]), 5).tolist() == [2, 3, 3, 4, 4]  # a first frame with three cells


def test_the_model_stays_in_its_mode(pipeline, video):
    pipeline.transformer.train()
    out = FeatureExtractor(pipeline, BOTH)(video)
    modes = {module.training for module in pipeline.transformer.modules()}
    pipeline.transformer.eval()
    assert modes == {True} and not any(x.requires_grad for x in out.features.values())


def test_keys_round_trip():
    for layer, level in [
        ("dit.blocks.7", 0.1),
        ("dit.blocks.7", 0.125),
        ("dit.blocks.0", 1.0),
        ("tokenizer.latents", None),
    ]:
        assert parse_key(feature_key(layer, level)) == (layer, level)
    assert feature_key("dit.blocks.7", 0.1) == "dit.blocks.7@t=0.10"


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"layers": ["dit.blocks.9"]}, "dit.blocks.9.*tokenizer.latents.*dit.blocks.3"),
        ({"layers": []}, "no layers"),
        ({"noise_levels": [1.5]}, r"1.5 is outside \[0, 1\]"),
        ({"noise_levels": [float("nan")]}, "outside"),
        ({"layers": ["dit.blocks.1"], "noise_levels": []}, "need a noise level"),
        ({"pool": "median"}, "median.*mean.*frame"),
        ({"pool": "attentive"}, "weights that are learned.*probe"),
        ({"layers": ["dit.blocks.1"], "noise": "pink"}, "pink.*random, predicted"),
        ({"ensemble": 0}, "ensemble of 0"),
    ],
)
def test_settings_that_cannot_be(pipeline, arguments, words):
    with pytest.raises(VidgenError, match=words):
        FeatureExtractor(pipeline, **arguments)


def test_models_and_clips_that_do_not_fit(pipeline, video):
    with pytest.raises(VidgenError, match="VideoDiT has no layers"):
        FeatureExtractor(pipeline.transformer)
    with pytest.raises(VidgenError, match="dit.blocks.1.*not there"):
        FeatureExtractor(pipeline.vae, ["dit.blocks.1"])
    odd = video[..., :37]  # 40 after the tokenizer's padding: five latents, and patches of two
    with pytest.raises(VidgenError, match="32x37.*multiple of 16x16"):
        FeatureExtractor(pipeline, BOTH)(odd)
    assert FeatureExtractor(pipeline)(odd[:, :, :1, :9]).features["tokenizer.latents"].shape == (3, 4)
    with pytest.raises(ValueError, match="2 ids for 3 clips"):
        FeatureExtractor(pipeline)(video, ids=["a", "b"])
    with pytest.raises(ValueError, match="1 prompts for 3 clips"):
        FeatureExtractor(pipeline)(video, prompts=["a"])


def test_each_clip_may_have_a_prompt_of_its_own(pipeline, video):
    said = ["a red circle", "", "a star that is blue and grows"]
    together = FeatureExtractor(pipeline, BOTH, pool="none")(video, ids=["a", "b", "c"], prompts=said)
    for i, prompt in enumerate(said):
        alone = FeatureExtractor(pipeline, BOTH, pool="none", prompt=prompt)(video[i : i + 1], ids=["abc"[i]])
        for key, x in alone.features.items():
            torch.testing.assert_close(together.features[key][i], x[0], rtol=1e-4, atol=1e-5)
    plain = FeatureExtractor(pipeline, BOTH, pool="none")(video, ids=["a", "b", "c"])
    pairs = zip(together.features["dit.blocks.1@t=0.10"], plain.features["dit.blocks.1@t=0.10"], strict=True)
    same = [torch.allclose(told, null, rtol=1e-4, atol=1e-5) for told, null in pairs]
    assert same == [False, True, False]
