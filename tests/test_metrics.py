"""PSNR against its closed form."""

import pytest
import torch

from vidgen.metrics import PSNR_CEILING, psnr


def test_constant_error():
    x = torch.zeros(2, 3, 4, 8, 8)
    y = x.clone()
    y[0] += 0.02
    assert psnr(x, y).tolist() == [pytest.approx(40.0, abs=1e-4), PSNR_CEILING]
