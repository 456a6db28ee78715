"""Reconstruction losses against values known beforehand: equal clips, constant offsets, one wave, a peer's number."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.train.config import TokenizerLossConfig
from vidgen.train.losses.perceptual import VGG16_SHAPES, PerceptualLoss
from vidgen.train.losses.reconstruction import (
    LOSSES,
    ReconstructionLoss,
    charbonnier,
    gradient_l1,
    haar_bands,
    lift,
    ms_ssim_loss,
    ssim_scales,
    wavelet_l1,
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("shape", [(2, 3, 5, 16, 20), (1, 3, 1, 11, 13), (1, 3, 4, 45, 44)])
@pytest.mark.parametrize("name", LOSSES)
def test_equal_clips_have_no_loss_and_others_a_slope(name, shape):
    x, y = noise(*shape), noise(*shape, seed=1)
    assert LOSSES[name](x, x.clone()).item() == pytest.approx(0.0, abs=1e-5)
    y.requires_grad_(True)
    loss = LOSSES[name](y, x)
    loss.backward()
    assert loss > 0.01 and torch.isfinite(y.grad).all() and y.grad.any()


def test_charbonnier_is_the_absolute_error_far_from_zero_and_the_squared_one_near_it():
    zero = torch.zeros(1, 3, 1, 2, 2)
    assert charbonnier(zero + 0.5, zero).item() == pytest.approx(0.5 - 1e-3, abs=2e-6)
    assert charbonnier((zero + 1e-5).double(), zero.double()).item() == pytest.approx(1e-10 / 2e-3, rel=1e-3)


def test_gradients_do_not_see_an_offset():
    x = noise(1, 3, 5, 8, 8)
    assert gradient_l1(x + 0.25, x).item() == pytest.approx(0.0, abs=1e-6)


# MS-SSIM


def test_as_many_scales_as_the_window_fits_into():
    assert [ssim_scales(side) for side in (10, 11, 21, 22, 44, 88, 175, 176, 512)] == [0, 1, 1, 2, 3, 4, 4, 5, 5]
    with pytest.raises(ValueError, match="at least 11x11, got \\(10, 64\\)"):
        ms_ssim_loss(noise(1, 3, 1, 10, 64), noise(1, 3, 1, 10, 64))


@pytest.mark.parametrize(
    ("side", "weight"), [(16, 1.0), (48, 0.3001 / (0.0448 + 0.2856 + 0.3001)), (176, 0.1333 / 1.0001)]
)
def test_constant_frames_have_the_luminance_term_of_the_last_scale(side, weight):
    a, b = 0.6, 0.3  # of [0, 1]; structure is the same (none), so (2ab + c) / (a^2 + b^2 + c) is left, c = 0.01^2
    x, y = (torch.full((1, 3, 2, side, side), 2 * v - 1) for v in (a, b))
    luminance = (2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4)
    assert ms_ssim_loss(x, y).item() == pytest.approx(1 - luminance**weight, abs=2e-4)


def test_five_scales_agree_with_torchmetrics():
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    x = noise(1, 3, 2, 176, 180)
    y = (x + 0.2 * noise(*x.shape, seed=1)).clamp(-1, 1)
    a, b = (v[0].movedim(1, 0) * 0.5 + 0.5 for v in (x, y))
    theirs = multiscale_structural_similarity_index_measure(a, b, data_range=1.0)
    assert ms_ssim_loss(x, y).item() == pytest.approx(1 - theirs.item(), abs=1e-4)


def test_small_similarities_go_on_smoothly_above_zero():
    x = torch.tensor([-1.0, 0.0, 0.05 - 1e-4, 0.05 + 1e-4, 0.7], requires_grad=True)
    lifted = lift(x)
    lifted.sum().backward()
    assert (lifted > 0).all() and (lifted.diff() > 0).all() and lifted[-1] == x[-1]
    assert x.grad[2].item() == pytest.approx(x.grad[3].item(), rel=0.01)


def test_opposed_structure_has_finite_gradients_and_autocast_changes_nothing():
    x = noise(1, 3, 1, 32, 32)
    y = (-x).clone().requires_grad_(True)
    plain = ms_ssim_loss(y, x)
    plain.backward()
    assert torch.isfinite(y.grad).all()
    with torch.autocast("cpu", torch.bfloat16):
        assert ms_ssim_loss(y, x).item() == plain.item()


# Wavelets


def test_an_offset_lands_in_the_mean_band_only():
    bands = haar_bands(torch.full((1, 3, 16, 16, 24), 0.25))
    assert len(bands) == 3 * 7 + 1
    assert {name for name, band in bands.items() if band.any()} == {"lll3"}
    assert torch.equal(bands["lll3"], torch.full((1, 3, 2, 2, 3), 0.25))
    x = noise(1, 3, 17, 16, 16)
    assert wavelet_l1(x + 0.25, x).item() == pytest.approx(0.25 / 22, rel=1e-4)


@pytest.mark.parametrize(("name", "axis"), [("hll1", 2), ("lhl1", 3), ("llh1", 4)])
def test_an_alternation_lands_in_the_band_of_its_axis(name, axis):
    shape = [1, 1, 8, 8, 8]
    x = torch.ones(shape)
    x.index_fill_(axis, torch.arange(1, 8, 2), -1.0)
    bands = haar_bands(x)
    assert torch.equal(bands[name], torch.ones_like(bands[name]))
    assert not any(band.any() for other, band in bands.items() if other != name)


def test_images_and_odd_sizes_have_bands():
    assert set(haar_bands(noise(1, 3, 1, 8, 8), levels=1)) == {"lll1", "lhl1", "llh1", "lhh1"}
    assert haar_bands(noise(1, 3, 5, 7, 9), levels=1)["lll1"].shape == (1, 3, 3, 4, 5)
    still = noise(1, 3, 1, 8, 8).expand(-1, -1, 5, -1, -1)  # the repeated first frame brings no change in time
    assert not any(band.any() for name, band in haar_bands(still).items() if name[0] == "h")


# LPIPS


def test_absent_lpips_weights_name_the_offline_alternative(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for weights in ("", str(tmp_path / "nowhere.pth")):
        with pytest.raises(VidgenError, match="loss.ms_ssim=.* loss.gradient=.* loss.wavelet=.*_offline") as caught:
            PerceptualLoss(weights)
        assert (weights or "vgg16-397923af.pth") in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
def test_lpips_takes_the_weights_of_a_file(tmp_path):
    generator, path = torch.Generator().manual_seed(0), tmp_path / "vgg.pth"
    state = {f"features.{k}": 0.05 * torch.randn(shape, generator=generator) for k, shape in VGG16_SHAPES.items()}
    state |= {key.replace("weight", "bias"): torch.zeros(len(value)) for key, value in state.items()}
    torch.save(state, path)
    loss = PerceptualLoss(str(path))
    trunk = dict(loss.net.net.named_parameters())
    assert len(trunk) == len(state) and torch.equal(trunk["slice5.28.weight"], state["features.28.weight"])
    x, y = noise(1, 3, 1, 32, 32), noise(1, 3, 1, 32, 32, seed=1)
    assert loss(x, x).item() == 0.0 and loss(x, y).item() > 0.0


@pytest.mark.parametrize("content", [{"features.0.weight": torch.zeros(64, 3, 3, 3)}, b"nonsense"])
def test_other_files_are_not_taken_for_weights(tmp_path, content):
    path = tmp_path / "vgg.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(VidgenError, match="vgg.pth (does not hold|cannot be read).*name another file"):
        PerceptualLoss(str(path))


# The sum


def test_the_sum_weighs_what_the_recipe_asks_for():
    x, y = noise(1, 3, 5, 16, 16), noise(1, 3, 5, 16, 16, seed=1)
    loss = ReconstructionLoss(TokenizerLossConfig(l1=0.5, l2=2.0, gradient=0.0, wavelet=3.0))
    total, parts = loss(y, x)
    assert set(parts) == {"l1", "l2", "gradient", "wavelet"}  # the first three are measured whatever they weigh
    weighed = 0.5 * parts["l1"] + 2.0 * parts["l2"] + 3.0 * parts["wavelet"]
    assert total.item() == pytest.approx(weighed.item())
