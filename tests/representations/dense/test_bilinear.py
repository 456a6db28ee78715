"""The closed form is that of the products written out; reductions keep what there is."""

import numpy as np
import torch
from einops import rearrange

from vidgen.representations.dense.bilinear import BilinearRidge, apply_bilinear
from vidgen.representations.dense.pca import fit_reduction


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_it_is_ridge_regression_on_all_products():
    from sklearn.linear_model import Ridge

    x, e, y = draw(6, 10, 3), draw(6, 2, seed=1), draw(6, 10, seed=2)
    fitted = BilinearRidge(3, 2)
    for part in (slice(0, 4), slice(4, 6)):
        fitted.add(x[part], e[part], y[part])
    ours = apply_bilinear(fitted.solve(0.05), x, e)
    one_e = torch.cat([torch.ones(6, 1), e], 1)[:, None].expand(-1, 10, -1)
    one_x = torch.cat([torch.ones(6, 10, 1), x], 2)
    products = rearrange(one_e[..., :, None] * one_x[..., None, :], "n l k c -> (n l) (k c)")[:, 1:].double().numpy()
    peer = Ridge(alpha=0.05 * 60).fit(products, y.flatten().double().numpy())  # ours is held against a mean
    np.testing.assert_allclose(ours.flatten().numpy(), peer.predict(products), atol=1e-5)


def test_without_text_it_is_ridge_regression_on_cells():
    from sklearn.linear_model import Ridge

    x, y = draw(4, 9, 3), draw(4, 9, seed=2)
    fitted = BilinearRidge(3, 0)
    fitted.add(x, x.new_zeros(4, 0), y)
    flat = rearrange(x, "n l c -> (n l) c").double().numpy()
    peer = Ridge(alpha=0.1 * 36).fit(flat, y.flatten().double().numpy())
    ours = apply_bilinear(fitted.solve(0.1), x, x.new_zeros(4, 0))
    np.testing.assert_allclose(ours.flatten().numpy(), peer.predict(flat), atol=1e-5)


def test_a_product_that_no_sum_can_tell_is_found():
    x, e = draw(40, 5, 2), draw(40, 1, seed=1)
    fitted = BilinearRidge(2, 1)
    fitted.add(x, e, x[..., 0] * e)
    torch.testing.assert_close(apply_bilinear(fitted.solve(1e-9), x, e), x[..., 0] * e, atol=1e-4, rtol=0)


def test_a_reduction_keeps_distances_where_it_keeps_all_axes():
    for n in (200, 5):  # more cells than channels, and fewer
        x = 7 + draw(n, 8) @ draw(8, 8, seed=1)
        x = torch.cat([x, torch.full((n, 1), 3.0)], 1)  # and a channel that says nothing
        reduce = fit_reduction(x, 20)
        z = reduce(x)
        assert z.shape == (n, min(8, n - 1)) and z.mean(0).abs().max() < 1e-4
        torch.testing.assert_close(z.square().mean(), torch.tensor(1.0), atol=1e-4, rtol=0)
        std = x[:, :8].std(0, correction=0)
        expected = torch.cdist(x[:, :8] / std, x[:, :8] / std)
        distances = torch.cdist(z, z)
        torch.testing.assert_close(distances / distances.max(), expected / expected.max(), atol=1e-3, rtol=0)
    narrow = fit_reduction(draw(200, 8) * 10 ** torch.arange(8.0), 3)
    assert narrow.axes.shape == (8, 3)
