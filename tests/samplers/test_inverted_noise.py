"""Inversion to a level arrives where the flow of Gaussian data is known to be, by one way through all levels."""

from types import SimpleNamespace

import pytest
import torch

from vidgen.diffusion.paths import PATHS, FlowPath
from vidgen.representations.extractor import FeatureExtractor
from vidgen.samplers.evaluation.closed_forms import GaussianData
from vidgen.samplers.inverted_noise import InvertedNoise
from vidgen.samplers.solvers import SAMPLERS

DATA = GaussianData()
LEVELS = [0.6, 0.0, 0.25, 0.0005]


def pipe_of(path):
    return SimpleNamespace(path=path, unguided=lambda prompts: DATA.denoiser(path))


def clips():
    noise = torch.randn(2, 2, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return DATA.mean + DATA.std * noise


@pytest.mark.parametrize("kind", PATHS)
def test_every_level_is_where_the_flow_leads(kind):
    path, x0 = PATHS[kind](), clips()
    found = dict(zip(LEVELS, InvertedNoise(pipe=pipe_of(path), steps=40, sampler="rk4")(x0, LEVELS, "ab"), strict=True))
    assert torch.equal(found[0.0], x0)
    for level, x in found.items():
        mean, std = DATA.marginal(torch.tensor(level, dtype=torch.float64), path)
        torch.testing.assert_close((x - mean) / std, (x0 - DATA.mean) / DATA.std, rtol=0, atol=5e-3)


def test_sampling_from_a_level_gives_the_clip_back():
    path, x0 = FlowPath(), clips()
    (x,) = InvertedNoise(pipe=pipe_of(path), steps=80, sampler="rk4")(x0, [0.5], "ab")
    times = torch.linspace(0.5, 0.0, 41, dtype=torch.float64)
    torch.testing.assert_close(SAMPLERS["rk4"](DATA.denoiser(path), x, times, path), x0, rtol=0, atol=5e-3)


def test_solvers_that_draw_are_refused():
    with pytest.raises(ValueError, match="euler_ancestral"):
        InvertedNoise(pipe=pipe_of(FlowPath()), sampler="euler_ancestral")(clips(), [0.5], "ab")


def test_features_along_an_inversion_are_of_the_clip_alone(pipe):
    video = torch.rand(2, 3, 5, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    noise = InvertedNoise(pipe=pipe, steps=3)
    fx = FeatureExtractor(pipe, ["dit.blocks.1"], [0.0, 0.4], noise=noise, ensemble=3, seed=1)
    together, other = fx(video, ["a", "b"]).features, fx(video[1:], ["c"]).features
    random = FeatureExtractor(pipe, ["dit.blocks.1"], [0.0, 0.4])(video, ["a", "b"]).features
    for key, x in other.items():
        torch.testing.assert_close(x[0], together[key][1], rtol=1e-4, atol=1e-5)
    assert torch.equal(together["dit.blocks.1@t=0.00"], random["dit.blocks.1@t=0.00"])
    assert not torch.allclose(together["dit.blocks.1@t=0.40"], random["dit.blocks.1@t=0.40"], atol=1e-3)
    assert noise.name == "inverted, heun 3"
