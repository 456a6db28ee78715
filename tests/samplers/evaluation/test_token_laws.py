"""The laws that decoders are measured on: their conditionals against sums over the table, and what measures them."""

import math

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.interfaces import MASK
from vidgen.samplers.autoregressive.categorical import TokenSampling
from vidgen.samplers.evaluation import token_decoding
from vidgen.samplers.evaluation.token_decoding import (
    chi_square_p_value,
    expected_kl,
    expected_total_variation,
    kl_divergence,
    law_cases,
    measure_decoders,
    total_variation,
)
from vidgen.samplers.evaluation.token_laws import (
    TokenLaw,
    autoregressive_law,
    confidence_law,
    grouped_law,
    potts_law,
    random_order_law,
)
from vidgen.samplers.token_decoders import TOKEN_DECODERS, find_token_decoder

LAW = potts_law()


def test_the_law_is_one_of_8_tokens_and_6561_states() -> None:
    assert LAW.states.shape == (6561, 8) and LAW.probabilities.sum().item() == pytest.approx(1.0)
    assert torch.equal(LAW.number(LAW.states), torch.arange(6561))
    assert LAW.probabilities.min() > 0.0
    # one pair of neighbors, no field: ln p differs by the coupling where they are equal
    pair = potts_law((1, 1, 2), 3, 0.7).probabilities.reshape(3, 3)
    odds = pair[0, 0] * pair[1, 1] / (pair[0, 1] * pair[1, 0])
    assert odds.log().item() == pytest.approx(1.4)


@pytest.mark.parametrize("known", [(), (3,), (0, 2, 5), (0, 1, 2, 3, 4, 5, 6)])
def test_conditionals_are_sums_over_the_table(known: tuple[int, ...]) -> None:
    tokens = torch.full((1, 8), MASK)
    tokens[0, list(known)] = torch.tensor([2, 0, 1, 1, 0, 2, 2])[: len(known)]
    agree = (LAW.states[:, list(known)] == tokens[:, list(known)]).all(1)
    conditional = LAW.masked_logits(tokens).softmax(-1)[0]
    for place in set(range(8)) - set(known):
        sums = torch.stack([LAW.probabilities[agree & (LAW.states[:, place] == token)].sum() for token in range(3)])
        torch.testing.assert_close(conditional[place], sums / sums.sum())
    if known in ((), (0, 1, 2, 3, 4, 5, 6)):
        causal = LAW.causal_logits(tokens[:, : len(known)])
        assert causal.shape == (1, len(known) + 1, 3)
        torch.testing.assert_close(causal[0, -1].softmax(-1), conditional[len(known)])
    assert LAW.causal_logits(LAW.states[:2]).shape == (2, 9, 3)


def test_products_of_conditionals_are_the_law() -> None:
    torch.testing.assert_close(autoregressive_law(LAW), LAW.probabilities)
    torch.testing.assert_close(grouped_law(LAW, [[place] for place in (5, 1, 0, 7, 3, 2, 6, 4)]), LAW.probabilities)
    small = potts_law((1, 2, 2))
    torch.testing.assert_close(random_order_law(small, [1] * 4), small.probabilities)


def test_filtered_laws_by_hand() -> None:
    law = TokenLaw(torch.tensor([0.5, 0.1, 0.1, 0.3]), 2)  # of two bits
    greedy = autoregressive_law(law, TokenSampling(temperature=0.0))
    assert greedy.tolist() == [1.0, 0.0, 0.0, 0.0]
    nucleus = autoregressive_law(law, TokenSampling(top_p=0.8))  # 0.6 is not enough, 5/6 is, 3/4 is not
    assert nucleus.tolist() == pytest.approx([0.6, 0.0, 0.1, 0.3])
    # one step: both bits on their own, 0.6 each; the most confident first: a law of its own
    assert random_order_law(law, [2]).tolist() == pytest.approx([0.36, 0.24, 0.24, 0.16])
    # of draws (0, 0) and (1, 1) the first bit is kept, of (0, 1) and (1, 0) the 0; then the other one is drawn given it
    by_hand = [0.6 * 5 / 6 + 0.24 * 5 / 6, 0.6 / 6, 0.24 / 6 + 0.16 / 4, 0.16 * 3 / 4]
    assert confidence_law(law, [1, 1]).tolist() == pytest.approx(by_hand)


