"""Parallel groups: which tokens go together, the law that follows from it, and what is given."""

import pytest
import torch

from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.interfaces import MASK
from vidgen.samplers.autoregressive.categorical import TokenSampling
from vidgen.samplers.autoregressive.groups import far_apart_groups, frame_groups, row_groups, sample_groups
from vidgen.samplers.evaluation.token_decoding import chi_square_p_value
from vidgen.samplers.evaluation.token_laws import grouped_law, potts_law, strict_logits
from vidgen.samplers.masked.any_order import sample_any_order

GRID = (1, 2, 3)
LAW = potts_law(GRID)
PLAIN = TokenSampling()


def test_rows_frames_and_far_apart_tokens() -> None:
    assert row_groups((2, 2, 3)).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert frame_groups((2, 2, 3)).tolist() == [0] * 6 + [1] * 6
    # one frame of 4x4 in four regions: their first tokens one by one, then their others together
    assert far_apart_groups((1, 4, 4)).reshape(4, 4).tolist() == [
        [0, 4, 1, 4],
        [5, 6, 5, 6],
        [2, 4, 3, 4],
        [5, 6, 5, 6],
    ]
    groups = far_apart_groups((4, 2, 2), regions=(2, 1, 1))  # in time: frames 0 and 2, then 1 and 3
    assert groups.reshape(4, 4).tolist() == [[0, 2, 3, 4], [5, 6, 7, 8], [1, 2, 3, 4], [5, 6, 7, 8]]


@pytest.mark.parametrize(
    "groups", [row_groups(GRID), far_apart_groups(GRID, (1, 2, 3)), torch.tensor([7, 1, 1, 7, 0, 7])]
)
def test_the_law_is_a_product_over_groups(groups: torch.Tensor) -> None:
    masked = torch.full((10_000, LAW.length), MASK)
    tokens = sample_groups(strict_logits(LAW), masked, PLAIN, torch.Generator().manual_seed(2), groups=groups)
    places = [torch.nonzero(groups == group)[:, 0].tolist() for group in groups.unique()]
    counts = LAW.number(tokens).bincount(minlength=len(LAW.states))
    assert chi_square_p_value(counts, grouped_law(LAW, places)) > 1e-3
    if len(places) < LAW.length:
        assert chi_square_p_value(counts, LAW.probabilities) < 1e-6


def test_a_group_for_each_token_is_any_order_decoding() -> None:
    masked = torch.full((4, LAW.length), MASK)
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    grouped, ordered = (
        how(strict_logits(LAW), masked, PLAIN, [sample_generator(0, k) for k in range(4)], **settings)
        for how, settings in ((sample_groups, {"groups": order.argsort()}), (sample_any_order, {"order": order}))
    )
    assert torch.equal(grouped, ordered)


def test_known_tokens_stay_and_known_groups_take_no_pass() -> None:
    tokens = torch.tensor([[0, 1, 2, MASK, MASK, 1], [2, 2, 2, MASK, 0, MASK]])
    calls = []

    def logits(known: torch.Tensor) -> torch.Tensor:
        calls.append(known)
        return strict_logits(LAW)(known)

    drawn = sample_groups(logits, tokens, PLAIN, [sample_generator(0, k) for k in range(2)], groups=row_groups(GRID))
    assert len(calls) == 1 and torch.equal(drawn[tokens != MASK], tokens[tokens != MASK]) and int(drawn.min()) >= 0
    alone = sample_groups(logits, tokens[1:], PLAIN, [sample_generator(0, 1)], groups=row_groups(GRID))
    assert torch.equal(drawn[1:], alone)


def test_errors_are_one_line() -> None:
    with pytest.raises(VidgenError, match=r"a grid of \(1, 3, 4\) tokens is not cut evenly into \(1, 2, 2\) regions"):
        far_apart_groups((1, 3, 4))
    with pytest.raises(VidgenError, match="there are 5 groups' numbers for 6 tokens"):
        sample_groups(strict_logits(LAW), torch.full((1, 6), MASK), PLAIN, [torch.Generator()], groups=torch.arange(5))
