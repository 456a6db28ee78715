"""Wan's transformers for images against diffusers' pipeline: 2.1 with what CLIP sees, 2.2 with two transformers."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import vidgen
from vidgen.errors import VidgenError
from vidgen.pipelines.wan.adapter import TwoWanDenoisers

FAST = dict(height=32, width=32, num_frames=9, num_inference_steps=4, guidance_scale=3.0)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "last"), [("wan-image", False), ("wan-image-two", False), ("wan-image-two", True)])
def test_latents_are_those_of_diffusers(published, kind, last):
    folder, theirs = published(kind)
    pipe = vidgen.load_pipeline(str(folder))
    z = torch.randn(2, *pipe.latent_shape(9, 32, 32), generator=torch.Generator().manual_seed(1))
    prompts = ["a red circle", "a blue square"]
    # its own cleaning of prompts needs a package that is not among ours
    text = {"prompt_embeds": pipe.text_encoder(prompts).tokens}
    text["negative_prompt_embeds"] = pipe.text_encoder(["", ""]).tokens
    images = {"image": picture(0)} | ({"last_image": picture(1)} if last else {})
    pictures = {name: Image.fromarray(value) for name, value in images.items()}
    wanted = theirs(**pictures, latents=z, output_type="latent", **text, **FAST).frames
    found = pipe(prompts, **images, latents=z, output_type="latent", **FAST).latents
    assert (found - wanted).abs().max() < 1e-4
    other = pipe(prompts, image=picture(2), latents=z, output_type="latent", **FAST).latents
    assert (other - found).abs().max() > 1e-2
    assert pipe(prompts[0], **images, **FAST).frames[0].shape == (9, 32, 32, 3)


def test_an_image_is_wanted_and_a_last_one_only_where_it_is_known(published):
    pipe = vidgen.load_pipeline(str(published("wan-image")[0]))
    with pytest.raises(VidgenError, match="makes clips from an image: give it one"):
        pipe("a red circle", **FAST)
    with pytest.raises(VidgenError, match="made for a first image only; leave last_image out"):
        pipe("a red circle", image=picture(0), last_image=picture(1), **FAST)
    with pytest.raises(VidgenError, match="the image is of shape"):
        pipe("a red circle", image=picture(0)[:16], **FAST)


@pytest.mark.parametrize("prefix", ["", "vision_model."])
def test_image_encoders_are_read_with_the_names_of_published_files(published, tmp_path, prefix):
    folder = published("wan-image")[0]
    copy = Path(shutil.copytree(folder, tmp_path / "wan"))
    file = copy / "image_encoder" / "model.safetensors"
    tensors = {name.removeprefix("vision_model."): value for name, value in load_file(file).items()}
    tensors["embeddings.position_ids"] = torch.arange(5)[None]
    save_file({prefix + name: value for name, value in tensors.items()}, file)
    image = [torch.rand(3, 32, 32) * 2 - 1]
    file = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    save_file({**load_file(file), "blocks.0.attn2.norm_added_q.weight": torch.ones(24)}, file)  # which diffusers leaves
    found, wanted = (vidgen.load_pipeline(str(place)).image_encoder(image) for place in (copy, folder))
    assert torch.equal(found, wanted) and wanted.shape == (1, 5, 16)


def test_each_of_two_transformers_has_its_levels(published):
    pipe = vidgen.load_pipeline(str(published("wan-two")[0]))
    two, text = pipe.transformer, pipe.text_encoder(["a", "b"])
    assert isinstance(two, TwoWanDenoisers)
    x = torch.randn(2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for level, part in ((0.9, two.high), (0.875, two.high), (0.874, two.low)):
        t = torch.full((2,), level)
        assert torch.equal(two(x, t, text), part(x, t, text))
        assert torch.equal(
            dict(two.iter_features(x, t, text))["blocks.1"], dict(part.iter_features(x, t, text))["blocks.1"]
        )
    assert not torch.equal(two.high(x, t, text), two.low(x, t, text))
    with pytest.raises(ValueError, match="lie on both sides of 0.875"):
        two(x, torch.tensor([0.5, 0.9]), text)
    assert [info.name for info in two.feature_info] == ["blocks.0", "blocks.1"]
    assert two.fresh().config == two.config
