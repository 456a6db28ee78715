"""MaskGIT: laws that can be enumerated, tokens that stay, orders, and revision."""

import pytest
import torch

from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.interfaces import MASK
from vidgen.samplers.autoregressive.categorical import TokenSampling
from vidgen.samplers.evaluation.token_decoding import chi_square_p_value
from vidgen.samplers.evaluation.token_laws import (
    confidence_law,
    grouped_law,
    potts_law,
    random_order_law,
    strict_logits,
)
from vidgen.samplers.masked.any_order import sample_any_order
from vidgen.samplers.masked.maskgit import MaskGITConfig, gumbel, sample_maskgit
from vidgen.samplers.masked.orders import halton_order, radical_inverse
from vidgen.samplers.masked.schedules import reveal_counts

GRID = (1, 2, 3)
LAW = potts_law(GRID)
PLAIN = TokenSampling()
HALF_KNOWN = torch.tensor([[0, MASK, 1, MASK, 2, MASK], [MASK, 2, MASK, MASK, MASK, MASK], [1, 0, 2, 1, 0, 2]])


def generators(count: int) -> list[torch.Generator]:
    return [sample_generator(0, k) for k in range(count)]


def draw_counts(config: MaskGITConfig, sampling: TokenSampling = PLAIN) -> torch.Tensor:
    masked = torch.full((10_000, LAW.length), MASK)
    stream = torch.Generator().manual_seed(4)
    tokens = sample_maskgit(strict_logits(LAW), masked, sampling, stream, config=config, grid=GRID)
    return LAW.number(tokens).bincount(minlength=len(LAW.states))


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("order", ["random", "halton", "confidence"])
def test_the_law_at_few_steps(order: str, steps: int) -> None:
    counts = reveal_counts(LAW.length, steps)
    if order == "halton":
        law = grouped_law(LAW, [group.tolist() for group in halton_order(GRID).split(counts)])
    else:
        law = (random_order_law if order == "random" else confidence_law)(LAW, counts)
    drawn = draw_counts(MaskGITConfig(num_steps=steps, order=order, choice_temperature=0.0))
    assert law.sum().item() == pytest.approx(1.0) and chi_square_p_value(drawn, law) > 1e-3
    assert chi_square_p_value(drawn, LAW.probabilities) < 1e-6


def test_the_law_under_a_filter() -> None:
    sampling = TokenSampling(top_p=0.8, temperature=1.3)
    law = random_order_law(LAW, reveal_counts(LAW.length, 2), sampling)
    assert chi_square_p_value(draw_counts(MaskGITConfig(num_steps=2, order="random"), sampling), law) > 1e-3


def test_one_token_a_step_in_random_order_is_any_order_decoding() -> None:
    config = MaskGITConfig(num_steps=LAW.length, order="random")
    for tokens in (torch.full((3, LAW.length), MASK), HALF_KNOWN):
        steps = sample_maskgit(strict_logits(LAW), tokens, PLAIN, generators(3), config=config)
        assert torch.equal(steps, sample_any_order(strict_logits(LAW), tokens, PLAIN, generators(3)))


@pytest.mark.parametrize(
    "config",
    [
        MaskGITConfig(num_steps=3),
        MaskGITConfig(num_steps=2, order="random"),
        MaskGITConfig(num_steps=4, order="halton", schedule="linear"),
        MaskGITConfig(num_steps=4, revised_share=0.5, schedule="arccos"),
    ],
    ids=str,
)
def test_a_batch_of_eight_is_eight_batches_of_one(config: MaskGITConfig) -> None:
    tokens = torch.cat([HALF_KNOWN, torch.full((5, LAW.length), MASK)])
    streams = generators(8)
    batch = sample_maskgit(strict_logits(LAW), tokens, PLAIN, streams, config=config, grid=GRID)
    assert torch.equal(batch[tokens != MASK], tokens[tokens != MASK]) and 0 <= int(batch.min()) <= int(batch.max()) < 3
    for row in range(8):
        stream = sample_generator(0, row)
        alone = sample_maskgit(strict_logits(LAW), tokens[row : row + 1], PLAIN, [stream], config=config, grid=GRID)
        assert torch.equal(batch[row : row + 1], alone) and torch.equal(stream.get_state(), streams[row].get_state())


@pytest.mark.parametrize("order", ["confidence", "random", "halton"])
def test_kept_tokens_are_never_drawn_again(order: str) -> None:
    law, seen = potts_law((2, 2, 2)), [torch.full((16, 8), MASK)]
    config = MaskGITConfig(num_steps=5, order=order)
    sample_maskgit(
        strict_logits(law), seen[0], PLAIN, generators(16), config=config, grid=(2, 2, 2),
        callback=lambda step, tokens: seen.append(tokens.clone()),
    )  # fmt: skip
    assert len(seen) == 6 and bool((seen[0] == MASK).all())  # and the caller's tensor is not written to
    for before, after, count in zip(seen, seen[1:], reveal_counts(8, 5), strict=False):
        kept = before != MASK
        assert torch.equal(after[kept], before[kept])
        assert ((after != MASK).sum(1) - kept.sum(1)).tolist() == [count] * 16


