"""Features are those of the model's own pass, whatever the batch, and no layer runs that nobody asked for."""

import pytest
import torch
from einops import rearrange

from vidgen.errors import VidgenError
from vidgen.noise import draw_per_sample, sample_generator
from vidgen.representations.extractor import POOLS, FeatureExtractor, feature_key, list_taps, parse_key

BOTH = ["tokenizer.latents", "dit.blocks.1"]


def test_taps_are_listed_in_pixels(pipeline):
    info = {tap.name: tap for tap in list_taps(pipeline)}
    assert [name for name in info if name.startswith("dit.")] == [f"dit.blocks.{i}" for i in range(4)]
    assert info["tokenizer.latents"].stride == (4, 8, 8) and info["tokenizer.latents"].causal
    assert info["dit.blocks.0"].stride == (4, 16, 16) and not info["dit.blocks.0"].causal
    assert [tap.name for tap in list_taps(pipeline.vae)] == [name for name in info if name.startswith("tokenizer.")]


def test_every_tap_has_the_shape_its_info_says(pipeline, video):
    infos = list_taps(pipeline)
    out = FeatureExtractor(pipeline, [tap.name for tap in infos], [0.1], pool="none")(video)
    for tap in infos:
        key = feature_key(tap.name, 0.1 if tap.space == "denoiser" else None)
        t, h, w = tap.stride
        frames = 12 // t  # nine frames, padded to twelve: three more before the first
        assert out.features[key].shape == (3, frames, 32 // h, 48 // w, tap.width)
        assert out.times[key].shape == (3, frames)


def test_features_are_those_of_the_models_own_pass(pipeline, video):
    out = FeatureExtractor(pipeline, BOTH, [0.3], pool="none", seed=5)(video, ids=["a", "b", "c"])
    latents = pipeline.vae.encode(video).latents
    assert torch.equal(out.features["tokenizer.latents"], rearrange(latents, "b c t h w -> b t h w c"))
    noise = draw_per_sample(latents.shape[1:], [sample_generator(5, name) for name in "abc"])
    walk = pipeline.transformer.walk(
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
    names = [tap.name for tap in list_taps(pipeline)]
    many = FeatureExtractor(pipeline, names, [0.125, 0.25])(video).features
    assert torch.equal(one["dit.blocks.2@t=0.25"], many["dit.blocks.2@t=0.25"])
    assert "dit.blocks.2@t=0.125" in many


@pytest.mark.parametrize(
    "taps, blocks, layers",
    [(["dit.blocks.1"], 2, None), (["dit.blocks.3", "dit.blocks.0"], 4, None), (["tokenizer.encoder.layers.1"], 0, 2)],
)
def test_nothing_runs_beyond_the_last_tap(pipeline, video, taps, blocks, layers):
    ran = []
    everything = {"block": pipeline.transformer.blocks, "layer": pipeline.vae.encoder.layers}
    hooks = [
        module.register_forward_hook(lambda *_, kind=kind: ran.append(kind))
        for kind, modules in everything.items()
        for module in modules
    ]
    FeatureExtractor(pipeline, taps, [0.1])(video)
    for hook in hooks:
        hook.remove()
    assert ran.count("block") == blocks
    assert layers is None or ran.count("layer") == layers


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


def test_causal_taps_of_a_prefix_are_the_prefix(pipeline, video):
    fx = FeatureExtractor(pipeline.vae, [tap.name for tap in list_taps(pipeline.vae)], pool="none")
    whole, part = fx(video).features, fx(video[:, :, :5]).features
    for key, x in part.items():
        torch.testing.assert_close(x, whole[key][:, : x.shape[1]], rtol=1e-5, atol=1e-5)


def test_the_model_stays_in_its_mode(pipeline, video):
    pipeline.transformer.train()
    out = FeatureExtractor(pipeline, BOTH)(video)
    modes = {module.training for module in pipeline.transformer.modules()}
    pipeline.transformer.eval()
    assert modes == {True} and not any(x.requires_grad for x in out.features.values())


def test_keys_round_trip():
    for tap, level in [
        ("dit.blocks.7", 0.1),
        ("dit.blocks.7", 0.125),
        ("dit.blocks.0", 1.0),
        ("tokenizer.latents", None),
    ]:
        assert parse_key(feature_key(tap, level)) == (tap, level)
    assert feature_key("dit.blocks.7", 0.1) == "dit.blocks.7@t=0.10"


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"taps": ["dit.blocks.9"]}, "dit.blocks.9.*tokenizer.latents.*dit.blocks.3"),
        ({"taps": []}, "no taps"),
        ({"noise_levels": [1.5]}, r"1.5 is outside \[0, 1\]"),
        ({"noise_levels": [float("nan")]}, "outside"),
        ({"taps": ["dit.blocks.1"], "noise_levels": []}, "need a noise level"),
        ({"pool": "median"}, "median.*mean"),
    ],
)
def test_settings_that_cannot_be(pipeline, arguments, words):
    with pytest.raises(VidgenError, match=words):
        FeatureExtractor(pipeline, **arguments)


def test_models_and_clips_that_do_not_fit(pipeline, video):
    with pytest.raises(VidgenError, match="VideoDiT has no taps"):
        FeatureExtractor(pipeline.transformer)
    with pytest.raises(VidgenError, match="dit.blocks.1.*not there"):
        FeatureExtractor(pipeline.vae, ["dit.blocks.1"])
    odd = video[..., :37]  # 40 after the tokenizer's padding: five latents, and patches of two
    with pytest.raises(VidgenError, match="32x37.*multiple of 16x16"):
        FeatureExtractor(pipeline, BOTH)(odd)
    assert FeatureExtractor(pipeline)(odd[:, :, :1, :9]).features["tokenizer.latents"].shape == (3, 4)
    with pytest.raises(ValueError, match="2 ids for 3 clips"):
        FeatureExtractor(pipeline)(video, ids=["a", "b"])
