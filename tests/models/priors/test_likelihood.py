"""Likelihoods are those of laws that sum to one; bounds are means over orders, which enumeration gives."""

from itertools import permutations, product

import pytest
import torch

from vidgen.interfaces import MASK
from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.likelihood import draw_masks, likelihood, masked_nats, token_nats
from vidgen.models.priors.token_prior import TokenPrior

GRID = (2, 1, 2)
ALL = torch.tensor(list(product(range(3), repeat=4)))


def make_prior(order: str, **settings) -> TokenPrior:
    torch.manual_seed(1)
    shape = {"codebook_sizes": (3,), "width": 16, "depth": 2, "head_dim": 8, "order": order}
    prior = TokenPrior(TokenPriorConfig(**{**shape, **settings})).double().eval()
    torch.nn.init.normal_(prior.head.weight, std=0.5)
    return prior


def test_a_causal_law_sums_to_one_and_so_does_one_in_any_order():
    exact = likelihood(make_prior("causal"), ALL, GRID)
    assert exact.exact and torch.exp(-exact.nats).sum().item() == pytest.approx(1.0, abs=1e-12)
    assert torch.allclose(exact.by_token.sum(1), exact.nats)
    prior = make_prior("random")
    order = torch.tensor([2, 0, 3, 1]).expand(len(ALL), -1)
    with torch.no_grad():
        nats = token_nats(prior(ALL, GRID, order=order), ALL).sum(1)
    assert torch.exp(-nats).sum().item() == pytest.approx(1.0, abs=1e-12)


def test_codes_of_smaller_books_keep_the_law():
    prior = make_prior("causal", codebook_sizes=(3, 2))
    cells = torch.tensor([[a, b, c, d] for a, b, c, d in product(range(3), range(2), range(3), range(2))])
    nats = likelihood(prior, cells, (1, 1, 2)).nats
    assert torch.exp(-nats).sum().item() == pytest.approx(1.0, abs=1e-12)


def enumerate_orders(prior: TokenPrior, tokens: torch.Tensor, orders: list[tuple[int, ...]]) -> torch.Tensor:
    """-log p of tokens (n,) in each order, token after token."""
    values = []
    for order in orders:
        shown, nats = torch.full((1, 4), MASK), 0.0
        for place in order:
            logits = prior(shown, GRID, **({"clean": tokens[None]} if prior.config.order == "frames" else {}))
            nats = nats + token_nats(logits, tokens[None])[0, place]
            shown[0, place] = tokens[place]
        values.append(nats)
    return torch.stack(values)


@pytest.mark.parametrize("order", ["masked", "frames"])
@torch.no_grad()
def test_the_bound_is_the_mean_over_orders(order):
    prior, tokens = make_prior(order), torch.tensor([0, 2, 1, 1])
    orders = list(permutations(range(4)))
    if order == "frames":
        orders = [o for o in orders if set(o[:2]) == {0, 1}]
    truth = enumerate_orders(prior, tokens, orders).mean()
    estimate = likelihood(prior, tokens.repeat(4000, 1), GRID, draws=1, seed=0)
    assert not estimate.exact
    spread = estimate.nats.std() / 4000**0.5
    assert abs(estimate.nats.mean() - truth) < 4 * spread and spread < 0.02 * truth


@torch.no_grad()
def test_the_mean_over_random_orders_has_its_error():
    prior, tokens = make_prior("random"), torch.tensor([[0, 2, 1, 1]])
    orders = torch.tensor(list(permutations(range(4))))
    each = token_nats(prior(tokens.repeat(24, 1), GRID, order=orders), tokens.repeat(24, 1)).sum(1)
    mean = likelihood(prior, tokens, GRID, draws=400)
    assert mean.exact and abs(mean.nats - each.mean()) < 4 * mean.standard_error
    assert mean.standard_error.item() == pytest.approx(each.std().item() / 20, rel=0.2)


def test_masks_are_as_many_as_asked_and_hide_what_they_cover():
    tokens = torch.arange(40).reshape(4, 10)
    shown = draw_masks(tokens, torch.tensor([1, 5, 9, 10]), torch.Generator().manual_seed(0))
    assert (shown == MASK).sum(1).tolist() == [1, 5, 9, 10]
    assert torch.equal(shown[shown != MASK], tokens[shown != MASK])


def test_only_masked_tokens_count():
    prior, tokens = make_prior("masked"), torch.tensor([[0, 2, 1, 1]])
    one, again = (masked_nats(prior, tokens, GRID, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, again) and one.item() > 0


def test_perplexity_by_frame():
    exact = likelihood(make_prior("causal"), ALL, GRID)
    assert exact.perplexity_by_frame(2).shape == (2,) and (exact.perplexity_by_frame(2) > 1).all()
    with pytest.raises(ValueError, match="no perplexity by frame"):
        likelihood(make_prior("masked"), ALL, GRID, draws=2).perplexity_by_frame(2)