def test_revision_masks_the_least_confident_again() -> None:
    seen = []
    tokens = torch.tensor([[1] + [MASK] * 7] * 16)
    config = MaskGITConfig(num_steps=4, schedule="linear", revised_share=0.5)
    drawn = sample_maskgit(
        strict_logits(potts_law((2, 2, 2))), tokens, PLAIN, generators(16), config=config,
        callback=lambda step, sequences: seen.append(sequences.clone()),
    )  # fmt: skip
    counts = torch.tensor(reveal_counts(7, 4, "linear"))
    # after step k the schedule's count is known, less half of what earlier steps had left known
    known = [1 + int(counts[0])]
    for step in (1, 2):
        known.append(1 + int(counts[: step + 1].sum()) - (known[-1] - 1) // 2)
    assert [(sequences != MASK).sum(1).unique().tolist() for sequences in seen] == [[count] for count in (*known, 8)]
    assert bool((drawn[:, 0] == 1).all()) and any(
        bool(((seen[step] != MASK) & (seen[step + 1] == MASK)).any()) for step in range(3)
    )


def test_confidence_keeps_what_is_certain() -> None:
    law = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    kept = []
    config = MaskGITConfig(num_steps=3, choice_temperature=0.0)
    sample_maskgit(
        lambda tokens: law.expand(len(tokens), -1, -1), torch.full((4, 3), MASK), TokenSampling(temperature=0.0),
        generators(4), config=config, callback=lambda step, tokens: kept.append(tokens != MASK),
    )  # fmt: skip
    assert kept[0].tolist() == [[False, True, False]] * 4 and kept[1].tolist() == [[False, True, True]] * 4


def test_noise_on_confidence_is_gumbels_and_finite() -> None:
    from scipy.stats import gumbel_r, kstest

    uniforms = torch.rand(4000, dtype=torch.float64, generator=sample_generator(3))
    assert kstest(gumbel(uniforms).numpy(), gumbel_r.cdf).pvalue > 1e-3
    assert gumbel(torch.tensor([0.0, 1.0 - 2.0**-53], dtype=torch.float64)).isfinite().all()


def test_halton_order_is_a_permutation_that_spreads() -> None:
    assert radical_inverse(torch.arange(1, 5), 2).tolist() == [0.5, 0.25, 0.75, 0.125]
    assert radical_inverse(torch.arange(1, 4), 3).tolist() == pytest.approx([1 / 3, 2 / 3, 1 / 9])
    for grid in ((1, 8, 8), (3, 4, 5), (1, 1, 7), (5, 1, 1)):
        order = halton_order(grid)
        assert order.sort().values.tolist() == list(range(grid[0] * grid[1] * grid[2]))
    first = halton_order((1, 8, 8))[:16]
    quarters = (first // 8 // 4) * 2 + first % 8 // 4
    assert set(quarters.bincount(minlength=4).tolist()) <= {3, 4, 5}
    # of (1, 2, 3), base 2 down and base 3 across: (1/2, 1/3), (1/4, 2/3), (3/4, 1/9), (1/8, 4/9), ...
    assert halton_order((1, 2, 3))[:4].tolist() == [4, 2, 3, 1]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"num_steps": 0}, "num_steps=0 is not a whole number from 1 to"),
        ({"schedule": "sine"}, "schedule='sine' is unknown; choose one of cosine, linear, arccos"),
        ({"order": "spiral"}, "order='spiral' is unknown; choose one of confidence, random, halton"),
        ({"choice_temperature": -1.0}, "choice_temperature=-1.0 is not"),
        ({"revised_share": 1.0}, "revised_share=1.0 is not a number from 0 and below 1"),
    ],
)
def test_settings_out_of_bounds_are_one_line(settings: dict, line: str) -> None:
    with pytest.raises(VidgenError) as stop:
        MaskGITConfig(**settings)
    assert str(stop.value).startswith(line) and "\n" not in str(stop.value)


@pytest.mark.parametrize(
    ("tokens", "line"),
    [
        (torch.full((1, 6), -2), "tokens go down to -2; they are ids from 0 on, or -1 where unknown"),
        (torch.full((1, 6), -1, dtype=torch.int32), r"tokens are torch.int32 of shape \(1, 6\); int64"),
        (torch.tensor([[3, MASK, 0, 0, 0, 0]]), "there is a token 3 in a vocabulary of 3"),
    ],
)
def test_tokens_that_are_none(tokens: torch.Tensor, line: str) -> None:
    def logits(known: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*known.shape, 3)

    with pytest.raises(VidgenError, match=line):
        sample_maskgit(logits, tokens, PLAIN, generators(1))


def test_more_errors_of_one_line() -> None:
    masked, halton = torch.full((1, 6), MASK), MaskGITConfig(order="halton")
    with pytest.raises(VidgenError, match=r"the Halton order of 6 tokens needs their grid \(t, h, w\); it is None"):
        sample_maskgit(strict_logits(LAW), masked, PLAIN, generators(1), config=halton)
    with pytest.raises(VidgenError, match="the model gave logits of NaN"):
        sample_maskgit(lambda tokens: torch.full((1, 6, 3), torch.nan), masked, PLAIN, generators(1))
    with pytest.raises(VidgenError, match=r"the model gave logits \(1, 5, 3\) for tokens \(1, 6\)"):
        sample_maskgit(lambda tokens: torch.zeros(1, 5, 3), masked, PLAIN, generators(1))
