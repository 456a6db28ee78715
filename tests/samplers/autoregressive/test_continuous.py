"""Continuous tokens with an analytic head: draws are the map of their noise that a Gaussian law has in closed form."""

import pytest
import torch

from vidgen.diffusion.noise import draw_normal, sample_generator
from vidgen.errors import VidgenError
from vidgen.samplers.autoregressive.continuous import HeadSampling, pair_conditions, pair_masked
from vidgen.samplers.autoregressive.decode import sample_autoregressive
from vidgen.samplers.autoregressive.groups import sample_groups
from vidgen.samplers.autoregressive.guidance import GuidedSequenceModel
from vidgen.samplers.autoregressive.uncached import UncachedModel
from vidgen.samplers.masked.any_order import sample_any_order
from vidgen.samplers.masked.first_hitting import sample_first_hitting
from vidgen.samplers.masked.maskgit import MaskGITConfig, sample_maskgit

COVARIANCE = torch.tensor([[1.0, 0.6, -0.3], [0.6, 0.8, 0.2], [-0.3, 0.2, 0.5]], dtype=torch.float64)
MEAN = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)


def gaussian_velocity(x: torch.Tensor, t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """E[eps - x0 | x_t] for x0 ~ N(m, s^2), z being (m, s)."""
    mean, spread = z.chunk(2, dim=-1)
    level = t[:, None]
    centred = (x - (1 - level) * mean) / ((1 - level) ** 2 * spread**2 + level**2)
    return level * centred - (mean + (1 - level) * spread**2 * centred)


def conditional(tokens: torch.Tensor) -> torch.Tensor:
    """Mean and spread (b, n, 2) of each token given those of its sequence that are known."""
    out = torch.zeros(*tokens.shape[:2], 2, dtype=torch.float64)
    known = ~tokens[..., 0].isnan()
    for pattern in known.unique(dim=0):
        rows, seen = (known == pattern).all(1), pattern.nonzero()[:, 0]
        inverse = torch.linalg.inv(COVARIANCE[seen][:, seen])
        for place in range(3):
            gain = COVARIANCE[place, seen] @ inverse
            out[rows, place, 0] = MEAN[place] + (tokens[rows][:, seen, 0].double() - MEAN[seen]) @ gain
            out[rows, place, 1] = (COVARIANCE[place, place] - gain @ COVARIANCE[seen, place]).clamp(min=0).sqrt()
    return out


def next_token(tokens: torch.Tensor) -> torch.Tensor:
    """Of the first n tokens: mean and spread of the first one, and of the one after each."""
    steps = []
    for n in range(min(tokens.shape[1], 2) + 1):
        shown = torch.full((len(tokens), 3, 1), torch.nan, dtype=torch.float64)
        shown[:, :n] = tokens[:, :n]
        steps.append(conditional(shown)[:, n])
    return torch.stack(steps, dim=1)


def make_sampling(**settings) -> HeadSampling:
    return HeadSampling(head=gaussian_velocity, channels=1, num_diffusion_steps=40, sampler="rk4", **settings)


def unknown(b: int) -> torch.Tensor:
    return torch.full((b, 3, 1), torch.nan, dtype=torch.float64)


def test_causal_draws_are_the_noise_times_the_root_of_the_covariance():
    model = UncachedModel(next_token, 4, channels=1)
    streams = [sample_generator(0, k) for k in range(4)]
    drawn = sample_autoregressive(model, 3, make_sampling(), streams, prefix=torch.zeros(4, 0, 1, dtype=torch.float64))
    noise = torch.stack(
        [torch.cat([draw_normal((1, 1), g) for _ in range(3)]) for g in (sample_generator(0, k) for k in range(4))]
    )
    expected = MEAN + noise[..., 0].double() @ torch.linalg.cholesky(COVARIANCE).mT
    assert torch.allclose(drawn[..., 0], expected, atol=1e-4)
    assert (expected.abs() > 0.1).all()


@pytest.mark.parametrize("how", ["any_order", "groups"])
def test_draws_in_any_order_have_the_covariance_too(how):
    order = torch.tensor([2, 0, 1])
    stream, again = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    run = (conditional, unknown(5), make_sampling(), stream)
    drawn = sample_any_order(*run, order=order) if how == "any_order" else sample_groups(*run, groups=order.argsort())
    noise = torch.stack([draw_normal((5, 3, 1), again)[:, place, 0] for place in order], dim=1).double()
    expected = MEAN[order] + noise @ torch.linalg.cholesky(COVARIANCE[order][:, order]).mT
    assert torch.allclose(drawn[:, order, 0], expected, atol=1e-4)


@pytest.mark.parametrize(("steps", "joint"), [(3, COVARIANCE), (1, COVARIANCE.diagonal().diag())])
def test_a_token_a_step_keeps_the_law_and_all_at_once_the_marginals(steps, joint):
    count = 20000
    config = MaskGITConfig(num_steps=steps, order="random")
    stream = torch.Generator().manual_seed(1)
    drawn = sample_maskgit(conditional, unknown(count), make_sampling(), stream, config=config)[..., 0]
    error = ((COVARIANCE.diagonal()[:, None] * COVARIANCE.diagonal() + joint**2) / count).sqrt()
    assert (((drawn.mT.cov() - joint) / error).abs() < 4.5).all()
    assert (((drawn.mean(0) - MEAN) / (COVARIANCE.diagonal() / count).sqrt()).abs() < 4.5).all()


def test_first_hitting_keeps_the_law():
    count = 5000
    drawn = sample_first_hitting(conditional, unknown(count), make_sampling(), torch.Generator().manual_seed(2))
    error = ((COVARIANCE.diagonal()[:, None] * COVARIANCE.diagonal() + COVARIANCE**2) / count).sqrt()
    assert (((drawn.tokens[..., 0].mT.cov() - COVARIANCE) / error).abs() < 4.5).all()
    assert ((drawn.times < 1).all(0)).all()


@pytest.mark.parametrize(
    "config", [MaskGITConfig(num_steps=2, order="random"), MaskGITConfig(num_steps=2, order="halton")]
)
def test_known_tokens_stay_bit_for_bit_and_no_sample_depends_on_its_batch(config):
    tokens = unknown(8)
    tokens[1, 2], tokens[5, :2] = 0.123456789, 7.0
    whole = sample_maskgit(
        conditional, tokens, make_sampling(), [sample_generator(3, k) for k in range(8)], config=config, grid=(3, 1, 1)
    )
    assert torch.equal(whole[~tokens.isnan()], tokens[~tokens.isnan()]) and not whole.isnan().any()
    for k in range(8):
        alone = sample_maskgit(
            conditional, tokens[k : k + 1], make_sampling(), [sample_generator(3, k)], config=config, grid=(3, 1, 1)
        )
        assert torch.allclose(alone, whole[k : k + 1], atol=1e-12)


def test_guidance_moves_the_mean_and_temperature_scales_the_spread():
    noise = torch.tensor([[-1.0], [0.3], [2.0]])
    cond = torch.tensor([[1.0, 0.5]], dtype=torch.float64).expand(3, 2)
    uncond = torch.tensor([[-0.5, 0.5]], dtype=torch.float64).expand(3, 2)
    sampling = make_sampling(scale=3.0, temperature=0.7)
    drawn, log_probs = sampling.draw(pair_conditions(cond, uncond, 3.0), noise, noise, torch.arange(3))
    assert log_probs is None  # velocities of one spread are linear in the mean: -0.5 + 3 (1 - -0.5) = 4
    assert torch.allclose(drawn, 4.0 + 0.7 * 0.5 * noise.double(), atol=1e-4)


def test_guided_models_say_both_conditions():
    cond, uncond = (UncachedModel(lambda x, k=k: next_token(x) + k, 2, channels=1) for k in (1.0, 0.0))
    guided = GuidedSequenceModel(cond, uncond, 2.0, 3, combine=pair_conditions)
    tokens = torch.ones(2, 1, 1)
    first, after = next_token(tokens)[:, 0], next_token(tokens)[:, 1]
    assert torch.equal(guided.start(), torch.cat([first + 1.0, first], dim=-1))
    assert torch.equal(guided.extend(tokens)[:, -1], torch.cat([after + 1.0, after], dim=-1))
    whole = UncachedModel(next_token, 2, channels=1), UncachedModel(next_token, 2, channels=1)
    ended = GuidedSequenceModel(*whole, 2.0, 2, combine=pair_conditions)  # both are read, and none is to come
    assert ended.extend(torch.ones(2, 2, 1)).shape[:2] == (2, 2)
    masked = pair_masked(lambda x: conditional(x) + 1.0, conditional)(unknown(2))
    assert torch.equal(masked, torch.cat([conditional(unknown(2)) + 1.0, conditional(unknown(2))], dim=-1))


@pytest.mark.parametrize("settings", [{"order": "confidence"}, {"order": "random", "revised_share": 0.1}])
def test_continuous_tokens_have_no_confidence(settings):
    with pytest.raises(VidgenError, match="continuous tokens have no confidence"):
        sample_maskgit(
            conditional, unknown(1), make_sampling(), [sample_generator(0)], config=MaskGITConfig(**settings)
        )


def test_what_cannot_be_is_one_line():
    with pytest.raises(VidgenError, match="1 generators for 2 samples"):
        make_sampling().draw_noise(2, 3, [sample_generator(0)])
    with pytest.raises(VidgenError, match="temperature"):
        make_sampling(temperature=-1.0)
    with pytest.raises(VidgenError, match="NaN; a causal model reads tokens that are known"):
        sample_autoregressive(
            UncachedModel(next_token, 1, channels=1),
            3,
            make_sampling(),
            [sample_generator(0)],
            prefix=unknown(1)[:, :1],
        )
    broken = HeadSampling(head=lambda x, t, z: x * torch.nan, channels=1)
    with pytest.raises(VidgenError, match="the denoiser gave NaN"):
        broken.draw(torch.zeros(2, 2), torch.zeros(2, 1), torch.zeros(2, 1), torch.arange(2))
