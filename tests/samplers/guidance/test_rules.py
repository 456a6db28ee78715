"""Guidance: at its neutral settings each is what it starts from; of linear Gaussian models the result is known."""

import pytest
import torch
from einops import rearrange

from vidgen.diffusion.denoiser import make_denoiser
from vidgen.diffusion.noise import TimeDistribution
from vidgen.diffusion.paths import FlowPath, expand_level
from vidgen.diffusion.prediction_types import PREDICTION_TYPES
from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig
from vidgen.models.layers import Attention
from vidgen.models.text.encoders import TextEncoding
from vidgen.samplers.evaluation.closed_forms import GaussianData
from vidgen.samplers.guidance import (
    GUIDANCE,
    Rescale,
    apg,
    away_from,
    batched,
    cfg,
    cfg_zero,
    perturbed_attention,
    text_image_cfg,
)
from vidgen.samplers.guidance.perturbed_attention import identity_attention, own_values
from vidgen.samplers.guidance.rules import project, rescaled
from vidgen.samplers.solvers import SAMPLERS

schedule = TimeDistribution().steps

PATH = FlowPath()
T = torch.tensor(0.6, dtype=torch.float64)


def cond(x, t):
    return x + 1.0


def uncond(x, t):
    return 0.5 * x - 1.0


