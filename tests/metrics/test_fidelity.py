"""PSNR, SSIM, MS-SSIM and LPIPS against closed forms and against torchmetrics' own."""

import pytest
import torch

from vidgen.metrics import PSNR_CEILING, find_lpips, ms_ssim, psnr, ssim
from vidgen.metrics.perceptual import NETWORKS


def test_constant_error():
    x = torch.zeros(2, 3, 4, 8, 8)
    y = x.clone()
    y[0] += 0.02
    assert psnr(x, y).tolist() == [pytest.approx(40.0, abs=1e-4), PSNR_CEILING]


def test_psnr_is_the_one_of_torchmetrics():
    from torchmetrics.functional.image import peak_signal_noise_ratio

    torch.manual_seed(0)
    x, y = torch.rand(2, 3, 4, 8, 8) * 2 - 1, torch.rand(2, 3, 4, 8, 8) * 2 - 1
    peer = peak_signal_noise_ratio(x, y, data_range=2.0, dim=(1, 2, 3, 4), reduction="none")
    torch.testing.assert_close(psnr(x, y).float(), peer)


def luminance(a: float, b: float) -> float:
    """SSIM of two constant frames in [0, 1]: variances vanish, and the luminance term is left."""
    return (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (0.5, 0.6), (0.1, 0.9)])
def test_ssim_of_constant_frames(a: float, b: float):
    x, y = torch.full((1, 3, 2, 16, 20), 2 * a - 1), torch.full((1, 3, 2, 16, 20), 2 * b - 1)
    assert ssim(x, y).tolist() == [[pytest.approx(luminance(a, b), abs=1e-4)] * 2]


def test_ms_ssim_of_constant_frames_has_luminance_in_the_last_scale_only():
    x, y = torch.full((1, 3, 1, 176, 176), 0.0), torch.full((1, 3, 1, 176, 176), 0.2)
    assert ms_ssim(x, y).item() == pytest.approx(luminance(0.5, 0.6) ** 0.1333, abs=1e-4)


def test_equal_frames_and_single_spoiled_ones():
    torch.manual_seed(0)
    x = torch.rand(2, 3, 3, 24, 24) * 2 - 1
    y = x.clone()
    y[1, :, 2] = y[1, :, 2].flip(-1)
    values = ssim(x, y)
    assert values.shape == (2, 3) and values[1, 2] < 0.3
    assert values.flatten()[:5].tolist() == [pytest.approx(1.0, abs=1e-5)] * 5


def test_frames_too_small():
    with pytest.raises(ValueError, match="SSIM needs frames of at least 11x11, got 10x40"):
        ssim(torch.zeros(1, 3, 1, 10, 40), torch.zeros(1, 3, 1, 10, 40))
    with pytest.raises(ValueError, match="MS-SSIM needs frames of at least 176x176, got 200x175"):
        ms_ssim(torch.zeros(1, 3, 1, 200, 175), torch.zeros(1, 3, 1, 200, 175))


def test_lpips_needs_weights_and_takes_those_that_are_there(tmp_path, monkeypatch):
    from lpips.pretrained_networks import tv

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    metric, reason = find_lpips()
    assert metric is None and NETWORKS["vgg"] in reason
    torch.manual_seed(0)
    (tmp_path / "checkpoints").mkdir()
    torch.save(tv.squeezenet1_1().state_dict(), tmp_path / "checkpoints" / NETWORKS["squeeze"])
    metric, name = find_lpips()
    assert name == metric.name == "squeeze"
    x = torch.rand(1, 3, 2, 64, 64) * 2 - 1
    y = x.clone()
    y[:, :, 1] *= -1
    same, other = metric(x, y)[0].tolist()
    assert same == 0 and other > 0
    with pytest.raises(ValueError, match="LPIPS needs frames of at least 64x64"):
        metric(x[..., :32], y[..., :32])
