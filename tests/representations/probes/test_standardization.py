"""One standardization: that of scikit-learn's StandardScaler, the same for arrays and tensors, there and back again."""

import numpy as np
import pytest
import torch

from vidgen.representations.probes.standardization import Standardizer

X = np.random.default_rng(0).normal(size=(50, 4)) * [1.0, 10.0, 0.1, 0.0] + [0.0, 3.0, -1.0, 7.0]


def test_it_is_scikit_learns():
    from sklearn.preprocessing import StandardScaler

    theirs = StandardScaler().fit(X)
    for ours in (Standardizer.fit(X), Standardizer.fit(torch.from_numpy(X))):
        np.testing.assert_allclose(ours.mean, theirs.mean_)
        np.testing.assert_allclose(ours.std, theirs.scale_)
        x = X if isinstance(ours.mean, np.ndarray) else torch.from_numpy(X)
        np.testing.assert_allclose(ours.transform(x), theirs.transform(X), atol=1e-12)
        np.testing.assert_allclose(ours.inverse_transform(ours.transform(x)), X)


def test_axes_corrections_and_constant_channels():
    x = torch.from_numpy(X).reshape(5, 10, 4)
    whole = Standardizer.fit(x, (0, 1), correction=1)
    np.testing.assert_allclose(whole.std[:3], X.std(0, ddof=1)[:3])
    each = Standardizer.fit(x, 1, keepdims=True).transform(x)
    assert each.shape == x.shape and each.mean(1).abs().max() < 1e-12
    dropped = Standardizer.fit(x, (0, 1), constant=float("inf"))
    assert not dropped.transform(x + 1.0)[..., 3].any()
    assert Standardizer.fit(X.astype(np.float32)).transform(X.astype(np.float32)).dtype == np.float32


def test_blocks_are_the_whole_and_none_is_refused():
    blocks = Standardizer.fit_blocks(lambda: [X[:20], X[20:]])
    np.testing.assert_allclose(blocks.mean, X.mean(0), rtol=1e-6)
    np.testing.assert_allclose(blocks.std, [*X.std(0)[:3], 1.0], rtol=1e-6)
    with pytest.raises(ValueError, match="needs at least one row"):
        Standardizer.fit_blocks(lambda: [])
