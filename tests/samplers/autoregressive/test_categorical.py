"""Filters against values worked out by hand, and draws that are exact far into the tail."""

import math

import pytest
import torch

from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.interfaces import MASK
from vidgen.samplers.autoregressive import categorical
from vidgen.samplers.autoregressive.categorical import (
    TokenSampling,
    apply_temperature,
    draw_tokens,
    draw_uniform,
    inverse_cdf,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    log_probabilities,
    penalize_repetition,
    seen_tokens,
    token_law,
)

LAW = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64).log()
SEEN = torch.tensor([False, True, False, False])


def probs(log_probs: torch.Tensor) -> list[float]:
    return log_probs.exp().tolist()


@pytest.mark.parametrize(
    ("filtered", "expected"),
    [
        (keep_top_k(LAW, 2), [0.0, 4 / 7, 0.0, 3 / 7]),
        (keep_top_k(LAW, 9), [0.1, 0.4, 0.2, 0.3]),
        (keep_top_p(LAW, 0.7), [0.0, 4 / 7, 0.0, 3 / 7]),  # 0.4 + 0.3 reach it, whatever rounding makes of their sum
        (keep_top_p(LAW, 0.71), [0.0, 4 / 9, 2 / 9, 3 / 9]),
        (keep_top_p(LAW, 1e-9), [0.0, 1.0, 0.0, 0.0]),
        (keep_min_p(LAW, 0.5), [0.0, 4 / 9, 2 / 9, 3 / 9]),  # at least half of 0.4
        (keep_min_p(LAW, 0.0), [0.1, 0.4, 0.2, 0.3]),
        (apply_temperature(LAW, 0.5), [1 / 30, 16 / 30, 4 / 30, 9 / 30]),
        (apply_temperature(LAW, 0.0), [0.0, 1.0, 0.0, 0.0]),
        (penalize_repetition(LAW, SEEN, 2.0), [10 / 76, 16 / 76, 20 / 76, 30 / 76]),
    ],
)  # fmt: skip
def test_filters_by_hand(filtered: torch.Tensor, expected: list[float]) -> None:
    assert filtered.dtype == torch.float64 and probs(filtered) == pytest.approx(expected, abs=1e-12)


def test_of_equal_tokens_those_of_lower_id_stay() -> None:
    even = log_probabilities(torch.zeros(5))
    assert probs(keep_top_k(even, 2)) == pytest.approx([0.5, 0.5, 0, 0, 0])
    assert probs(keep_top_p(even, 0.6)) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0, 0])
    assert probs(apply_temperature(even, 0.0)) == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_filters_act_one_after_the_other() -> None:
    sampling = TokenSampling(temperature=0.5, top_k=3, top_p=0.9, min_p=0.3, repetition_penalty=2.0)
    by_hand = penalize_repetition(LAW, SEEN, 2.0)
    by_hand = keep_min_p(keep_top_p(keep_top_k(apply_temperature(by_hand, 0.5), 3), 0.9), 0.3)
    torch.testing.assert_close(token_law(LAW + 3.0, sampling, SEEN), by_hand)
    assert probs(token_law(LAW + 3.0)) == pytest.approx([0.1, 0.4, 0.2, 0.3])


def test_whole_nucleus_keeps_a_tail_that_sums_cannot_see() -> None:
    law = log_probabilities(torch.cat([torch.zeros(1), torch.full((1000,), -60.0)]))
    assert torch.equal(keep_top_p(law, 1.0), law)


def test_no_temperature_overflows() -> None:
    logits = torch.tensor([1e4, 0.0, -1e4])
    for temperature in (1e-300, 1e-3, 1000.0):
        law = token_law(logits, TokenSampling(temperature=temperature))
        assert not law.isnan().any() and law[0] == law.max()


def test_tokens_that_were_seen() -> None:
    seen = seen_tokens(torch.tensor([[0, 2, 2], [MASK, 1, MASK]]), 4)
    assert seen.tolist() == [[True, False, True, False], [False, True, False, False]]


