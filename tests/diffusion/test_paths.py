"""Paths run from data to noise; what a network predicts can be converted there and back on each of them."""

import dataclasses

import pytest
import torch

from vidgen.diffusion.denoiser import make_denoiser
from vidgen.diffusion.paths import PATHS, EDMPath, TablePath, add_noise, expand_level, network_input
from vidgen.diffusion.prediction_types import (
    FORMER_PREDICTION_TYPES,
    PREDICTION_TYPES,
    convert_prediction,
    find_prediction_type,
)
from vidgen.errors import VidgenError

T = torch.tensor([0.05, 0.3, 0.8, 0.97], dtype=torch.float64)


def draw(seed=0, dtype=torch.float64):
    return torch.randn(4, 3, 2, 2, 2, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", PATHS)
def test_ends_are_data_and_noise_in_every_precision(name):
    path = PATHS[name]()
    for dtype in (torch.float32, torch.float64):
        ends = torch.tensor([0.0, 1.0], dtype=dtype)
        assert path.alpha(ends)[0] == 1.0 and path.sigma(ends)[0] == 0.0
        if name == "edm":
            assert torch.allclose(path.sigma(ends)[1], torch.tensor(80.0, dtype=dtype))
        else:
            assert path.alpha(ends)[1] == 0.0 and path.sigma(ends)[1] == 1.0  # zero terminal SNR, exactly


@pytest.mark.parametrize("name", PATHS)
def test_level_inverts_the_ratio_and_ignores_scale(name):
    path, t = PATHS[name](), torch.linspace(0.0, 1.0, 41, dtype=torch.float64)
    assert torch.allclose(path.level(3.0 * path.alpha(t), 3.0 * path.sigma(t)), t, atol=1e-12)
    assert (path.sigma(t) / path.alpha(t)).diff().min() > 0


def test_edm_steps_are_the_papers_but_for_sigma_min():
    n, path = 18, EDMPath()
    i = torch.arange(n, dtype=torch.float64)
    root = 80.0 ** (1 / 7) + i / (n - 1) * (0.002 ** (1 / 7) - 80.0 ** (1 / 7))
    ours = path.sigma(1.0 - i / (n - 1))
    assert (ours - root**7).abs().max() < 0.0021 and path.input_scale(torch.tensor(1.0)) == pytest.approx(1 / 6401**0.5)


@pytest.mark.parametrize("zero_snr", [True, False])
def test_a_table_is_met_at_its_entries_and_inverted_between_them(zero_snr):
    from diffusers import DDIMScheduler

    kept = DDIMScheduler(beta_schedule="scaled_linear", rescale_betas_zero_snr=zero_snr).alphas_cumprod.double()
    path = TablePath(alphas=tuple(kept.sqrt().tolist()))
    k = torch.arange(1, 1001, dtype=torch.float64) / 1000
    assert torch.allclose(path.alpha(k), kept.sqrt(), atol=1e-12)
    assert torch.allclose(path.sigma(k), (1 - kept).sqrt(), atol=1e-12)
    ends = torch.tensor([0.0, 1.0])
    assert path.alpha(ends)[0] == 1.0 and path.sigma(ends)[0] == 0.0 and (path.alpha(ends)[1] == 0.0) == zero_snr
    t = torch.linspace(0.0, 1.0, 777, dtype=torch.float64)
    assert torch.allclose(path.alpha(t) ** 2 + path.sigma(t) ** 2, torch.ones_like(t))
    assert torch.allclose(path.level(3.0 * path.alpha(t), 3.0 * path.sigma(t)), t, atol=1e-10)
    assert (path.sigma(t).diff() > 0).all() and path.alpha(t.float()).dtype == torch.float32


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("source", PREDICTION_TYPES)
@pytest.mark.parametrize("target", PREDICTION_TYPES)
def test_predictions_convert_on_every_path(name, source, target):
    x0, eps, path = draw(), draw(1), PATHS[name]()
    level = expand_level(T, x0)
    alpha, sigma = path.alpha(level), path.sigma(level)
    x = add_noise(x0, eps, T, path)
    said, wanted = (PREDICTION_TYPES[kind].target(x0, eps, alpha, sigma) for kind in (source, target))
    assert torch.allclose(convert_prediction(said, source, target, x, alpha, sigma), wanted, atol=1e-9)


@pytest.mark.parametrize("name", ["flow", "cosine"])
@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_pure_noise_is_inverted_by_all_but_eps(name, kind):
    x0, eps, path, one = draw(), draw(1), PATHS[name](), torch.ones(4, dtype=torch.float64)
    level, prediction_type = expand_level(one, x0), PREDICTION_TYPES[kind]
    said = prediction_type.target(x0, eps, path.alpha(level), path.sigma(level))
    denoise = make_denoiser(lambda x, t: said, path, kind)
    if kind == "epsilon":
        with pytest.raises(VidgenError, match="zero terminal SNR.*predict sample, v_prediction or flow_prediction"):
            denoise(add_noise(x0, eps, one, path), one)
    else:
        assert torch.allclose(denoise(add_noise(x0, eps, one, path), one), x0)


def test_clean_data_say_nothing_of_eps():
    x0 = draw()
    with pytest.raises(VidgenError, match="no epsilon follows from a prediction of sample"):
        convert_prediction(x0, "sample", "epsilon", x0, torch.ones(1), torch.zeros(1))


def test_networks_see_inputs_of_unit_variance_on_the_edm_path():
    x0, eps, path = torch.randn(4, 1, 1, 64, 64), torch.randn(4, 1, 1, 64, 64), EDMPath()
    assert torch.allclose(network_input(x0, eps, T.float(), path).std((1, 2, 3, 4)), torch.ones(4), atol=0.05)
    seen = []
    make_denoiser(lambda x, t: seen.append(x) or x, path, "v_prediction")(
        add_noise(x0, eps, T.float(), path), T.float()
    )
    assert torch.allclose(seen[0], network_input(x0, eps, T.float(), path))


def test_v_on_the_edm_path_is_minus_the_papers_network():
    x0, eps, path = draw(), draw(1), EDMPath()
    sigma = path.sigma(expand_level(T, x0))
    skip, out = 1.0 / (sigma**2 + 1.0), sigma / (sigma**2 + 1.0).sqrt()  # table 1 for data of unit variance
    paper = (x0 - skip * (x0 + sigma * eps)) / out
    v = PREDICTION_TYPES["v_prediction"].target(x0, eps, torch.ones_like(sigma), sigma)
    assert torch.allclose(v, -paper, atol=1e-9)


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_gain_is_the_derivative_of_x0(kind):
    x, alpha, sigma = draw(), torch.tensor(0.6, dtype=torch.float64), torch.tensor(0.9, dtype=torch.float64)
    prediction_type = PREDICTION_TYPES[kind]
    moved = prediction_type.to_x0(x + 1.0, x, alpha, sigma) - prediction_type.to_x0(x, x, alpha, sigma)
    assert torch.allclose(moved.abs(), prediction_type.gain(sigma / alpha).expand_as(x))


def test_impossible_paths_are_refused():
    with pytest.raises(VidgenError, match="sigma_min must be below sigma_max"):
        dataclasses.replace(EDMPath(), sigma_min=100.0)
    for alphas in ((), (0.5, 0.5), (1.0, 0.5), (0.5, -0.1)):
        with pytest.raises(VidgenError, match=r"alphas( is no path|=\(\) is not|.1=-0.1 is not)"):
            TablePath(alphas=alphas)


@pytest.mark.parametrize("t", [torch.tensor(0.5), torch.full((2,), 0.5), torch.full((2, 3), 0.5)])
def test_a_network_gets_levels_in_the_precision_of_its_input(t):
    seen = []
    denoise = make_denoiser(lambda x, t: seen.append(t) or x, PATHS["flow"](), "sample")
    denoise(torch.zeros(2, 1, 3, 1, 1), t.double())
    assert seen[0].dtype == torch.float32 and seen[0].shape == (t.shape if t.ndim else (2,))


@pytest.mark.parametrize(("former", "now"), FORMER_PREDICTION_TYPES.items())
def test_former_prediction_types_work_and_warn(former, now):
    with pytest.warns(FutureWarning, match=f"prediction type '{former}' is now called '{now}'"):
        assert find_prediction_type(former) is PREDICTION_TYPES[now]
    with pytest.raises(VidgenError, match="'noise': choose one of sample, epsilon, v_prediction, flow_prediction"):
        find_prediction_type("noise")
