"""Maps of sentence vectors: what they promise of covariances and directions holds, where they are fitted."""

import pytest
import torch
from safetensors.torch import save_file

from vidgen.errors import VidgenError
from vidgen.models.text.postprocessing import (
    POSTPROCESSING,
    AffineMap,
    fit_all_but_the_top,
    fit_common_component_removal,
    fit_standardization,
    fit_whitening,
    token_weights,
)


@pytest.fixture(scope="module")
def vectors():
    """Vectors of unequal variances, mixed, around a mean far from 0."""
    torch.manual_seed(0)
    mix = torch.randn(12, 12, dtype=torch.float64)
    return (torch.randn(400, 12, dtype=torch.float64) * torch.logspace(0, -3, 12, dtype=torch.float64)) @ mix + 5.0


@pytest.mark.parametrize("dim", [None, 5])
def test_whitened_vectors_have_the_identity_for_covariance(vectors, dim):
    white = fit_whitening(vectors, dim)(vectors)
    assert white.shape == (400, dim or 12)
    assert (white.T.cov() - torch.eye(dim or 12, dtype=torch.float64)).abs().max() < 1e-8
    assert white.mean(0).abs().max() < 1e-8


def test_fewer_whitened_dimensions_are_the_first_ones(vectors):
    torch.testing.assert_close(fit_whitening(vectors, 5)(vectors), fit_whitening(vectors)(vectors)[:, :5])


def test_the_top_components_are_gone_and_the_rest_is_as_it_was(vectors):
    centered = vectors - vectors.mean(0)
    top = torch.linalg.eigh(centered.T.cov()).eigenvectors[:, -3:]
    left = fit_all_but_the_top(vectors, 3)(vectors)
    assert (left @ top).abs().max() < 1e-8
    rest = torch.linalg.eigh(centered.T.cov()).eigenvectors[:, :-3]
    torch.testing.assert_close(left @ rest, centered @ rest)
    again = fit_common_component_removal(vectors)
    (direction,) = torch.linalg.eigh(vectors.T @ vectors).eigenvectors.T[-1:]
    torch.testing.assert_close(again(vectors), vectors - (vectors @ direction)[:, None] * direction)


def test_standardised_dimensions_have_variance_one(vectors):
    constant = torch.cat([vectors, torch.full((400, 1), 3.0, dtype=torch.float64)], dim=1)
    x = fit_standardization(constant)(constant)
    torch.testing.assert_close(x[:, :-1].std(0), torch.ones(12, dtype=torch.float64))
    assert x.mean(0).abs().max() < 1e-8 and not x[:, -1].any()


@pytest.mark.parametrize("name", POSTPROCESSING)
def test_maps_are_saved_and_put_one_after_the_other(name, vectors, tmp_path):
    first = fit_all_but_the_top(vectors, 2)
    middle = first(vectors)
    second = fit_whitening(middle, 6) if name == "whiten" else POSTPROCESSING[name](middle)
    both = first.then(second)
    torch.testing.assert_close(both(vectors), second(middle), atol=1e-8, rtol=1e-8)
    both.save(tmp_path / "map.safetensors")
    again = AffineMap.load(tmp_path / "map.safetensors")
    assert torch.equal(again(vectors), both(vectors))
    assert again(vectors.float()).dtype == torch.float32


def test_vectors_that_vary_in_too_few_directions_are_refused(vectors):
    with pytest.raises(VidgenError, match="8 vectors of 12 dimensions vary in 7, and whitening of 12 .* dim=7 or less"):
        fit_whitening(vectors[:8])
    assert (fit_whitening(vectors[:8], 7)(vectors[:8]).T.cov() - torch.eye(7)).abs().max() < 1e-8
    with pytest.raises(VidgenError, match="two vectors at least, and there are 1"):
        fit_standardization(vectors[:1])
    with pytest.raises(VidgenError, match="not finite"):
        fit_standardization(vectors.clone().fill_(float("nan")))
    with pytest.raises(VidgenError, match="13 components of vectors that have 12"):
        fit_all_but_the_top(vectors, 13)
    with pytest.raises(VidgenError, match="vectors of 3 dimensions, and the map was fitted to 12"):
        fit_whitening(vectors)(vectors[:, :3])


def test_files_that_hold_no_map(tmp_path):
    save_file({"mean": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(VidgenError, match="holds no map of vectors"):
        AffineMap.load(tmp_path / "other.safetensors")
    with pytest.raises(VidgenError, match="none.safetensors is missing"):
        AffineMap.load(tmp_path / "none.safetensors")


def test_frequent_tokens_weigh_little():
    weights = token_weights(torch.tensor([999.0, 1.0, 0.0]))
    torch.testing.assert_close(weights, torch.tensor([0.001 / 1.0, 0.5, 1.0]), atol=1e-6, rtol=0)
    with pytest.raises(VidgenError, match="not all 0"):
        token_weights(torch.zeros(3))
