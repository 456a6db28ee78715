"""`vidgen extract`: what ends it says what was saved, and fewer tokens make other features."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vidgen.errors import Interrupted
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig
from vidgen.pipelines.loading import load_tokenizer
from vidgen.representations.bank import BankRow, BankWriter, FeatureBank
from vidgen.representations.latent_encoder import LatentEncoderConfig, save_latent_encoder
from vidgen.scripts.extract import names_rows
from vidgen.tokenizers.files.token_files import tokenizer_hash


def test_an_interruption_names_the_clips_that_a_bank_holds(tmp_path: Path) -> None:
    def interrupt(folder: Path) -> str:
        with pytest.raises(Interrupted) as caught, names_rows(folder):
            raise Interrupted(15, "ended by SIGTERM")
        return str(caught.value)

    assert interrupt(tmp_path / "none") == "ended by SIGTERM"
    about = {"pool": "mean", "keys": ["raw_pixels"], "source": "clips", "preprocessing": {}, "seed": 0}
    with BankWriter(tmp_path / "bank", about) as writer:
        writer.add([BankRow(id=name) for name in "ab"], {"raw_pixels": torch.zeros(2, 3)})
    assert (
        interrupt(tmp_path / "bank") == f"interrupted; {tmp_path / 'bank'} holds 2 clips, and the same command goes on"
    )


def test_fewer_tokens_are_another_bank(vidgen, tmp_path: Path, model: Path) -> None:
    torch.manual_seed(0)
    clips = tmp_path / "clips"
    vidgen("data", "synthesize", "-o", clips, "--count", 3, "--num-frames", 4, "--size", 16)
    shape = VideoViTConfig(patch=(1, 4, 4), width=32, depth=2, head_dim=16, clip=(4, 16, 16))
    VideoViT(shape).save_pretrained(tmp_path / "vit")
    words = (tmp_path / "vit", clips, "--layers", "encoder.blocks.1", "--num-frames", 4, "--size", 16)
    for name, options in {"plain": (), "all": ("--reduce", "tokens:1"), "half": ("--reduce", "tokens:0.5")}.items():
        ran = vidgen("extract", *words, "-o", tmp_path / name, *options)
        assert ran.status == 0, ran
    plain, everything, half = (FeatureBank.load(tmp_path / x).X("encoder.blocks.1") for x in ("plain", "all", "half"))
    assert np.allclose(plain, everything, atol=1e-4) and not np.allclose(plain, half, atol=1e-2)
    again = vidgen("extract", *words, "-o", tmp_path / "half", "--reduce", "tokens:0.25")
    assert again.status == 2 and "half" in again.error  # a bank of other features
    assert "--reduce 'merge:2'" in vidgen("extract", *words, "-o", tmp_path / "x", "--reduce", "merge:2").error
    assert (
        "reduces an encoder of" in vidgen("extract", model, clips, "-o", tmp_path / "x", "--reduce", "merge:0.1").error
    )


def test_an_encoder_over_latents_reads_clips_of_any_length_and_a_reducer_goes_around_it(
    vidgen, tmp_path: Path, model: Path
) -> None:
    torch.manual_seed(0)
    clips = tmp_path / "clips"
    vidgen("data", "synthesize", "-o", clips, "--count", 3, "--num-frames", 4, "--size", 16)
    tokenizer = load_tokenizer(str(model), dtype=torch.float32)
    shape = VideoViTConfig(patch=(1, 1, 1), in_channels=4, width=32, depth=2, head_dim=16, clip=(2, 2, 2))
    place = {"tokenizer": str(model), "tokenizer_hash": tokenizer_hash(tokenizer)}
    config = LatentEncoderConfig(reads="latents", clip=(5, 16, 16), fps=8.0, **place)
    save_latent_encoder(VideoViT(shape), tmp_path / "over", config)
    words = (tmp_path / "over", clips, "--layers", "encoder.blocks.1", "--num-frames", 4)
    for name, options in {"plain": (), "all": ("--reduce", "tokens:1"), "half": ("--reduce", "tokens:0.5")}.items():
        ran = vidgen("extract", *words, "-o", tmp_path / name, *options)
        assert ran.status == 0, ran
    plain, everything, half = (FeatureBank.load(tmp_path / x).X("encoder.blocks.1") for x in ("plain", "all", "half"))
    assert np.allclose(plain, everything, atol=1e-4) and not np.allclose(plain, half, atol=1e-2)
    ran = vidgen("bench", "encoder", "--quick", "--no-memory", "--rounds", 1, "--dtype", "float32", "--model",
                 tmp_path / "over", "--only", "memory")  # fmt: skip
    assert ran.status == 0 and "2 x 8x2x2" in ran.out, ran  # four times as many latent frames
