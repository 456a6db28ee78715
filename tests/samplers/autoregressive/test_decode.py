"""Causal decoding on laws that are known: the law, batches, prefixes, caches, and the rewinding of models."""

import pytest
import torch

from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.samplers.autoregressive.categorical import TokenSampling
from vidgen.samplers.autoregressive.decode import sample_autoregressive
from vidgen.samplers.autoregressive.speculative_jacobi import sample_speculative_jacobi
from vidgen.samplers.autoregressive.uncached import UncachedModel
from vidgen.samplers.evaluation.token_decoding import chi_square_p_value
from vidgen.samplers.evaluation.token_laws import autoregressive_law, potts_law

LAW = potts_law((1, 2, 3), vocabulary=3)  # 729 sequences
PLAIN = TokenSampling()
SETTINGS = [
    PLAIN,
    TokenSampling(temperature=0.6),
    TokenSampling(top_p=0.8),
    TokenSampling(top_k=2, min_p=0.2),
    TokenSampling(repetition_penalty=1.5),
]


def generators(count: int, seed: int = 0) -> list[torch.Generator]:
    return [sample_generator(seed, k) for k in range(count)]


def decode(how, model, num_tokens=LAW.length, sampling=PLAIN, streams=None, **settings) -> torch.Tensor:
    drawn = how(model, num_tokens, sampling, streams or generators(1), **settings)
    return drawn if isinstance(drawn, torch.Tensor) else drawn.tokens


@pytest.mark.parametrize("how", [sample_autoregressive, sample_speculative_jacobi])
@pytest.mark.parametrize("sampling", SETTINGS, ids=str)
def test_the_law_is_the_product_of_its_conditionals(how, sampling: TokenSampling) -> None:
    settings = {} if how is sample_autoregressive else {"window": 3}
    model = UncachedModel(LAW.causal_logits, 8_000)
    tokens = decode(how, model, sampling=sampling, streams=torch.Generator().manual_seed(5), **settings)
    counts = LAW.number(tokens).bincount(minlength=len(LAW.states))
    assert chi_square_p_value(counts, autoregressive_law(LAW, sampling)) > 1e-3
    if sampling != PLAIN:  # and the test does see a difference
        assert chi_square_p_value(counts, LAW.probabilities) < 1e-6


@pytest.mark.parametrize("how", [sample_autoregressive, sample_speculative_jacobi])
def test_a_batch_of_eight_is_eight_batches_of_one(how) -> None:
    for sampling in (PLAIN, TokenSampling(top_p=0.9, repetition_penalty=1.3)):
        streams = generators(8)
        batch = decode(how, UncachedModel(LAW.causal_logits, 8), sampling=sampling, streams=streams)
        for row in range(8):
            stream = sample_generator(0, row)
            alone = decode(how, UncachedModel(LAW.causal_logits, 1), sampling=sampling, streams=[stream])
            assert torch.equal(batch[row : row + 1], alone)
            assert torch.equal(stream.get_state(), streams[row].get_state())  # what is drawn later is the same, too


@pytest.mark.parametrize("how", [sample_autoregressive, sample_speculative_jacobi])
def test_temperature_0_takes_the_most_probable(how) -> None:
    tokens = decode(
        how, UncachedModel(LAW.causal_logits, 2), sampling=TokenSampling(temperature=0.0), streams=generators(2)
    )
    for i in range(LAW.length):
        assert torch.equal(tokens[:, i], LAW.causal_logits(tokens[:, :i])[:, -1].argmax(-1))


@pytest.mark.parametrize("how", [sample_autoregressive, sample_speculative_jacobi])
def test_a_prefix_stays_and_conditions(how) -> None:
    prefix = torch.tensor([[2, 0]]).expand(8_000, -1)
    model = UncachedModel(LAW.causal_logits, 8_000)
    tokens = decode(how, model, prefix=prefix, streams=torch.Generator().manual_seed(1))
    assert torch.equal(tokens[:, :2], prefix)
    given = (LAW.states[:, :2] == prefix[0]).all(1)
    law = LAW.probabilities * given / LAW.probabilities[given].sum()
    assert chi_square_p_value(LAW.number(tokens).bincount(minlength=len(LAW.states)), law) > 1e-3
    whole = decode(how, UncachedModel(LAW.causal_logits, 8_000), prefix=tokens)
    assert torch.equal(whole, tokens)