def test_draws_reach_the_tail_of_a_large_vocabulary() -> None:
    """At temperature 0.05, of 65,536 tokens one has almost all; the others share what Gumbel noise in float32 loses."""
    logits = torch.full((65_536,), 0.0)
    logits[1234] = 2.0
    law = token_law(logits, TokenSampling(temperature=0.05)).exp()
    rare = math.exp(-40.0) / (1.0 + 65_535 * math.exp(-40.0))
    assert law[0].item() == pytest.approx(rare, rel=1e-12)  # 4e-18
    logits[1234] = 1.0  # now 2e-9 each, 1.35e-4 together
    law = token_law(logits, TokenSampling(temperature=0.05)).exp()
    tokens = torch.tensor([0, 1, 77, 1233, 1235, 40_000, 65_535])
    middles = law.cumsum(0)[tokens] - 0.5 * law[tokens]
    assert torch.equal(inverse_cdf(law.expand(len(tokens), -1), middles), tokens)


def test_the_mass_of_the_tail_is_drawn() -> None:
    from scipy.stats import binomtest

    # temperature 0.05, one token at 0 and 1,023 at -0.5: a tail of 4.4%
    logits = torch.full((1024,), -0.5)
    logits[7] = 0.0
    draws = 4_000
    uniforms = draw_uniform(1, draws, [sample_generator(0)])[0]
    drawn, own = draw_tokens(logits.expand(draws, -1), TokenSampling(temperature=0.05), uniforms)
    tail = 1023 * math.exp(-10.0) / (1.0 + 1023 * math.exp(-10.0))
    rare = drawn[drawn != 7]
    assert binomtest(len(rare), draws, tail).pvalue > 1e-3
    assert binomtest(int((rare > 511).sum()), len(rare), 512 / 1023).pvalue > 1e-3
    assert torch.allclose(own, log_probabilities(logits)[drawn])  # in the model's law, not the sharpened one


def test_tokens_without_weight_are_never_drawn() -> None:
    probabilities = torch.tensor([0.0, 0.3, 0.0, 0.7 - 1e-17, 0.0, 0.0], dtype=torch.float64)
    ends = torch.tensor([0.0, 0.3 - 1e-16, 0.3, 1.0 - 2.0**-53, 1.0], dtype=torch.float64)
    assert inverse_cdf(probabilities.expand(5, -1), ends).tolist() == [1, 1, 3, 3, 3]


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(50, 11, generator=sample_generator(1))
    uniforms, seen = draw_uniform(1, 50, [sample_generator(2)])[0], torch.rand(5, 11) < 0.5
    owner = torch.arange(50) // 10
    sampling = TokenSampling(top_k=5, repetition_penalty=1.7)
    whole = draw_tokens(logits, sampling, uniforms, seen, owner)
    monkeypatch.setattr(categorical, "NUMBERS_AT_ONCE", 77)
    parts = draw_tokens(logits, sampling, uniforms, seen, owner)
    assert torch.equal(whole[0], parts[0]) and torch.equal(whole[1], parts[1])
    assert draw_tokens(logits[:0], sampling, uniforms[:0])[0].shape == (0,)


def test_a_sample_draws_the_same_whatever_its_batch() -> None:
    batch = draw_uniform(3, 4, [sample_generator(0, k) for k in range(3)], torch.tensor([True, False, True]))
    alone = draw_uniform(1, 4, [sample_generator(0, 2)])
    assert torch.equal(batch[2:], alone) and batch.dtype == torch.float64 and not batch[1].any()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"top_p": 0.0}, "top_p=0.0 is not a number above 0 to 1 or none"),
        ({"top_p": 1.1}, "top_p=1.1 is not"),
        ({"top_k": 0}, "top_k=0 is not a whole number from 1"),
        ({"min_p": -0.1}, "min_p=-0.1 is not"),
        ({"temperature": -1.0}, "temperature=-1.0 is not"),
        ({"temperature": math.nan}, "temperature=nan is not"),
        ({"repetition_penalty": 0.0}, "repetition_penalty=0.0 is not"),
    ],
)
def test_settings_out_of_bounds_are_one_line(settings: dict, line: str) -> None:
    with pytest.raises(VidgenError) as stop:
        TokenSampling(**settings)
    assert str(stop.value).startswith(line) and "\n" not in str(stop.value)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_law(bad: float) -> None:
    with pytest.raises(VidgenError, match="the model gave logits of NaN or infinity, or left no token"):
        log_probabilities(torch.tensor([[0.0, 1.0], [bad, 0.0]]))
    with pytest.raises(VidgenError, match="left no token"):
        log_probabilities(torch.full((2, 3), -math.inf))
    with pytest.raises(VidgenError, match="2 generators for 3 samples"):
        draw_uniform(3, 1, [torch.Generator(), torch.Generator()])
