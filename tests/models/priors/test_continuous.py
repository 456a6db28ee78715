"""Priors over vectors: caches change nothing, the head's loss has a known floor, a law that is learned is the law."""

import math

import pytest
import torch

from vidgen.diffusion.noise import TimeDistribution
from vidgen.errors import VidgenError
from vidgen.models.priors.cache import CachedPrior
from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.diffusion_head import DiffusionHead, flow_losses
from vidgen.models.priors.frame_cache import CachedFrames
from vidgen.models.priors.likelihood import draw_nats, likelihood
from vidgen.models.priors.token_grid import flatten_latents, unflatten_latents
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.models.priors.token_values import blank_tokens, hide_tokens, is_unknown
from vidgen.samplers.autoregressive.continuous import HeadSampling
from vidgen.samplers.autoregressive.decode import sample_autoregressive

GRID = (4, 2, 2)
CELLS = 16


def make_prior(**settings) -> TokenPrior:
    torch.manual_seed(0)
    shape = {"channels": 3, "width": 32, "depth": 2, "head_dim": 16, "head_width": 16, "head_depth": 2}
    return TokenPrior(TokenPriorConfig(**{**shape, **settings})).double().eval()


def draw_vectors(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, CELLS, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [{}, {"window": 2}])
def test_cached_vectors_are_those_of_the_whole_pass(shape):
    prior, tokens = make_prior(**shape), draw_vectors()
    cached = CachedPrior(prior, GRID[1:], 2)
    with torch.no_grad():
        parts = [cached.start()[:, None], cached.extend(tokens[:, :1]), cached.extend(tokens[:, 1:9])]
        parts.append(cached.extend(tokens[:, 9:-1]))
        assert torch.allclose(torch.cat(parts, dim=1), prior(tokens, GRID), atol=1e-12)


def test_cached_frames_of_vectors_are_those_of_the_whole_pass():
    prior, tokens = make_prior(order="frames"), draw_vectors()
    hidden = hide_tokens(tokens, torch.arange(CELLS).expand(2, -1) % 3 == 0)
    with torch.no_grad():
        whole = prior(hidden, GRID, clean=tokens)
        cached = CachedFrames(prior, GRID[1:])
        for frame in range(GRID[0]):
            part = slice(4 * frame, 4 * frame + 4)
            assert torch.allclose(cached(hidden[:, part]), whole[:, part], atol=1e-12)
            cached.extend(tokens[:, part])


@pytest.mark.parametrize("order", ["causal", "random", "masked", "frames"])
def test_outputs_depend_on_what_is_known_alone_and_gradients_are_finite(order):
    prior, tokens = make_prior(order=order), draw_vectors()
    moved = tokens.clone()
    moved[:, 5] += 1.0
    hidden = [hide_tokens(x, torch.arange(CELLS).expand(2, -1) == 5) for x in (tokens, moved)]
    if order in ("causal", "random"):
        one, other = prior(tokens, GRID), prior(moved, GRID)
        assert torch.equal(one[:, :6], other[:, :6]) and not torch.equal(one[:, 6], other[:, 6])
    else:
        assert torch.equal(prior(hidden[0], GRID), prior(hidden[1], GRID))
        assert not torch.equal(prior(tokens, GRID), prior(moved, GRID))
    prior(hidden[0], GRID).square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in prior.parameters())
    assert prior.embed.weight.grad.any()


def test_the_least_loss_of_a_normal_law_is_half_pi_times_its_spread():
    spread, mean, count = 0.5, 1.5, 40000

    def velocity(x, t, z):
        level = t[:, None]
        centred = (x - (1 - level) * mean) / ((1 - level) ** 2 * spread**2 + level**2)
        return level * centred - mean - (1 - level) * spread**2 * centred

    generator = torch.Generator().manual_seed(0)
    tokens = mean + spread * torch.randn(1, count, 1, generator=generator)
    losses = flow_losses(velocity, torch.zeros(1, count, 1), tokens, TimeDistribution(), generator, draws=1)
    error = losses.std().item() / math.sqrt(count)
    assert losses.mean().item() == pytest.approx(math.pi * spread / 2, abs=4 * error) and error < 0.01