def test_a_cache_that_holds_the_prefix_is_used_again() -> None:
    model = UncachedModel(LAW.causal_logits, 2)
    prefix = torch.tensor([[2, 0, 1], [1, 1, 0]])
    fresh = decode(sample_autoregressive, UncachedModel(LAW.causal_logits, 2), prefix=prefix, streams=generators(2))
    for held in (2, 3):  # of all of it the last token is read again: its logits are gone
        model.rewind(0)
        model.extend(prefix[:, :held])
        assert torch.equal(decode(sample_autoregressive, model, prefix=prefix, streams=generators(2)), fresh)
        assert model.length == LAW.length - 1


def test_rewinding_forgets() -> None:
    model = UncachedModel(LAW.causal_logits, 1)
    first = model.extend(torch.tensor([[1, 2]]))
    ahead = model.extend(torch.tensor([[0, 0]]))
    model.rewind(2)
    assert model.length == 2
    assert torch.equal(model.extend(torch.tensor([[0, 0]])), ahead)
    model.rewind(0)
    assert torch.equal(model.extend(torch.tensor([[1, 2]])), first)
    for length in (3, -1):
        with pytest.raises(VidgenError, match=f"cannot rewind to {length} tokens: the model has read 2"):
            model.rewind(length)


def test_callbacks_see_tokens_as_they_come() -> None:
    lengths = []
    decode(
        sample_autoregressive,
        UncachedModel(LAW.causal_logits, 1),
        prefix=torch.tensor([[1]]),
        callback=lambda done, tokens: lengths.append((done, tokens.shape)),
    )
    assert lengths == [(i, (1, i)) for i in range(2, 7)]


def test_speculation_takes_fewer_passes() -> None:
    law = potts_law((2, 2, 2))
    result = sample_speculative_jacobi(
        UncachedModel(law.causal_logits, 512), 8, PLAIN, torch.Generator().manual_seed(0), window=4
    )
    assert result.passes <= 8 and result.passes == result.passes_each.max()
    assert result.passes_each.double().mean() < 4.0 and result.passes_each.min() >= 2
    finals = []
    model = UncachedModel(law.causal_logits, 3)
    sample_speculative_jacobi(model, 8, PLAIN, generators(3), callback=lambda done, tokens: finals.append(done))
    assert finals == sorted(finals) and finals[0] == 1 and finals[-1] == 8 and model.calls == len(finals)


def test_independent_tokens_are_all_kept_at_once() -> None:
    def logits(tokens: torch.Tensor) -> torch.Tensor:
        return torch.tensor([0.3, 0.1, -2.0]).expand(len(tokens), tokens.shape[1] + 1, -1)

    result = sample_speculative_jacobi(UncachedModel(logits, 4), 40, PLAIN, generators(4), window=13)
    assert result.passes_each.tolist() == [
        4,
        4,
        4,
        4,
    ]  # one token, then three times 13 that stand, one behind: 1 + 14 * 3


@pytest.mark.parametrize(
    ("num_tokens", "settings", "line"),
    [
        (0, {}, "num_tokens is 0; it must be 1 or more"),
        (2, {"prefix": torch.zeros(1, 3, dtype=torch.int64)}, "num_tokens is 2; it must be 1 or more, the 3"),
        (4, {"prefix": torch.tensor([[0, -1]])}, "the prefix has tokens below 0"),
    ],
)
@pytest.mark.parametrize("how", [sample_autoregressive, sample_speculative_jacobi])
def test_errors_are_one_line(how, num_tokens: int, settings: dict, line: str) -> None:
    with pytest.raises(VidgenError) as stop:
        decode(how, UncachedModel(LAW.causal_logits, 1), num_tokens, **settings)
    assert str(stop.value).startswith(line) and "\n" not in str(stop.value)


def test_more_errors_of_one_line() -> None:
    model = UncachedModel(LAW.causal_logits, 1)
    model.extend(torch.tensor([[0, 1]]))
    with pytest.raises(VidgenError, match="the model has read 2 tokens, the prefix has 0; rewind it"):
        decode(sample_autoregressive, model)
    with pytest.raises(VidgenError, match="window is 0"):
        decode(sample_speculative_jacobi, UncachedModel(LAW.causal_logits, 1), window=0)
    broken = UncachedModel(lambda tokens: torch.full((1, tokens.shape[1] + 1, 3), torch.nan), 1)
    with pytest.raises(VidgenError, match="the model gave logits of NaN"):
        decode(sample_autoregressive, broken)


def test_twelve_tokens_by_enumeration() -> None:
    law = potts_law((3, 2, 2), vocabulary=2)  # 4,096 sequences, of which no draws are needed
    assert torch.allclose(autoregressive_law(law, PLAIN), law.probabilities, atol=1e-14)
    sharp = autoregressive_law(law, TokenSampling(temperature=0.5))
    assert sharp.sum().item() == pytest.approx(1.0) and sharp.max() > 1.5 * law.probabilities.max()