def test_distances_by_hand() -> None:
    p, q = torch.tensor([0.5, 0.5, 0.0]).double(), torch.tensor([0.25, 0.25, 0.5]).double()
    assert total_variation(p, q) == pytest.approx(0.5) and kl_divergence(p, q) == pytest.approx(math.log(2.0))
    assert kl_divergence(p, p) == 0.0


def test_what_perfect_draws_are_off_by() -> None:
    law, draws = potts_law((1, 2, 3)).probabilities, 3_000
    stream = torch.Generator().manual_seed(0)
    off, kl = [], []
    for _ in range(20):
        counts = torch.multinomial(law, draws, replacement=True, generator=stream).bincount(minlength=len(law))
        off.append(total_variation(counts / draws, law))
        kl.append(kl_divergence((counts / draws).double(), law))
    assert sum(off) / 20 == pytest.approx(expected_total_variation(law, draws), rel=0.03)
    assert sum(kl) / 20 == pytest.approx(expected_kl(law, draws), rel=0.03)


def test_p_values_are_uniform_under_the_law() -> None:
    from scipy.stats import kstest

    law, stream = potts_law((1, 2, 3)).probabilities, torch.Generator().manual_seed(1)
    drawn = [torch.multinomial(law, 2_000, replacement=True, generator=stream) for _ in range(200)]
    values = [chi_square_p_value(tokens.bincount(minlength=len(law)), law) for tokens in drawn]
    assert kstest(values, "uniform").pvalue > 1e-3
    assert chi_square_p_value(torch.tensor([10, 10, 1]), torch.tensor([0.5, 0.5, 0.0]).double()) == 0.0


def test_decoders_by_name() -> None:
    assert {decoder.kind for decoder in TOKEN_DECODERS.values()} == {"causal", "masked"}
    assert all(name == decoder.name for name, decoder in TOKEN_DECODERS.items())
    assert find_token_decoder("maskgit").exact is False
    with pytest.raises(VidgenError, match="token decoder 'beam' is unknown; choose one of autoregressive"):
        find_token_decoder("beam")
    with pytest.raises(VidgenError, match="'beam' names what is no token decoder"):
        measure_decoders(["beam"])
    assert {case.decoder for case in law_cases()} == set(TOKEN_DECODERS)


def test_what_claims_the_law_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = [name for name, decoder in TOKEN_DECODERS.items() if decoder.exact]
    rows = measure_decoders(exact, draws=10_000)
    floor = expected_total_variation(LAW.probabilities, 10_000)
    claims = [row for row in rows if row["exact"]]
    assert len(claims) == len(exact) == len(rows) - 1  # one row is filtered
    for row in rows:
        assert row["p_value"] > 1e-3
        if row["exact"]:
            assert row["by"] == "draws" and row["total_variation"] < 1.03 * floor
    assert {row["decoder"]: row["passes"] for row in claims}["speculative_jacobi"] < 4.0


def test_distance_falls_with_steps_where_the_order_looks_at_no_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [case for case in law_cases() if case.setting.startswith(("random", "halton"))]
    laws = [case.law(LAW) for case in cases]
    off = [total_variation(law, LAW.probabilities) for law in laws]
    assert off[:4] == sorted(off[:4], reverse=True) and off[4:] == sorted(off[4:], reverse=True)
    assert off[0] == pytest.approx(off[4]) and off[0] > 0.4 and off[3] < 1e-12 and off[7] < 1e-12
    monkeypatch.setattr(token_decoding, "law_cases", lambda: cases[2:3])
    (row,) = measure_decoders(draws=10_000)
    assert row["by"] == "enumeration" and row["passes"] == 4.0 and row["p_value"] > 1e-3 and not row["exact"]
