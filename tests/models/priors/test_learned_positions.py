"""Learned positions of a frame: a vector a row and one a column, the same from a cache, and none beyond the frame."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.priors.cache import CachedPrior
from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.token_prior import TokenPrior

GRID = (3, 2, 4)


def make_prior(**settings) -> TokenPrior:
    torch.manual_seed(0)
    shape = {"codebook_sizes": (5, 3), "width": 32, "depth": 2, "head_dim": 16, "learned_positions": (2, 4)}
    return TokenPrior(TokenPriorConfig(**{**shape, **settings})).double().eval()


def test_a_place_is_its_row_and_its_column():
    prior = make_prior()
    n, codes = 3 * 2 * 4 * 2, 2
    places = torch.arange(n)[None]
    vectors = prior.position_in(prior.place_of(places, GRID, prior.blank))[0]
    rows, columns = prior.position_in.weight[:, :2].T, prior.position_in.weight[:, 2:].T
    for place in range(n):
        row, column = divmod(place // codes % 8, 4)
        assert torch.allclose(vectors[place], rows[row] + columns[column] + prior.position_in.bias, atol=1e-12)


def test_from_a_cache_as_in_a_whole_pass():
    prior = make_prior(order="causal")
    tokens = torch.randint(0, 3, (2, 48), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = prior(tokens, GRID)
        cached = CachedPrior(prior, GRID[1:], 2)
        rows = [cached.start()[:, None]] + [cached.extend(tokens[:, i : i + 1]) for i in range(47)]
    assert torch.allclose(torch.cat(rows, dim=1).nan_to_num(neginf=0), whole.nan_to_num(neginf=0), atol=1e-10)


def test_frames_beyond_them_are_refused():
    with pytest.raises(ValueError, match=r"frames of \(2, 5\) cells, and positions are learned for \(2, 4\)"):
        make_prior()(torch.zeros(1, 40, dtype=torch.int64), (2, 2, 5))
    with pytest.raises(VidgenError, match="rows and columns"):
        TokenPriorConfig(codebook_sizes=(2,), learned_positions=(3,))
