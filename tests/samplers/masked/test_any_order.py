"""Any-order and first-hitting decoding have the model's own law, and the times of the latter are exact."""

import pytest
import torch

from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.interfaces import MASK
from vidgen.samplers.autoregressive.categorical import TokenSampling
from vidgen.samplers.evaluation.token_decoding import chi_square_p_value
from vidgen.samplers.evaluation.token_laws import grouped_law, potts_law, random_order_law, strict_logits
from vidgen.samplers.masked.any_order import sample_any_order
from vidgen.samplers.masked.first_hitting import sample_first_hitting
from vidgen.samplers.token_decoders import TOKEN_DECODERS

LAW = potts_law((1, 2, 3))
N = LAW.length
PLAIN = TokenSampling()
DECODERS = [TOKEN_DECODERS["any_order"], TOKEN_DECODERS["first_hitting"]]


def masked(count: int) -> torch.Tensor:
    return torch.full((count, N), MASK)


@pytest.mark.parametrize("decode", DECODERS, ids=lambda decoder: decoder.name)
@pytest.mark.parametrize(
    "sampling", [PLAIN, TokenSampling(temperature=0.7), TokenSampling(repetition_penalty=2.0)], ids=str
)
def test_the_law(decode, sampling: TokenSampling) -> None:
    tokens = decode(strict_logits(LAW), masked(10_000), sampling, torch.Generator().manual_seed(7))
    counts = LAW.number(tokens).bincount(minlength=len(LAW.states))
    assert chi_square_p_value(counts, random_order_law(LAW, [1] * N, sampling)) > 1e-3
    if sampling == PLAIN:
        assert chi_square_p_value(counts, LAW.probabilities) > 1e-3


def test_any_fixed_order_has_the_law_and_filters_depend_on_it() -> None:
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    sampling = TokenSampling(top_k=2)
    by_order = grouped_law(LAW, [[place] for place in order.tolist()], sampling)
    other_way = grouped_law(LAW, [[place] for place in order.flip(0).tolist()], sampling)
    stream = torch.Generator().manual_seed(8)
    tokens = sample_any_order(strict_logits(LAW), masked(10_000), sampling, stream, order=order)
    counts = LAW.number(tokens).bincount(minlength=len(LAW.states))
    assert chi_square_p_value(counts, by_order) > 1e-3 and chi_square_p_value(counts, other_way) < 1e-6
    torch.testing.assert_close(grouped_law(LAW, [[place] for place in order.tolist()]), LAW.probabilities)


@pytest.mark.parametrize("decode", DECODERS, ids=lambda decoder: decoder.name)
def test_known_tokens_condition_and_stay(decode) -> None:
    tokens = torch.tensor([[MASK, 1, MASK, MASK, 0, MASK]]).expand(10_000, -1)
    drawn = decode(strict_logits(LAW), tokens, PLAIN, torch.Generator().manual_seed(9))
    assert torch.equal(drawn[tokens != MASK], tokens[tokens != MASK]) and int(drawn.min()) == 0
    given = (LAW.states[:, 1] == 1) & (LAW.states[:, 4] == 0)
    law = LAW.probabilities * given / LAW.probabilities[given].sum()
    assert chi_square_p_value(LAW.number(drawn).bincount(minlength=len(law)), law) > 1e-3


@pytest.mark.parametrize("decode", DECODERS, ids=lambda decoder: decoder.name)
def test_a_batch_of_eight_is_eight_batches_of_one(decode) -> None:
    tokens = masked(8)
    tokens[2, 1:4], tokens[5] = 0, 1  # some tokens are known in one sequence, all in another
    streams = [sample_generator(0, row) for row in range(8)]
    batch = decode(strict_logits(LAW), tokens, PLAIN, streams)
    for row in range(8):
        stream = sample_generator(0, row)
        assert torch.equal(decode(strict_logits(LAW), tokens[row : row + 1], PLAIN, [stream]), batch[row : row + 1])
        assert torch.equal(stream.get_state(), streams[row].get_state())
    assert torch.equal(batch[5], tokens[5])


def test_one_token_becomes_known_a_step() -> None:
    for how in (sample_any_order, sample_first_hitting):
        known = []
        how(
            strict_logits(LAW), masked(4), PLAIN, [sample_generator(0, k) for k in range(4)],
            callback=lambda step, tokens, known=known: known.append((step, (tokens != MASK).sum(1).unique().tolist())),
        )  # fmt: skip
        assert known == [(k, [k]) for k in range(1, N + 1)]


def test_times_are_those_of_independent_tokens() -> None:
    """In continuous time each token is unmasked on its own: on the linear schedule, at a time uniform in [0, 1]."""
    from scipy.stats import kstest

    drawn = sample_first_hitting(strict_logits(LAW), masked(1_000), PLAIN, torch.Generator().manual_seed(1))
    assert kstest(drawn.times.flatten().numpy(), "uniform").pvalue > 1e-3
    first, last = drawn.times.amax(1), drawn.times.amin(1)
    assert kstest(first.numpy(), lambda t: t**N).pvalue > 1e-3
    assert kstest(last.numpy(), lambda t: 1.0 - (1.0 - t) ** N).pvalue > 1e-3
    # and no place is before the others
    assert drawn.times.argmax(1).bincount(minlength=N).min() > 1_000 / N - 5 * (1_000 / N) ** 0.5


def test_the_schedule_moves_times_alone() -> None:
    linear, cosine = (
        sample_first_hitting(strict_logits(LAW), masked(3), PLAIN, torch.Generator().manual_seed(1), schedule=schedule)
        for schedule in ("linear", "cosine")
    )
    assert torch.equal(linear.tokens, cosine.tokens)
    torch.testing.assert_close((0.5 * torch.pi * (1.0 - cosine.times)).cos(), linear.times)
    known = sample_first_hitting(strict_logits(LAW), linear.tokens, PLAIN, torch.Generator())
    assert torch.equal(known.tokens, linear.tokens) and bool((known.times == 1.0).all())


@pytest.mark.parametrize("order", [torch.arange(5), torch.tensor([0, 1, 2, 3, 4, 4]), torch.arange(1, 7)])
def test_orders_that_are_none(order: torch.Tensor) -> None:
    with pytest.raises(VidgenError, match="the order has to name each of 6 places once"):
        sample_any_order(strict_logits(LAW), masked(1), PLAIN, [torch.Generator()], order=order)
    with pytest.raises(VidgenError, match="schedule 'sine' is unknown"):
        sample_first_hitting(strict_logits(LAW), masked(1), PLAIN, [torch.Generator()], schedule="sine")
