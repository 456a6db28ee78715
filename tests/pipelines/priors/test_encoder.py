"""A prior as an encoder: features are its own stream, do not see the future, and go to a bank."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vidgen.data.writing import write_video
from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.pipelines.priors.encoder import PriorEncoder
from vidgen.pipelines.priors.pipeline import PriorPipeline
from vidgen.pipelines.priors.schedule import PriorSchedule
from vidgen.representations.bank import FeatureBank
from vidgen.representations.extractor import FeatureExtractor
from vidgen.scripts.main import dispatch
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS


def make_encoder(order: str = "causal", sizes=(18,)) -> PriorEncoder:
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(replace(PRESETS["tiny"], latent_channels=3, bottleneck="fsq", levels=(3, 3, 2)))
    shape = TokenPriorConfig(codebook_sizes=sizes, order=order, width=32, depth=2, head_dim=16)
    schedule = PriorSchedule(num_frames=5, height=16, width=16)
    return PriorEncoder(PriorPipeline(tokenizer.eval(), TokenPrior(shape).eval(), None, schedule)).eval()


@pytest.mark.parametrize(("order", "sizes"), [("causal", (18,)), ("masked", (9, 2)), ("frames", (18,))])
def test_features_are_the_priors_stream(order, sizes):
    encoder, video = make_encoder(order, sizes), torch.rand(2, 3, 5, 16, 16) * 2 - 1
    with torch.no_grad():
        features = dict(encoder.iter_features(video))
        tokens = encoder.pipe.tokens_of(encoder.vae.encode(video).indices)
        logits = encoder.prior(tokens, (2, 2, 2))
        *_, last = encoder.prior.iter_hidden(tokens, (2, 2, 2))
    assert [info.name for info in encoder.feature_info] == list(features) == ["blocks.0", "blocks.1"]
    assert features["blocks.1"].shape == (2, 32, 2, 2, 2)
    cells = last.reshape(2, 8, len(sizes), 32).mean(2)
    assert torch.allclose(features["blocks.1"].flatten(2).mT, cells, atol=1e-6)
    assert torch.equal(encoder.prior.predict(last, torch.arange(8 * len(sizes))), logits)


def test_a_causal_prior_does_not_see_later_frames():
    encoder, video = make_encoder(), torch.rand(1, 3, 5, 16, 16) * 2 - 1
    later = video.clone()
    later[:, :, 1:] = -later[:, :, 1:]
    with torch.no_grad():
        one, two = (dict(encoder.iter_features(v))["blocks.1"] for v in (video, later))
    assert torch.equal(one[:, :, 0], two[:, :, 0]) and not torch.equal(one[:, :, 1], two[:, :, 1])


def test_it_goes_through_the_extractor_and_to_a_bank(tmp_path: Path, capsys):
    encoder = make_encoder()
    extractor = FeatureExtractor(encoder)
    assert extractor.keys == ["encoder.blocks.1"]
    encoder.pipe.save_pretrained(tmp_path / "prior")
    (tmp_path / "clips").mkdir()
    for i in range(2):
        frames = np.random.default_rng(i).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
        write_video(frames, tmp_path / "clips" / f"{i}.mkv", fps=8)
    words = [
        "extract",
        str(tmp_path / "prior"),
        str(tmp_path / "clips"),
        "-o",
        str(tmp_path / "bank"),
        "--layers",
        "all",
    ]
    assert dispatch(words) == 0, capsys.readouterr().err
    bank = FeatureBank.load(tmp_path / "bank")
    assert len(bank) == 2 and set(bank.keys) == {"encoder.blocks.0", "encoder.blocks.1"}
