"""Pipelines of priors over latents: every order, known frames kept, guidance, saved and loaded, misfits refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.priors.config import ORDERS, TokenPriorConfig
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder
from vidgen.pipelines.evaluation.token_likelihood import score_likelihood
from vidgen.pipelines.priors.pipeline import PriorPipeline
from vidgen.pipelines.priors.schedule import PriorSchedule
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS

CLIP = PriorSchedule(num_frames=5, height=16, width=16, num_inference_steps=3, num_diffusion_steps=3)


def make_pipeline(order: str = "causal", channels: int = 4, **schedule) -> PriorPipeline:
    torch.manual_seed(0)
    encoder = ByteTextEncoder(ByteTextConfig(width=16, depth=1, head_dim=16)).eval()
    shape = {"width": 32, "depth": 1, "head_dim": 16, "text_width": 16, "head_width": 16, "head_depth": 1}
    prior = TokenPrior(TokenPriorConfig(channels=channels, order=order, **shape)).eval()
    for parameter in prior.head.parameters():  # a new head says nothing
        torch.nn.init.normal_(parameter, std=0.2)
    return PriorPipeline(VideoTokenizer(PRESETS["tiny"]).eval(), prior, encoder, CLIP)


@pytest.mark.parametrize("order", ORDERS)
def test_clips_do_not_depend_on_their_batch_and_go_on_from_known_frames(order):
    pipe = make_pipeline(order)
    video = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    both = pipe(["a red circle moves right", "a blue star"], video=video, seed=3, guidance_scale=2.0)
    assert [clip.shape for clip in both.frames] == [(5, 16, 16, 3)] * 2
    first = pipe("a red circle moves right", video=video, seed=3, guidance_scale=2.0)
    assert torch.allclose(first.latents, both.latents[:1], atol=1e-5)
    known = pipe.read_prefix(video, (5, 16, 16))
    frames = known.shape[1] // (both.latents.shape[3] * both.latents.shape[4])
    assert frames >= 1 and torch.equal(both.latents[0, :, :frames].flatten(1).mT, known[0])
    changes = {"seed": {"seed": 4}, "guidance": {"guidance_scale": 1.0}, "steps": {"num_diffusion_steps": 5}}
    for change in changes.values():
        other = pipe("a red circle moves right", video=video, **{"seed": 3, "guidance_scale": 2.0, **change})
        assert not torch.allclose(other.latents, first.latents)


def test_no_temperature_draws_one_clip():
    pipe = make_pipeline("frames")
    one, other = (pipe("a star", seed=seed, temperature=0.0, num_inference_steps=1).latents for seed in (0, 1))
    assert torch.equal(one, other) and one.isfinite().all()


def test_a_pipeline_is_saved_and_loaded(tmp_path):
    pipe = make_pipeline("masked")
    pipe.save_pretrained(tmp_path / "prior")
    loaded = PriorPipeline.from_pretrained(tmp_path / "prior")
    assert loaded.scheduler == CLIP and replace(loaded.prior.config, tokenizer_hash="") == pipe.prior.config
    assert torch.equal(loaded("a star").latents, pipe("a star").latents)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 0.9}, "top_p is for codes"),
        ({"num_diffusion_steps": 0}, "num_diffusion_steps"),
        ({"video": np.zeros((9, 16, 16, 3), np.uint8)}, "does not begin a clip"),
    ],
)
def test_what_cannot_be_is_one_line(settings, message):
    with pytest.raises(VidgenError, match=message):
        make_pipeline()("a star", **settings)


def test_misfits_and_likelihoods_are_refused():
    with pytest.raises(VidgenError, match="latents of 3 channels is not for the tokenizer .*, which has 4"):
        make_pipeline(channels=3)
    clip = np.zeros((5, 16, 16, 3), np.uint8)
    with pytest.raises(VidgenError, match="continuous tokens has no exact likelihood"):
        score_likelihood(make_pipeline(), [(clip, "a star")])
