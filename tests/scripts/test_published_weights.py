"""A published autoencoder at the command line: a small random Wan in diffusers' layout, like any other model."""

import json
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module")
def wan(tmp_path_factory) -> Path:
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("wan") / "vae"
    stats = {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}
    AutoencoderKLWan(base_dim=4, z_dim=4, num_res_blocks=1, **stats).save_pretrained(folder)
    return folder


def test_encode_decode_and_reconstruct(vidgen, wan, clip, tmp_path) -> None:
    model = ("--model", wan, "--dtype", "float32")
    tokens, back = tmp_path / "clip.safetensors", tmp_path / "back.mp4"
    assert vidgen("tokenizer", "encode", clip, "-o", tokens, *model).status == 0
    assert vidgen("tokenizer", "decode", tokens, "-o", back, *model).status == 0 and back.is_file()
    report = json.loads(vidgen("tokenizer", "reconstruct", clip, "--json", *model).out)
    assert report["clips"][0]["frames"] == 9


def test_extract(vidgen, wan, clip, tmp_path) -> None:
    bank = tmp_path / "bank"
    layers = "tokenizer.encoder.layers.1,tokenizer.latents"
    ran = vidgen("extract", wan, clip, "-o", bank, "--layers", layers, "--dtype", "float32", "--num-frames", 9)
    assert ran.status == 0, ran
    from vidgen.representations.bank import FeatureBank

    found = FeatureBank.load(bank)
    assert found.X("tokenizer.encoder.layers.1").shape == (1, 8) and found.X("tokenizer.latents").shape == (1, 4)