@pytest.fixture
def x():
    return torch.randn(2, 3, 4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_cfg_is_linear_one_is_none_and_the_interval_bounds_it(x):
    assert cfg(cond, uncond, 1.0) is cond
    assert torch.allclose(cfg(cond, uncond, 3.0)(x, T), uncond(x, T) + 3.0 * (cond(x, T) - uncond(x, T)))
    calls = []

    def counted(x, t):
        calls.append(1)
        return uncond(x, t)

    assert torch.equal(cfg(cond, counted, 3.0, interval=(0.7, 1.0))(x, T), cond(x, T)) and not calls
    assert not torch.equal(cfg(cond, counted, 3.0, interval=(0.6, 1.0))(x, T), cond(x, T)) and calls


def test_the_interval_is_of_each_clips_noisiest_frame(x):
    # A clip at 0.8 whose first frame is known, and one at 0.3: alone, and together, the first is guided and not the
    # other, though level 0 lies in no interval and every frame of the second is at 0.3.
    levels = torch.tensor([[0.0, 0.8, 0.8, 0.8], [0.3] * 4], dtype=torch.float64)
    guided = cfg(cond, uncond, 3.0, interval=(0.6, 1.0))
    both = guided(x, levels)
    assert torch.equal(both[0], cfg(cond, uncond, 3.0)(x, levels)[0]) and torch.equal(both[1], cond(x, levels)[1])
    assert torch.equal(guided(x[:1], levels[:1]), both[:1]) and torch.equal(guided(x[1:], levels[1:]), both[1:])
    low = cfg(cond, uncond, 3.0, interval=(0.0, 0.5))(x, levels)
    assert torch.equal(low[0], cond(x, levels)[0]) and not torch.equal(low[1], cond(x, levels)[1])


def test_guided_gaussians_are_a_gaussian():
    # Two normal densities of one width: guidance moves the mean to uncond + scale (cond - uncond), and keeps the width.
    # On the way the guided denoiser is that of this third Gaussian, so sampling has to arrive exactly there.
    scale, means = 2.5, (0.2, 0.9)
    pair = [GaussianData(mean=m, std=0.5).denoiser(PATH) for m in means]
    target = GaussianData(mean=means[0] + scale * (means[1] - means[0]), std=0.5)
    noise = torch.randn(2, 2, 2, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out = SAMPLERS["rk4"](cfg(pair[1], pair[0], scale), noise, schedule(48), PATH)
    ends = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    assert torch.allclose(out, target.carry(noise, *ends, PATH), atol=1e-5)


def test_guidance_between_widths_has_the_closed_form(x):
    # D(x) = m + a s^2 / (a^2 s^2 + sigma^2) (x - a m): the guided estimate is linear in x with the mixed coefficients
    wide, narrow = GaussianData(mean=0.1, std=1.0), GaussianData(mean=0.6, std=0.3)
    out = cfg(narrow.denoiser(PATH), wide.denoiser(PATH), 4.0)(x, T)
    gains = [(1 - T) * d.std**2 / ((1 - T) ** 2 * d.std**2 + T**2) for d in (wide, narrow)]
    offsets = [d.mean * (1 - g * (1 - T)) for d, g in zip((wide, narrow), gains, strict=True)]
    gain, offset = (v[0] + 4.0 * (v[1] - v[0]) for v in (gains, offsets))
    assert torch.allclose(out, offset + gain * x)


def test_rescale_keeps_the_standard_deviation(x):
    axes = (1, 2, 3, 4)
    guided = cfg(cond, uncond, 6.0)(x, T)
    full = cfg(cond, uncond, 6.0, rescale=1.0)(x, T)
    assert torch.allclose(full.std(axes), cond(x, T).std(axes)) and not torch.allclose(full, guided)
    assert torch.allclose(rescaled(guided, cond(x, T), 0.25), 0.25 * full + 0.75 * guided)
    of_x0 = Rescale(share=0.7, path=PATH, prediction_type="sample")  # a bare share is of x0
    assert torch.allclose(cfg(cond, uncond, 6.0, rescale=of_x0)(x, T), 0.7 * full + 0.3 * guided)
    for rule in (apg, cfg_zero):
        kept = rule(cond, uncond, 6.0, rescale=1.0)(x, T)
        assert torch.allclose(kept.std(axes), cond(x, T).std(axes))


def test_apg_without_its_parts_is_cfg(x):
    plain = apg(cond, uncond, 5.0, eta=1.0, momentum=0.0)
    assert torch.allclose(plain(x, T), cfg(cond, uncond, 5.0)(x, T))


def test_apg_drops_what_lies_along_the_estimate_and_bounds_the_rest(x):
    only_across = apg(cond, uncond, 5.0, momentum=0.0)(x, T) - cond(x, T)
    assert torch.allclose((only_across * cond(x, T)).sum((1, 2, 3, 4)), torch.zeros(2, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(apg(lambda x, t: 3.0 * uncond(x, t), uncond, 9.0)(x, T), 3.0 * uncond(x, T))  # all along it
    limited = apg(cond, uncond, 2.0, eta=1.0, momentum=0.0, norm_limit=0.1)(x, T) - cond(x, T)
    assert torch.allclose(limited.square().sum((1, 2, 3, 4)).sqrt(), torch.full((2,), 0.1, dtype=torch.float64))


def test_apg_remembers_the_pull_of_the_steps_before(x):
    guided = apg(cond, uncond, 2.0, eta=1.0, momentum=-0.5)
    first, pull = guided(x, T), cond(x, T) - uncond(x, T)
    assert torch.allclose(first, cond(x, T) + pull)
    assert torch.allclose(guided(x, T), cond(x, T) + 0.5 * pull)
    assert torch.allclose(guided(x, T), cond(x, T) + 0.75 * pull)


def test_cfg_zero_scales_the_unconditional_velocity_and_starts_with_none(x):
    guided = cfg_zero(cond, uncond, 3.0)
    level = expand_level(T, x)
    flow = PREDICTION_TYPES["flow_prediction"].target

    def velocity(x0):
        return flow(x0, (x - (1 - level) * x0) / level, 1 - level, level)

    v_cond, v_uncond, v = (velocity(d(x, T)) for d in (cond, uncond, guided))
    best = project(v_cond, v_uncond)
    assert torch.allclose(v, best + 3.0 * (v_cond - best))
    error = (v_cond - best).square().sum((1, 2, 3, 4))
    assert (error < (v_cond - 1.01 * best).square().sum((1, 2, 3, 4))).all()  # no other multiple is nearer
    one, later = torch.ones((), dtype=torch.float64), torch.tensor(0.9, dtype=torch.float64)
    moved = SAMPLERS["euler"](guided, x, torch.stack([one, later]), PATH)
    assert torch.allclose(moved, x) and torch.isfinite(guided(x, 0 * one)).all()
    # with a conditional velocity that is a multiple of the other, there is nothing to lead away from
    same = cfg_zero(cond, lambda y, t: y - 0.5 * (y - cond(y, t)), 7.0, path=PATH)
    assert torch.allclose(same(x, T), cond(x, T))


def test_text_and_image_have_scales_of_their_own(x):
    def image(x, t):
        return x.sin()

    one = text_image_cfg(cond, image, uncond, 1.0)
    assert torch.allclose(one(x, T), cond(x, T))
    assert torch.allclose(text_image_cfg(cond, image, uncond, 0.0)(x, T), image(x, T))
    same = text_image_cfg(cond, uncond, uncond, 4.0, image_scale=9.0)
    assert torch.allclose(same(x, T), cfg(cond, uncond, 4.0)(x, T))
    text_less = text_image_cfg(image, image, uncond, 7.0, image_scale=3.0)
    assert torch.allclose(text_less(x, T), cfg(image, uncond, 3.0)(x, T))


def test_several_guidances_add_up(x):
    def weak(x, t):
        return x.cos()

    both = away_from(cond, [(uncond, 2.0), (weak, 0.5)])(x, T)
    assert torch.allclose(both, cond(x, T) + 2.0 * (cond(x, T) - uncond(x, T)) + 0.5 * (cond(x, T) - weak(x, T)))
    assert torch.allclose(away_from(cond, [(uncond, 2.0)])(x, T), cfg(cond, uncond, 3.0)(x, T))


@pytest.fixture(scope="module")
def dit():
    torch.manual_seed(0)
    model = VideoDiT(VideoDiTConfig(latent_channels=3, width=32, depth=2, head_dim=16, text_width=8))
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return model.double().eval().requires_grad_(False)


def encoding(rows, seed):
    tokens = torch.randn(rows, 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return TextEncoding(tokens=tokens, mask=torch.ones(rows, 3, dtype=torch.bool))


@pytest.mark.parametrize("name", [name for name, method in GUIDANCE.items() if method.others == ("uncond",)])
@pytest.mark.parametrize("levels", [T, torch.tensor([0.3, 0.8], dtype=torch.float64)])
def test_one_pass_over_twice_the_batch_equals_two_passes(dit, x, name, levels):
    texts = encoding(2, 1), encoding(2, 2)
    denoise_cond, denoise_uncond = (make_denoiser(dit, PATH, "flow_prediction", text=text) for text in texts)
    together = TextEncoding(
        tokens=torch.cat([text.tokens for text in texts]), mask=torch.cat([text.mask for text in texts])
    )
    both = batched(make_denoiser(dit, PATH, "flow_prediction", text=together), 2)
    one = GUIDANCE[name].rule(denoise_cond, denoise_uncond, 4.0, both=both)
    two = GUIDANCE[name].rule(denoise_cond, denoise_uncond, 4.0)
    assert torch.allclose(one(x, levels), two(x, levels), atol=1e-10)


def test_identity_attention_gives_each_position_its_own_value():
    torch.manual_seed(0)
    layer, x = Attention(32, 16).double(), torch.randn(2, 5, 32, dtype=torch.float64)
    layer.override = own_values
    own = layer.out(rearrange(layer.project(x)[2], "b k n d -> b n (k d)"))
    assert torch.allclose(layer(x), own)
    changed = x.clone()
    changed[:, 3] += 1.0
    assert torch.equal(layer(changed)[:, :3], layer(x)[:, :3])  # nothing of other positions


def test_perturbed_attention_switches_its_blocks_and_back(dit, x):
    denoise = make_denoiser(dit, PATH, "flow_prediction", text=encoding(2, 1))
    plain = denoise(x, T)
    weak = perturbed_attention(denoise, dit, [1])
    assert not torch.allclose(weak(x, T), plain) and torch.equal(denoise(x, T), plain)
    with identity_attention(dit, [0, 1]):
        assert dit.blocks[0].attention.override is own_values and dit.blocks[0].cross.override is None
        both = denoise(x, T)
    assert torch.allclose(perturbed_attention(denoise, dit, [0, 1])(x, T), both)
    with pytest.raises(RuntimeError), identity_attention(dit, [0]):
        raise RuntimeError
    assert dit.blocks[0].attention.override is None
    guided = away_from(denoise, [(weak, 1.5)])
    assert torch.allclose(guided(x, T), plain + 1.5 * (plain - weak(x, T)))
