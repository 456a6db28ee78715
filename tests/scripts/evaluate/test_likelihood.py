"""`vidgen evaluate likelihood`: the bits of a prior whose law is known, and what is no prior in one line."""

import json
import math
from dataclasses import replace

import pytest
import torch

from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.pipelines.priors.pipeline import PriorPipeline
from vidgen.pipelines.priors.schedule import PriorSchedule
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS


@pytest.fixture
def make_prior(tmp_path):
    """Saves a prior that finds all tokens equally probable, but for `spread`, and returns its folder."""

    def save(order: str, sizes: tuple[int, ...] = (18,), spread: float = 0.0) -> str:
        torch.manual_seed(0)
        config = replace(PRESETS["tiny"], latent_channels=3, bottleneck="fsq", levels=(3, 3, 2))
        prior = TokenPrior(TokenPriorConfig(codebook_sizes=sizes, order=order, width=16, depth=1, head_dim=8))
        torch.nn.init.normal_(prior.head.weight, std=spread)
        torch.nn.init.zeros_(prior.head.bias)
        clips = PriorSchedule(num_frames=5, height=16, width=16)
        PriorPipeline(VideoTokenizer(config), prior, None, clips).save_pretrained(tmp_path / order)
        return str(tmp_path / order)

    return save


@pytest.mark.parametrize("order", ["causal", "random", "masked", "frames"])
def test_a_prior_without_a_preference_needs_the_codebooks_bits(vidgen, make_prior, order):
    words = ("evaluate", "likelihood", make_prior(order), "--n", 6, "--draws", 400, "--json")
    report = json.loads(vidgen(*words).out)
    exact = order in ("causal", "random")
    assert report["exact"] == exact and report["n"] == 6
    assert report["bits_per_token"] == pytest.approx(math.log2(18), rel=1e-5 if exact else 0.1)
    assert report["stored_bits_per_token"] == pytest.approx(math.log2(18))
    assert report["histogram_bits_per_token"] <= math.log2(18)
    assert report["bits_per_pixel"] == pytest.approx(report["bits_per_token"] * report["tokens"] / (5 * 16 * 16))
    if order == "causal":
        assert report["perplexity_by_frame"] == pytest.approx([18.0, 18.0], rel=1e-5)
        assert report["perplexity_by_position"] == pytest.approx([18.0] * (report["tokens"] // 2), rel=1e-5)
        assert "perplexity by latent frame: 18.00, 18.00" in vidgen(*words[:5]).out
    assert report["draws_error"] == pytest.approx(0.0, abs=1e-6)  # the same in every order, and under every mask


def test_the_draws_error_falls_with_their_root(vidgen, make_prior):
    words = ("evaluate", "likelihood", make_prior("masked", spread=1.0), "--n", 4, "--json", "--draws")
    few, many = (json.loads(vidgen(*words, draws).out)["draws_error"] for draws in (64, 1024))
    assert 0 < many == pytest.approx(few / 4, rel=0.3)


def test_digits_add_up(vidgen, make_prior):
    report = json.loads(vidgen("evaluate", "likelihood", make_prior("causal", (9, 2)), "--n", 2, "--json").out)
    assert 2 * report["bits_per_token"] == pytest.approx(math.log2(18), rel=1e-5)


def test_what_is_no_prior_is_one_line(vidgen, tmp_path):
    assert "and a prior is wanted" in vidgen("evaluate", "likelihood", "default").error
    assert vidgen("evaluate", "likelihood", tmp_path / "nothing").status == 2
