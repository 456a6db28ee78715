"""A prior of any order as a model of masked tokens: what is known comes in the order in which it became so."""

import pytest
import torch
from torch import Tensor

from vidgen.diffusion.noise import sample_generator
from vidgen.models.priors.any_order import AnyOrderLogits, Turns
from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.models.priors.token_values import blank_tokens, hide_tokens
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder
from vidgen.samplers.autoregressive.categorical import TokenSampling
from vidgen.samplers.autoregressive.groups import row_groups, sample_groups
from vidgen.samplers.autoregressive.guidance import guide_masked
from vidgen.samplers.masked.any_order import sample_any_order
from vidgen.samplers.masked.maskgit import MaskGITConfig, sample_maskgit

GRID = (3, 2, 2)
CELLS = 12
PLAIN = TokenSampling()


def make_prior(**settings) -> TokenPrior:
    torch.manual_seed(0)
    shape = {"codebook_sizes": (7,), "order": "random", "width": 32, "depth": 2, "head_dim": 16}
    return TokenPrior(TokenPriorConfig(**{**shape, **settings})).double().eval()


def draw_tokens(prior: TokenPrior) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    codes = [torch.randint(0, size, (2, CELLS), generator=generator) for size in prior.config.codebook_sizes]
    return torch.stack(codes, dim=-1).flatten(1)


def draw_order(n: int) -> Tensor:
    """One for each of two clips, different ones."""
    return torch.rand(2, n, generator=torch.Generator().manual_seed(1)).argsort(1)


def generators() -> list[torch.Generator]:
    return [sample_generator(0, k) for k in range(2)]


def reveal_one_by_one(model: AnyOrderLogits, tokens: Tensor, order: Tensor) -> Tensor:
    """Return the logits that each token had when it came next."""
    known, logits = blank_tokens(tokens, tokens.shape[1]), []
    for place in order.unbind(1):
        rows = torch.arange(len(tokens))
        logits.append(model(known)[rows, place])
        known[rows, place] = tokens[rows, place]
    logits = torch.stack(logits, dim=1)
    return torch.zeros_like(logits).scatter(1, order[..., None].expand_as(logits), logits)


@pytest.mark.parametrize("sizes", [(7,), (5, 3)])
@torch.no_grad()
def test_one_token_a_call_is_the_law_of_the_whole_pass_in_that_order(sizes):
    prior = make_prior(codebook_sizes=sizes)
    tokens = draw_tokens(prior)
    order = draw_order(tokens.shape[1])
    model = AnyOrderLogits(prior, GRID)
    one_by_one, whole = reveal_one_by_one(model, tokens, order), prior(tokens, GRID, order=order)
    assert torch.equal(one_by_one.isinf(), whole.isinf())
    assert torch.allclose(one_by_one.nan_to_num(neginf=0.0), whole.nan_to_num(neginf=0.0), atol=1e-12)
    assert torch.allclose(model(tokens).nan_to_num(neginf=0.0), whole.nan_to_num(neginf=0.0), atol=1e-12)


@torch.no_grad()
def test_continuous_tokens_text_class_and_actions():
    text = ByteTextEncoder(ByteTextConfig(width=16, depth=1, head_dim=16)).double().eval()
    prior = make_prior(codebook_sizes=(), channels=3, text_width=16, classes=3, actions=2)
    generator = torch.Generator().manual_seed(0)
    tokens, actions = (torch.randn(2, n, c, generator=generator).double() for n, c in ((CELLS, 3), (3, 2)))
    words = text(["a red circle", "a small blue star moves left"])
    conditions = {"class_id": torch.tensor([1, 3]), "actions": actions}
    order = draw_order(CELLS)
    z = reveal_one_by_one(AnyOrderLogits(prior, GRID, words, **conditions), tokens, order)
    assert torch.allclose(z, prior(tokens, GRID, words, order=order, **conditions), atol=1e-12)


@torch.no_grad()
def test_maskgit_at_one_token_a_step_in_a_random_order_is_any_order_decoding():
    prior = make_prior()
    blank = blank_tokens(torch.zeros(2, 0, dtype=torch.int64), CELLS)
    config = MaskGITConfig(num_steps=CELLS, order="random")
    drawn = [
        sample_maskgit(AnyOrderLogits(prior, GRID), blank, PLAIN, generators(), config=config),
        sample_any_order(AnyOrderLogits(prior, GRID), blank, PLAIN, generators()),
    ]
    assert torch.equal(*drawn)


@torch.no_grad()
def test_tokens_of_a_group_do_not_see_each_other_and_known_ones_are_kept():
    prior = make_prior()
    tokens = draw_tokens(prior)
    hidden = hide_tokens(tokens, torch.arange(CELLS).expand(2, -1) >= 6)
    at_once = AnyOrderLogits(prior, GRID)(hidden)
    for place in range(6, CELLS):  # each as if it were the seventh
        order = torch.cat([torch.arange(6), torch.tensor([place])])
        rest = torch.tensor([k for k in range(6, CELLS) if k != place])
        alone = prior(tokens, GRID, order=torch.cat([order, rest]).expand(2, -1))
        assert torch.allclose(at_once[:, place], alone[:, place], atol=1e-12)
    rows = sample_groups(AnyOrderLogits(prior, GRID), hidden, PLAIN, generators(), groups=row_groups(GRID))
    assert torch.equal(rows[:, :6], tokens[:, :6]) and not (rows < 0).any()


@torch.no_grad()
def test_what_is_revised_comes_last_again():
    prior = make_prior()
    tokens = draw_tokens(prior)
    model, fresh = AnyOrderLogits(prior, GRID), AnyOrderLogits(prior, GRID)
    early = torch.arange(CELLS).expand(2, -1) >= 3
    model(hide_tokens(tokens, early))
    model(tokens)
    later = hide_tokens(tokens, ~early)
    assert torch.equal(model(later)[:, :3], fresh(later)[:, :3])


@torch.no_grad()
def test_clips_of_a_batch_may_differ_in_how_much_is_known():
    prior = make_prior()
    tokens, order = draw_tokens(prior), draw_order(CELLS)
    model, alone = AnyOrderLogits(prior, GRID), [AnyOrderLogits(prior, GRID) for _ in range(2)]
    for counts in ((0, 3), (1, 4), (5, 4), (6, 11)):
        ranks = order.argsort(1)
        hidden = hide_tokens(tokens, ranks >= torch.tensor(counts)[:, None])
        both = model(hidden)
        for row in range(2):
            assert torch.allclose(both[row], alone[row](hidden[row : row + 1])[0], atol=1e-12)


@torch.no_grad()
def test_guidance_from_the_middle_on_is_between_laws_of_one_order():
    prior = make_prior(classes=2)
    blank = blank_tokens(torch.zeros(2, 0, dtype=torch.int64), CELLS)
    orders = []

    def decode(interval: tuple[float, float]) -> None:
        turns = Turns()
        models = [AnyOrderLogits(prior, GRID, turns=turns, class_id=torch.full((2,), k)) for k in range(2)]
        logits = guide_masked(*models, 3.0, interval)
        sample_any_order(logits, blank, PLAIN, generators(), order=torch.arange(CELLS).flip(0))
        orders.append(turns.take(torch.zeros(2, CELLS, dtype=torch.bool)))

    decode((0.5, 1.0))
    decode((0.0, 1.0))
    assert torch.equal(*orders) and torch.equal(orders[0][0], torch.arange(CELLS).flip(0))


def test_a_prior_of_one_order_has_no_such_laws():
    with pytest.raises(ValueError, match="order causal knows one order alone"):
        AnyOrderLogits(make_prior(order="causal"), GRID)
