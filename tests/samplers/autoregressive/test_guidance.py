"""Guided token priors: the formula on log-probabilities, the interval, and a second branch that reads when it must."""

import math

import pytest
import torch

from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.interfaces import MASK
from vidgen.samplers.autoregressive.categorical import TokenSampling
from vidgen.samplers.autoregressive.decode import sample_autoregressive
from vidgen.samplers.autoregressive.guidance import GuidedSequenceModel, guide_masked, guided_logits
from vidgen.samplers.autoregressive.speculative_jacobi import sample_speculative_jacobi
from vidgen.samplers.autoregressive.uncached import UncachedModel
from vidgen.samplers.evaluation.token_decoding import chi_square_p_value
from vidgen.samplers.evaluation.token_laws import potts_law, strict_logits

COND, UNCOND = potts_law((1, 2, 3), coupling=0.9), potts_law((1, 2, 3), coupling=0.2)
N = COND.length


def guided_model(batch: int = 1, scale: float = 2.0, interval: tuple = (0.0, 1.0)) -> GuidedSequenceModel:
    models = [UncachedModel(law.causal_logits, batch) for law in (COND, UNCOND)]
    return GuidedSequenceModel(*models, scale, N, interval)


def test_the_formula() -> None:
    cond, uncond = torch.tensor([0.6, 0.3, 0.1]).double().log(), torch.tensor([0.2, 0.2, 0.6]).double().log()
    guided = guided_logits(cond + 5.0, uncond - 2.0, 2.0).softmax(-1)
    weights = torch.tensor([0.36 / 0.2, 0.09 / 0.2, 0.01 / 0.6], dtype=torch.float64)
    torch.testing.assert_close(guided, weights / weights.sum())
    torch.testing.assert_close(guided_logits(cond, uncond, 1.0), cond)
    torch.testing.assert_close(guided_logits(cond, uncond, 0.0), uncond)


def test_tokens_that_are_ruled_out() -> None:
    cond = torch.tensor([0.5, 0.5, 0.0]).double().log()
    uncond = torch.tensor([0.0, 0.5, 0.5]).double().log()
    guided = guided_logits(cond, uncond, 3.0).exp()
    assert guided.tolist() == pytest.approx([0.5, 0.5, 0.0])  # by the formula the first would be certain, or NaN
    assert not guided_logits(cond, cond, 3.0).isnan().any()


def conditional(tokens: torch.Tensor, interval: tuple) -> torch.Tensor:
    """The guided law of the next token, from the two tables."""
    place = tokens.shape[1]
    cond, uncond = (law.causal_logits(tokens)[:, -1].log_softmax(-1) for law in (COND, UNCOND))
    acts = interval[0] <= place / N <= interval[1]
    return (uncond + 2.0 * (cond - uncond) if acts else cond).softmax(-1)


@pytest.mark.parametrize("how", [sample_autoregressive, sample_speculative_jacobi])
@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.3, 0.7)])
def test_the_guided_law(how, interval: tuple) -> None:
    law = torch.ones(len(COND.states), dtype=torch.float64)
    for place in range(N):
        law *= conditional(COND.states[:, :place], interval).gather(1, COND.states[:, place : place + 1])[:, 0]
    model = guided_model(6_000, interval=interval)
    drawn = how(model, N, TokenSampling(), torch.Generator().manual_seed(3))
    tokens = drawn if isinstance(drawn, torch.Tensor) else drawn.tokens
    counts = COND.number(tokens).bincount(minlength=len(law))
    assert chi_square_p_value(counts, law) > 1e-3 and chi_square_p_value(counts, COND.probabilities) < 1e-6


def test_the_second_branch_reads_no_more_than_it_must() -> None:
    model = guided_model(interval=(0.5, 0.7))  # of six, tokens 3 and 4
    sample_autoregressive(model, N, TokenSampling(), [sample_generator(0)])
    assert model.uncond.calls == 2 and model.uncond.length == 4 and model.length == 5
    model.rewind(2)
    assert model.uncond.length == 2
    model = guided_model(scale=1.0)
    sample_autoregressive(model, N, TokenSampling(), [sample_generator(0)])
    assert model.uncond.calls == 0


def test_rewinding_forgets_in_both_branches() -> None:
    model = guided_model(interval=(0.3, 1.0))
    first = model.extend(torch.tensor([[1, 2, 0]]))
    model.rewind(1)
    again = model.extend(torch.tensor([[2, 0]]))
    torch.testing.assert_close(again, first[:, 1:])
    torch.testing.assert_close(again[0, -1].softmax(-1), conditional(torch.tensor([[1, 2, 0]]), (0.3, 1.0))[0])


def test_masked_logits_are_guided_by_their_share() -> None:
    tokens = torch.tensor([[MASK] * 6, [0, MASK, 1, MASK, 2, MASK]])
    logits = guide_masked(strict_logits(COND), strict_logits(UNCOND), 2.0, (0.4, 1.0))(tokens)
    cond, uncond = COND.masked_logits(tokens), UNCOND.masked_logits(tokens)
    torch.testing.assert_close(logits[0], cond[0])
    masked = tokens[1] == MASK
    torch.testing.assert_close(logits[1][masked], guided_logits(cond[1][masked], uncond[1][masked], 2.0))
    plain = strict_logits(COND)
    assert guide_masked(plain, strict_logits(UNCOND), 1.0) is plain


@pytest.mark.parametrize("interval", [(0.5, 0.2), (-0.1, 1.0), (0.0, 1.1), (0.5,), (math.nan, 1.0)])
def test_intervals_that_are_none(interval: tuple) -> None:
    with pytest.raises(VidgenError, match="guidance_interval is .*two shares of tokens done are wanted"):
        guided_model(interval=interval)
    with pytest.raises(VidgenError, match="guidance_scale=-1.0 is not"):
        guide_masked(strict_logits(COND), strict_logits(UNCOND), -1.0)
    used = UncachedModel(COND.causal_logits, 1)
    used.extend(torch.tensor([[0]]))
    with pytest.raises(VidgenError, match="guidance begins with models that have read nothing"):
        GuidedSequenceModel(used, UncachedModel(UNCOND.causal_logits, 1), 2.0, N)
