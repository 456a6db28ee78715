"""Guidance in the ordinary call: by name it is what its parts give; one pass or several, the clip is the same."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from vidgen.data.frames import to_tensor
from vidgen.diffusion.denoiser import make_denoiser
from vidgen.diffusion.noise import draw_per_sample, sample_generator
from vidgen.diffusion.paths import FlowPath
from vidgen.errors import VidgenError
from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig
from vidgen.models.text.cache import TextCache
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.conditioning.frame_conditioning import FrameConditioning
from vidgen.samplers.conditioning.inpainting import hide_frames
from vidgen.samplers.guidance import (
    GUIDANCE,
    Guidance,
    Rescale,
    apg,
    away_from,
    cfg,
    cfg_zero,
    perturbed_attention,
)
from vidgen.samplers.guidance import batched_guidance as memory
from vidgen.samplers.guidance.guided_denoiser import encode_prompts, join_rows
from vidgen.samplers.solvers import SAMPLERS
from vidgen.samplers.step_cache import take_rows

FAST = dict(num_frames=5, height=32, width=16, num_inference_steps=3, guidance_scale=3.0, output_type="latent")
PROMPTS = ["a star", "a red circle moves right"]


@pytest.fixture(scope="module")
def weaker():
    torch.manual_seed(1)
    network = VideoDiT(VideoDiTConfig(latent_channels=4, width=16, depth=1, head_dim=16, text_width=16))
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return network.eval().requires_grad_(False)


def sample_by_hand(pipe, make):
    """Latents of PROMPTS from a guided denoiser made of (network, text, negative text)."""
    shape = pipe.latent_shape(5, 32, 16)
    noise = draw_per_sample(shape, [sample_generator(0, 0)] * 1 + [sample_generator(0, 0)])
    texts = pipe.text_encoder(PROMPTS), pipe.text_encoder(["", ""])

    def denoiser(text, network=pipe.transformer):
        return make_denoiser(network, pipe.path, "flow_prediction", text=text)

    with torch.inference_mode():
        guided = make(denoiser, *texts)
        return SAMPLERS["euler"](guided, noise, pipe.time_for(shape).steps(3), pipe.path)


def by_parts(pipe, weaker):
    weak = perturbed_attention(pipe.transformer, pipe.transformer, [1])
    whole = Rescale(share=1.0, path=pipe.path, prediction_type="flow_prediction")
    return {
        "cfg": (Guidance(), lambda d, text, null: cfg(d(text), d(null), 3.0)),
        "rescale": (
            Guidance(name="rescale"),
            lambda d, text, null: cfg(d(text), d(null), 3.0, rescale=replace(whole, share=0.7)),
        ),
        "apg": (
            Guidance(name="apg", options={"norm_limit": 2.0}),
            lambda d, text, null: apg(d(text), d(null), 3.0, norm_limit=2.0),
        ),
        "cfg_zero": (
            Guidance(name="cfg_zero", interval=(0.0, 0.9)),
            lambda d, text, null: cfg_zero(d(text), d(null), 3.0, (0.0, 0.9)),
        ),
        "autoguidance": (
            Guidance(name="autoguidance", options={"weaker": weaker}),
            lambda d, text, null: cfg(d(text), d(text, weaker), 3.0),
        ),
        "pag": (
            Guidance(name="pag", options={"blocks": [1]}),
            lambda d, text, null: away_from(d(text), [(d(text, weak), 3.0)]),
        ),
        "cfg_perturbed": (
            Guidance(name="cfg_perturbed", options={"blocks": [1], "perturbed_scale": 0.5}),
            lambda d, text, null: away_from(d(text), [(d(null), 2.0), (d(text, weak), 0.5)]),
        ),
    }


@pytest.mark.parametrize("name", [name for name in GUIDANCE if name != "text_image"])
def test_guidance_by_name_is_what_its_parts_give(pipe, weaker, name):
    guidance, make = by_parts(pipe, weaker)[name]
    out = pipe(PROMPTS, guidance=guidance, **FAST).latents
    torch.testing.assert_close(out, sample_by_hand(pipe, make), atol=1e-5, rtol=1e-5)
    if not guidance.options:  # the name alone, with its settings beside it
        said = {"guidance_interval": guidance.interval, "guidance_rescale": guidance.rescale}
        assert torch.equal(pipe(PROMPTS, guidance=name, **said, **FAST).latents, out)


@pytest.mark.parametrize("name", ["cfg", "apg", "text_image"])
def test_one_pass_or_several_give_the_same_clip(pipe, waves, name):
    given = {"image": waves(1, 32, 16)[0]}
    one, two = (pipe(PROMPTS, guidance=name, guidance_passes=p, **given, **FAST) for p in ("batched", "sequential"))
    torch.testing.assert_close(one.latents, two.latents, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("free", "rows"), [(10**12, [4] * 3), (1000, [2] * 6)])
def test_memory_chooses_the_passes(pipe, monkeypatch, free, rows):
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    seen = []
    handle = pipe.transformer.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    pipe(PROMPTS, **FAST)
    handle.remove()
    assert seen == rows


def test_scales_of_text_and_frames(pipe, waves):
    given = {"image": waves(1, 32, 16)[0]}
    clip = partial(pipe, PROMPTS, **given)
    # With 1 for the frames, what is left is guidance by the text alone: the two estimates without it cancel.
    same = clip(guidance="text_image", **FAST).latents
    torch.testing.assert_close(same, clip(**FAST).latents, atol=1e-4, rtol=1e-4)
    assert torch.equal(pipe(PROMPTS, guidance="text_image", **FAST).latents, pipe(PROMPTS, **FAST).latents)
    more = Guidance(name="text_image", options={"image_scale": 2.5})
    out = clip(guidance=more, **FAST).latents
    assert not torch.allclose(out, same, atol=1e-2)
    first = pipe.vae.encode(to_tensor(waves(1, 32, 16))[None]).latents
    torch.testing.assert_close(out[:, :, :1], first.expand(2, -1, -1, -1, -1))


def test_hidden_frames_say_nothing(chain):
    # Of a chain whose first frame is hidden the others are estimated as a chain without it.
    path = FlowPath()
    noise, z = torch.randn(2, 2, 1, 4, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind(0)
    known = torch.tensor([True, False, False, False])[:, None, None]
    hide = hide_frames(FrameConditioning(latents=z, known=known), noise, torch.ones(()), path)
    t = torch.tensor([[0.0, 0.4, 0.4, 0.4]] * 2, dtype=torch.float64)
    seen = chain.denoiser(path)(*hide(noise, t))[:, :, 1:]
    torch.testing.assert_close(seen, chain.denoiser(path)(noise[:, :, 1:], t[:, 1:]))
    assert hide_frames(None, noise, torch.ones(()), path) is None
    assert hide_frames(FrameConditioning(latents=z, known=torch.zeros_like(known)), noise, torch.ones(()), path) is None


def test_every_prompt_is_encoded_once(pipe):
    calls = []

    def encoder(prompts):
        calls.append(list(prompts))
        return pipe.text_encoder(prompts)

    text = encode_prompts(encoder, ["a star", "a circle", "a star"])
    assert calls == [["a star", "a circle"]]
    torch.testing.assert_close(text.tokens, pipe.text_encoder(["a star", "a circle", "a star"]).tokens)
    text = pipe.text_encoder(["a star", "a red circle"])
    both = join_rows([text, pipe.text_encoder([""])])
    assert both.mask.sum(1).tolist() == [*text.mask.sum(1).tolist(), 2]
    torch.testing.assert_close(take_rows(both, torch.tensor([2])).pooled(), pipe.text_encoder([""]).pooled())


def test_cached_prompts_give_the_same_clip(pipe, tmp_path):
    own = VideoPipeline(pipe.vae, pipe.transformer, pipe.text_encoder, pipe.scheduler)
    assert own.text_cache is None  # so small an encoder is done before a file is found
    want = own(PROMPTS, **FAST).latents
    own.text_cache = TextCache(tmp_path)
    for _ in range(2):
        torch.testing.assert_close(own(PROMPTS, **FAST).latents, want, atol=1e-5, rtol=1e-5)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3  # and the negative prompt


def test_perturbed_attention_keeps_its_former_scale_and_warns(pipe):
    settings = FAST | {"guidance_scale": 2.8}
    with pytest.warns(FutureWarning, match="'perturbed_attention' is now 'pag', whose scale is the paper's: 1 less"):
        former = pipe(PROMPTS, guidance="perturbed_attention", **settings).latents
    now = pipe(PROMPTS, guidance="pag", **(settings | {"guidance_scale": 1.8})).latents
    torch.testing.assert_close(former, now, atol=1e-5, rtol=1e-5)
    none = pipe(PROMPTS, guidance="pag", **(settings | {"guidance_scale": 0.0})).latents
    assert torch.equal(none, pipe(PROMPTS, **(settings | {"guidance_scale": 1.0})).latents)


def test_perturbed_attention_counts_beside_text_guidance_that_is_off(pipe):
    settings = FAST | {"guidance_scale": 1.0}
    both = Guidance(name="cfg_perturbed", options={"perturbed_scale": 0.5})
    alone = pipe(PROMPTS, guidance="pag", **(settings | {"guidance_scale": 0.5})).latents
    torch.testing.assert_close(pipe(PROMPTS, guidance=both, **settings).latents, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("options", "still"), [({}, 1), ({"zero_init_steps": 2}, 2), ({"zero_init_steps": 0}, 0)])
@pytest.mark.parametrize("highest", [1.0, 0.999999])  # Wan's is the second
def test_cfg_zero_counts_its_first_steps(pipe, options, still, highest):
    time = replace(pipe.scheduler.time_distribution, highest=highest)
    own = VideoPipeline(pipe.vae, pipe.transformer, pipe.text_encoder, replace(pipe.scheduler, time_distribution=time))
    clips = []
    own(
        PROMPTS,
        guidance=Guidance(name="cfg_zero", options=options),
        callback_on_step_end=lambda i, x, x0: clips.append(x.clone()),
        **FAST,
    )
    noise = draw_per_sample(own.latent_shape(5, 32, 16), [sample_generator(0, 0) for _ in PROMPTS]).to(clips[0])
    moved = [not torch.allclose(x, noise, atol=1e-4) for x in clips]
    assert moved == [False] * still + [True] * (3 - still)


BAD = {
    "half a step": (
        {"guidance": "cfg_zero", "zero_init_steps": 0.5},
        "zero_init_steps is 0.5; it is a number of steps",
    ),
    "two ways": (
        {"guidance": "cfg_zero", "zero_init_steps": 1, "zero_from": 0.9},
        "zero_init_steps and zero_from say the same",
    ),
    "name": ({"guidance": "magic"}, "guidance 'magic' is unknown; choose one of cfg, rescale, apg"),
    "interval": ({"guidance_interval": (0.8, 0.2)}, r"guidance_interval is \(0.8, 0.2\); two noise levels"),
    "rescale": ({"guidance_rescale": 1.5}, "guidance_rescale is 1.5; it is a share"),
    "passes": ({"guidance_passes": "many"}, "guidance_passes 'many' is unknown; choose one of auto, batched"),
    "no weaker": ({"guidance": "autoguidance"}, "autoguidance leads away from a weaker network: give one"),
    "negative": ({"guidance": "pag", "negative_prompt": "a"}, "leave negative_prompt out"),
    "two networks": ({"guidance": "pag", "guidance_passes": "batched"}, "runs two networks"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_guided_is_named(pipe, case):
    said, line = BAD[case]
    options = {name: value for name, value in said.items() if name.startswith("zero_")}
    said = {name: value for name, value in said.items() if name not in options}
    with pytest.raises(VidgenError, match=line):
        guidance = {"guidance": Guidance(name=said["guidance"], options=options)} if options else {}
        pipe("a star", **said | guidance, **FAST)


def test_options_that_are_none_are_named(pipe, weaker):
    with pytest.raises(VidgenError, match="guidance 'cfg' has no option 'eta'; it has none"):
        Guidance(options={"eta": 1.0})
    with pytest.raises(VidgenError, match="has no option 'blocks'; it has eta, momentum, norm_limit"):
        Guidance(name="apg", options={"blocks": [1]})
    with pytest.raises(VidgenError, match=r"pag in blocks \(7,\): this model's are 0 to 1"):
        pipe("a star", guidance=Guidance(name="pag", options={"blocks": [7]}), **FAST)
    other = VideoDiT(VideoDiTConfig(latent_channels=3, width=16, depth=1, head_dim=16, text_width=16))
    with pytest.raises(VidgenError, match="the weaker network has latent_channels 3, and this model 4"):
        pipe("a star", guidance=Guidance(name="autoguidance", options={"weaker": other}), **FAST)


@pytest.mark.parametrize(("passes", "times"), [("batched", 1), ("sequential", 2)])
def test_text_is_prepared_once_for_each_pass(pipe, monkeypatch, passes, times):
    prepare, seen = pipe.transformer.prepare_text, []
    monkeypatch.setattr(pipe.transformer, "prepare_text", lambda text: seen.append(len(text.mask)) or prepare(text))
    size = {"num_frames": 5, "height": 32, "width": 16, "num_inference_steps": 3, "output_type": "latent"}
    pipe("a star", guidance_scale=4.0, guidance_passes=passes, **size)
    assert seen == [2 // times] * times