def test_a_head_that_is_new_says_no_velocity_and_draws_noise():
    head = DiffusionHead(3, 16, 2, 8)
    x, z = torch.randn(5, 3), torch.randn(5, 8)
    assert not head(x, torch.full((5,), 0.5), z).any()
    sampling = HeadSampling(head=head, channels=3, num_diffusion_steps=3)
    assert torch.allclose(sampling.draw(z, x, x, torch.arange(5))[0], x, atol=1e-6)


def test_masks_and_latents_of_vectors():
    tokens = draw_vectors()
    assert is_unknown(blank_tokens(tokens, 4)).all() and blank_tokens(tokens, 4).shape == (2, 4, 3)
    latents = torch.arange(2 * 3 * CELLS).reshape(2, 3, *GRID).double()
    assert torch.equal(unflatten_latents(flatten_latents(latents), GRID), latents)
    assert torch.equal(flatten_latents(latents)[1, 5], latents[1, :, 1, 0, 1])
    with pytest.raises(VidgenError, match="15 tokens are not one for each cell of 4x2x2"):
        unflatten_latents(tokens[:, :15], GRID)


@pytest.mark.parametrize("order", ["causal", "masked"])
def test_a_likelihood_is_refused(order):
    with pytest.raises(VidgenError, match="continuous tokens has no exact likelihood"):
        likelihood(make_prior(order=order), draw_vectors(), GRID)


@pytest.mark.parametrize("settings", [{"codebook_sizes": (3,)}, {"channels": 0}])
def test_tokens_are_codes_or_vectors(settings):
    with pytest.raises(VidgenError, match="one of the two"):
        make_prior(**settings)


def test_a_prior_over_vectors_is_saved_and_loaded(tmp_path):
    prior = make_prior()
    prior.save_pretrained(tmp_path)
    loaded = TokenPrior.from_pretrained(tmp_path, dtype=torch.float64)
    assert loaded.config == prior.config and torch.equal(loaded(draw_vectors(), GRID), prior(draw_vectors(), GRID))


@pytest.mark.slow
def test_a_gaussian_autoregression_is_learned_with_its_conditionals():
    """x_0 ~ N(0, 1), x_i = 0.8 rotated x_(i-1) + 0.6 noise: the mean and spread after a prefix that is held."""
    turn = 0.8 * torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    torch.manual_seed(0)
    shape = {"channels": 2, "width": 32, "depth": 1, "head_dim": 16, "head_width": 64, "head_depth": 2}
    prior = TokenPrior(TokenPriorConfig(**shape))
    steps, grid, generator = 400, (1, 1, 3), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(prior.parameters(), lr=3e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        x = [torch.randn(128, 2, generator=generator)]
        for _ in range(2):
            x.append(x[-1] @ turn.mT + 0.6 * torch.randn(128, 2, generator=generator))

        def measure(z, tokens):
            return flow_losses(prior.head, z, tokens, TimeDistribution(), generator)

        loss = draw_nats(prior, torch.stack(x, dim=1), grid, generator, measure).mean() / 3
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    prior.eval()
    sampling = HeadSampling(head=prior.head, channels=2, num_diffusion_steps=12)
    for prefix in ([], [[0.7, -0.4]], [[0.2, 0.5], [-1.0, 0.8]]):
        count = 4000
        known = torch.tensor(prefix).reshape(1, -1, 2).repeat(count, 1, 1)
        model = CachedPrior(prior, grid[1:], count)
        stream = torch.Generator().manual_seed(1)
        drawn = sample_autoregressive(model, len(prefix) + 1, sampling, stream, prefix=known)[:, -1]
        mean = turn @ torch.tensor(prefix[-1]) if prefix else torch.zeros(2)
        spread = 0.6 if prefix else 1.0
        assert ((drawn.mean(0) - mean).abs() < 0.1).all()
        assert (drawn.std(0) / spread - 1).abs().max() < 0.1
        assert drawn.mT.corrcoef()[0, 1].abs() < 0.1
