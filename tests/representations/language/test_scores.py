import math

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.representations.language.scores import dual_softmax, dynamic_inverted_softmax


def test_dual_softmax_by_hand():
    scores = torch.tensor([[math.log(3.0), 1.0], [0.0, 1.0]])
    expected = torch.tensor([[math.log(3.0) * 0.75, 0.5], [0.0, 0.5]])
    torch.testing.assert_close(dual_softmax(scores, logit_scale=1.0), expected)


def test_inverted_softmax_moves_a_query_off_a_hub_and_leaves_others():
    scores = torch.tensor([[0.9, 0.8, 0.0], [0.1, 0.8, 0.2]])
    bank = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.5, 0.0]])  # item 0 is the best of both
    result = dynamic_inverted_softmax(scores, bank, logit_scale=2.0)
    by_hand = [math.exp(2 * s) / sum(math.exp(2 * p) for p in bank[:, j].tolist()) for j, s in enumerate((0.9, 0.8, 0))]
    torch.testing.assert_close(result[0], torch.tensor(by_hand))
    assert result[0].argmax() == 1
    torch.testing.assert_close(result[1], scores[1], rtol=0, atol=0)


def test_bank_of_other_items_is_refused():
    with pytest.raises(VidgenError, match="rows of 3 items"):
        dynamic_inverted_softmax(torch.zeros(2, 3), torch.zeros(2, 4))
